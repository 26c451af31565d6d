import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.data.writers import FORMATS
from visionyard.errors import ConfigError, DataError


def test_there_and_back_nothing_differs(dataset_command: Any, tiny_dataset: Any, tmp_path: Path):
    version = tiny_dataset("detection")
    done = dataset_command("convert", version, "--to", "coco", "--out", tmp_path / "coco")
    assert "15 images, 30 boxes as coco" in done.stdout
    dataset_command("convert", tmp_path / "coco", "--to", "voc", "--out", tmp_path / "voc")
    told = dataset_command("diff", version, tmp_path / "voc", "--exit-code")
    assert told.exit_code == 0
    assert "no difference: 15 images" in told.stdout
    assert (tmp_path / "voc/Annotations/test000.xml").exists()


def test_what_was_wrong_and_what_is_lost_is_told(dataset_command: Any, voc_folder: Path, tmp_path: Path):
    done = dataset_command("convert", voc_folder, "--to", "yolo", "--out", tmp_path / "yolo", "--json")
    values = json.loads(done.stdout)
    assert (values["image_count"], values["box_count"]) == (2, 3)
    assert values["problem_counts"] == {"image_without_labels": 1}
    assert [problem["code"] for problem in values["source_problems"]] == ["box_without_area"]
    told = dataset_command("convert", voc_folder, "--to", "csv", "--out", tmp_path / "csv").stdout
    assert "Found in the source" in told and "Not held by the format" in told


def test_the_help_names_every_format(dataset_command: Any):
    told = dataset_command("convert", "--help").stdout
    assert all(name in told for name in FORMATS)


def test_wrong_use_is_refused_before_anything_is_read(
    dataset_command: Any, voc_folder: Path, tiny_dataset: Any, tmp_path: Path
):
    with pytest.raises(ConfigError, match=r"'cocoo' is no format to write: expected .*coco, .*tfrecord"):
        dataset_command("convert", "nowhere", "--to", "cocoo", "--out", tmp_path / "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="full: is there and not empty"):
        dataset_command("convert", "nowhere", "--to", "coco", "--out", tmp_path / "full")
    assert (tmp_path / "full/mine.txt").exists()
    with pytest.raises(DataError, match="labels are for detection, folders holds those of classification"):
        dataset_command("convert", voc_folder, "--to", "folders", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
