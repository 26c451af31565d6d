import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_dataset
from visionyard.data.dataset import Dataset
from visionyard.errors import ArtifactError, ConfigError
from visionyard.evaluation import evaluate
from visionyard.transforms import Classification


class _Knower:
    """A model that knows the true colours: black images are 0, white ones 1."""

    classes = ("black", "white")

    def predict(self, images: list[np.ndarray], **_: Any) -> list[Classification]:
        white = [float(image.mean() > 128) * 0.9 + 0.05 for image in images]
        return [Classification(np.array([1 - one, one], np.float32)) for one in white]


def _version(folder: Path, *, swapped: int) -> Path:
    """Write black and white noise of which one test image is labelled wrong."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(24):
        label = number % 2
        image = (random.integers(0, 90, (64, 64, 3)) + 150 * label).astype(np.uint8)
        split = "train" if number < 12 else "test"
        rows.append({"split": split, "image": image, "class_ids": [1 - label if number == swapped else label]})
    return write_dataset(
        folder, task="classification", classes=["black", "white"], rows=[{**row, "xyxy": []} for row in rows]
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/tones-1"
    dataset = Dataset(_version(folder / "dataset", swapped=15))
    evaluate(
        _Knower(),
        dataset,
        folder / "evaluation",
        confidence_threshold=0.25,
        iou_threshold=0.5,
        lineage={},
        curves=[],
    )
    (folder / "run.json").write_text('{"schema_version": 1}')
    return folder


def test_a_run_names_the_swapped_label(dataset_command: Any, run_folder: Path, tmp_path: Path):
    page = tmp_path / "suspects.html"
    result = dataset_command("suspects", "--run", "tones-1", "--runs", run_folder.parent, "--html", page)
    assert result.exit_code == 0
    assert "1 suspect" in result.stdout and "label_disagrees" in result.stdout
    assert "labelled black (0.05), the model says white (0.95)" in result.stdout
    assert "labels judged by the model: 12 images of test; not judged: 12 of train" in result.stdout
    text = page.read_text()
    assert text.startswith("<!doctype html>") and "data:image/jpeg" in text
    values = json.loads(dataset_command("suspects", "--run", run_folder, "--json").stdout)
    assert values["suspect_counts"] == {"label_disagrees": 1}
    assert values["suspects"][0]["key"] == "test-0003"


def test_a_version_and_its_run_are_told_together(dataset_command: Any, run_folder: Path, tmp_path: Path):
    version = run_folder / "dataset"
    values = json.loads(dataset_command("suspects", version, "--run", run_folder, "--json").stdout)
    assert "label_disagrees" in values["suspect_counts"] and values["shifts"]
    other = _version(tmp_path / "other", swapped=16)
    with pytest.raises(ConfigError, match=r"other: it is the version .*, the run learnt from "):
        dataset_command("suspects", other, "--run", run_folder)


def test_strict_ends_with_1_on_any_suspect(dataset_command: Any, run_folder: Path, tmp_path: Path):
    assert dataset_command("suspects", "--run", run_folder, "--strict").exit_code == 1
    clean = _version(tmp_path / "clean", swapped=-1)
    told = dataset_command("suspects", clean, "--strict")
    assert (told.exit_code, "0 suspects" in told.stdout) == (0, True), told.stdout


def test_what_is_missing_is_named(dataset_command: Any, run_folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="name a dataset version's folder, a run by --run, or both"):
        dataset_command("suspects")
    with pytest.raises(ConfigError, match="no such run"):
        dataset_command("suspects", "--run", "nothing", "--runs", tmp_path / "none")
    for name in (tmp_path / "nowhere", run_folder / "run.json", "s3://bucket/version"):
        with pytest.raises(ConfigError, match=f"{name}: expected the folder of a dataset version"):
            dataset_command("suspects", name)
    (run_folder / "evaluation/per_image.parquet").unlink()
    with pytest.raises(
        ArtifactError, match=r"per_image\.parquet: the per-image results are missing; run validate again"
    ):
        dataset_command("suspects", "--run", run_folder)
