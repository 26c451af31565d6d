import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import ConfigError, DataError


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_version_is_told_in_tables_and_json(task: str, dataset_command: Any, tiny_dataset: Any, tmp_path: Path):
    folder = tiny_dataset(task)
    told = dataset_command("inspect", folder, "--html", tmp_path / "page.html").stdout
    assert "15 images" in told and "blue" in told and "train" in told
    assert ("Where boxes lie" in told) == (task == "detection")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    values = json.loads(dataset_command("inspect", folder, "--json").stdout)
    assert values["task"] == task
    assert values["items"] == {"train": 6, "val": 3, "test": 6}
    assert values["looks"]["measured_count"] == 15


def test_raw_input_is_told_with_its_problems(dataset_command: Any, voc_folder: Path):
    told = dataset_command("inspect", voc_folder).stdout
    assert "detection, 3 images, 3 boxes, 2 classes" in told
    assert "1 images have no label" in told
    assert "box_without_area" in told and "c.xml, object 1: (5, 5, 5, 9) has no area" in told


def test_a_named_format_is_taken(dataset_command: Any, voc_folder: Path):
    assert dataset_command("inspect", voc_folder, "--format", "images_voc", "--json").exit_code == 0
    with pytest.raises(DataError, match=r"data\.yaml"):
        dataset_command("inspect", voc_folder, "--format", "images_yolo")


def test_what_is_no_data_is_refused_by_name(dataset_command: Any, tiny_dataset: Any, tmp_path: Path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        dataset_command("inspect", tmp_path / "nowhere")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("a")
    with pytest.raises(DataError, match="notes: the layout is not recognised"):
        dataset_command("inspect", tmp_path / "notes")
    with pytest.raises(ConfigError, match=r"--format 'voc': expected auto, .*images_voc"):
        dataset_command("inspect", tmp_path / "notes", "--format", "voc")
    version = tiny_dataset("detection")
    with pytest.raises(ConfigError, match=r"--format images_voc: .* is a dataset version"):
        dataset_command("inspect", version, "--format", "images_voc")
