import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import ArtifactError, ConfigError


def test_a_bundle_begins_a_task(dataset_command: Any, tiny_bundle: Any, tiny_dataset: Any, tmp_path: Path):
    bundle, _ = tiny_bundle("detection")
    dataset_command("convert", tiny_dataset("detection"), "--to", "coco", "--out", tmp_path / "coco")
    images = tmp_path / "coco/test"
    options = ("--out", tmp_path / "task", "--confidence", 0.5)
    done = dataset_command("prelabel", bundle, images, "--to", "cvat", *options)
    box_count = (tmp_path / "task/annotations.xml").read_text().count("<box ")
    assert box_count >= 12
    assert f"6 images, {box_count} boxes; 0 without a suggestion" in done.stdout
    options = ("--out", tmp_path / "ls", "--confidence", 0.5, "--json")
    values = json.loads(dataset_command("prelabel", bundle, images, "--to", "label_studio", *options).stdout)
    assert (values["image_count"], values["box_count"], values["skipped_count"]) == (6, box_count, 0)
    (task, *_) = json.loads((tmp_path / "ls/tasks.json").read_text())
    assert task["predictions"][0]["model_version"].startswith("tiny ")


def test_wrong_use_is_refused(dataset_command: Any, tiny_bundle: Any, tmp_path: Path):
    bundle, _ = tiny_bundle("detection")
    with pytest.raises(ConfigError, match="'voc': expected cvat or label_studio"):
        dataset_command("prelabel", bundle, tmp_path, "--to", "voc", "--out", tmp_path / "x")
    with pytest.raises(ConfigError, match="--confidence 2"):
        dataset_command("prelabel", bundle, tmp_path, "--to", "cvat", "--out", tmp_path / "x", "--confidence", "2")
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        dataset_command("prelabel", bundle, tmp_path / "nowhere", "--to", "cvat", "--out", tmp_path / "x")
    with pytest.raises(ArtifactError):
        dataset_command("prelabel", tmp_path, tmp_path, "--to", "cvat", "--out", tmp_path / "x")
