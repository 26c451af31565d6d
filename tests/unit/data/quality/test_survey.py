"""Suspects planted in made dataset versions are found, and clean ones have none."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import write_dataset
from visionyard.data.dataset import Dataset
from visionyard.data.items import Problem, write_json_lines
from visionyard.data.quality.survey import find_suspects
from visionyard.data.quality.suspects import SuspectReport

SIDE_PX = 96
Rows = list[dict[str, Any]]


def _picture(seed: int) -> np.ndarray:
    """Return 12x12 blocks of random colours: sharp, and like no other."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


def _rows(task: str, *, train: int = 30, test: int = 12) -> Rows:
    random = np.random.default_rng(0)
    rows = []
    for number in range(train + test):
        side = 30 + float(random.integers(-4, 5))
        xyxy = [[20.0, 20.0, 20 + side, 20 + side + float(random.integers(-3, 4))]]
        row = {"split": "train" if number < train else "test", "key": f"image-{number:03d}", "image": _picture(number)}
        rows.append({**row, "class_ids": [number % 2 if task == "classification" else 0], "xyxy": xyxy})
    return rows


def _found(folder: Path, task: str, rows: Rows, *, image_size_px: int = SIDE_PX) -> SuspectReport:
    write_dataset(folder, task=task, classes=["cat", "dog"], rows=rows)
    return find_suspects(Dataset(folder), image_size_px=image_size_px)


def _keys(report: SuspectReport) -> dict[str, list[str]]:
    return {kind: [one.key for one in found] for kind, found in report.by_kind().items()}


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_clean_version_has_no_suspect(task: str, tmp_path: Path) -> None:
    report = _found(tmp_path / "dataset", task, _rows(task))
    assert report.is_clean and not report.suspects
    assert report.item_count == 42
    assert report.notes == ("val is empty: nothing to compare",)


def _same_image(rows: Rows) -> None:
    rows[5] = {**rows[5], "image": rows[2]["image"]}


def _darker_copy(rows: Rows) -> None:
    rows[5] = {**rows[5], "image": (rows[2]["image"] * 0.8).astype(np.uint8)}


def _black(rows: Rows) -> None:
    rows[7] = {**rows[7], "image": np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)}


def _grey(rows: Rows) -> None:
    rows[7] = {**rows[7], "image": np.full((SIDE_PX, SIDE_PX, 3), 120, np.uint8)}


def _blurred(rows: Rows) -> None:
    rows[7] = {**rows[7], "image": cv2.GaussianBlur(rows[7]["image"], (0, 0), 4)}


@pytest.mark.parametrize(
    ("plant", "kind", "key", "told"),
    [
        (_same_image, "same_image_other_label", "image-002", r"cat here, dog in image-005.png \(train\)"),
        (_darker_copy, "look_alike_other_label", "image-002", r"cat here, dog in image-005.png .* agrees"),
        (_black, "black_image", "image-007", r"mean grey level 0\.0"),
        (_grey, "flat_image", "image-007", r"vary by 0\.0"),
        (_blurred, "blurred_image", "image-007", r"sharpness \d\.\d\d \(log10\), usual is \d\.\d\d"),
    ],
)
def test_a_planted_image_is_found_alone(
    plant: Callable[[Rows], None], kind: str, key: str, told: str, tmp_path: Path
) -> None:
    rows = _rows("classification")
    plant(rows)
    report = _found(tmp_path / "dataset", "classification", rows)
    assert _keys(report) == {kind: [key]}
    assert re.search(told, report.suspects[0].message), report.suspects[0].message


@pytest.mark.parametrize(
    ("xyxy", "kinds", "told"),
    [
        ([2.0, 2.0, 94.0, 94.0], ["unusual_box_size"], "larger in area"),
        ([40.0, 40.0, 48.0, 48.0], ["unusual_box_size"], "smaller in area"),
        ([2.0, 40.0, 94.0, 50.0], ["unusual_box_shape"], "times wider"),
        ([0.0, 40.0, 8.0, 72.0], [], ""),  # cut by the border
        ([0.0, 0.0, 96.0, 96.0], ["unusual_box_size"], "larger in area"),  # the border is no excuse
    ],
)
def test_a_box_far_from_its_class_is_found(xyxy: list[float], kinds: list[str], told: str, tmp_path: Path) -> None:
    rows = _rows("detection")
    rows[9]["xyxy"] = [xyxy]
    report = _found(tmp_path / "dataset", "detection", rows)
    assert _keys(report) == {kind: ["image-009"] for kind in kinds}
    for suspect in report.suspects:
        assert told in suspect.message and suspect.message.startswith("cat: ")
        assert suspect.marks[0].xyxy == tuple(xyxy)


def test_few_boxes_do_not_tell_what_is_usual(tmp_path: Path) -> None:
    rows = _rows("detection", train=10, test=2)
    rows[3]["xyxy"] = [[2.0, 2.0, 94.0, 94.0]]
    assert not _found(tmp_path / "dataset", "detection", rows).suspects


def test_crowds_are_no_boxes_of_a_usual_size(tmp_path: Path) -> None:
    rows = [{**row, "is_crowd": [False]} for row in _rows("detection")]
    rows[9] = {**rows[9], "xyxy": [[2.0, 2.0, 94.0, 94.0]], "is_crowd": [True]}
    assert not _found(tmp_path / "dataset", "detection", rows).suspects


def test_objects_are_tiny_at_the_size_of_the_input(tmp_path: Path) -> None:
    rows = _rows("detection")
    assert not _found(tmp_path / "large", "detection", rows, image_size_px=96).suspects
    report = _found(tmp_path / "small", "detection", rows, image_size_px=24)
    # Sides of 26 to 34 px are 6.5 to 8.5 px at a quarter of the size.
    tiny = [one for one in report.suspects if one.kind == "tiny_object"]
    expected = [row["key"] for row in rows if min(row["xyxy"][0][2] - 20, row["xyxy"][0][3] - 20) * 24 / SIDE_PX < 8]
    assert sorted(one.key for one in tiny) == expected and 0 < len(tiny) < len(rows)
    assert "1 of 1 objects have a side below 8 px at 24 px" in tiny[0].message


def test_a_darker_test_split_is_told(tmp_path: Path) -> None:
    rows = _rows("classification", train=40, test=20)
    for row in rows[40:]:
        row["image"] = (row["image"] * 0.6).astype(np.uint8)
    report = _found(tmp_path / "dataset", "classification", rows)
    told = {shift.name for shift in report.shifts if shift.is_told}
    assert "brightness" in told and "class mix" not in told and "longer side" not in told
    assert not report.is_clean
    first = report.shifts[0]
    assert first.split == "test" and first.distance > 0.9 and first.p_value < 0.05


def test_frames_of_few_clips_prove_no_shift(tmp_path: Path) -> None:
    rows = _rows("classification", train=40, test=20)
    for number, row in enumerate(rows):
        row["group"] = f"clip-{number // 20}"
        if number >= 40:
            row["image"] = (row["image"] * 0.6).astype(np.uint8)
    report = _found(tmp_path / "dataset", "classification", rows)
    assert report.shifts[0].distance > 0.9  # of three clips one is always the darkest
    assert not any(shift.is_told for shift in report.shifts)


def test_another_class_mix_is_told(tmp_path: Path) -> None:
    rows = _rows("classification", train=40, test=20)
    for row in rows[40:]:
        row["class_ids"] = [1]
    report = _found(tmp_path / "dataset", "classification", rows)
    (mix,) = [shift for shift in report.shifts if shift.is_told]
    assert (mix.name, mix.split, mix.distance) == ("class mix", "test", pytest.approx(0.5))


def test_what_the_health_check_said_of_the_balance_is_told(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dataset", task="classification", classes=["cat", "dog"], rows=_rows("c"))
    problems = [Problem("class_imbalance", "", "class 'dog' has 2 items"), Problem("tiny_image", "a.png", "8x8 px")]
    write_json_lines(folder / "problems.jsonl", (one.to_json() for one in problems))
    report = find_suspects(Dataset(folder), image_size_px=64)
    assert [one.code for one in report.balance] == ["class_imbalance"] and not report.is_clean


def test_masks_of_the_same_image_are_compared(tmp_path: Path) -> None:
    rows: Rows = []
    for number, filled in enumerate([0, 0, 1]):
        mask = np.full((SIDE_PX, SIDE_PX), filled, np.uint8)
        image = _picture(0 if number else 1)
        rows.append({"split": "train", "image": image, "class_ids": [filled], "xyxy": [], "semantic_mask": mask})
    report = _found(tmp_path / "dataset", "semantic_segmentation", rows)
    assert _keys(report) == {"same_image_other_label": ["train-0001"]}
    assert "images that look alike were not compared" in report.notes[0]
