"""Boxes against their image, and folder names that stand for a split."""

import math
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from visionyard.data.formats.reading import ImageLabels, RawBox, checked_boxes, split_of_path
from visionyard.data.items import Box, Problems
from visionyard.geometry import Mask

NAN = math.nan


@pytest.mark.parametrize(
    ("xyxy", "expected", "code"),
    [
        pytest.param((10, 10, 20, 30), (10, 10, 20, 30), None, id="good"),
        pytest.param((0, 0, 100, 50), (0, 0, 100, 50), None, id="the whole image"),
        pytest.param((-0.05, 0, 100.09, 50), (0, 0, 100, 50), None, id="rounding"),
        pytest.param((-5, 10, 20, 30), (0, 10, 20, 30), "box_outside_image", id="partly outside"),
        pytest.param((90, 40, 190, 140), (90, 40, 100, 50), "box_outside_image", id="over a corner"),
        pytest.param((100, 10, 120, 30), None, "box_outside_image", id="beside the image"),
        pytest.param((-30, -30, -10, -10), None, "box_outside_image", id="before the image"),
        pytest.param((10, 10, 10, 30), None, "box_without_area", id="no width"),
        pytest.param((10, 30, 20, 10), None, "box_without_area", id="upside down"),
        pytest.param((NAN, 10, 20, 30), None, "box_not_a_number", id="NaN"),
        pytest.param((10, 10, math.inf, 30), None, "box_not_a_number", id="infinite"),
    ],
)
def test_boxes_against_an_image_of_100x50(
    xyxy: tuple[float, float, float, float], expected: tuple[float, ...] | None, code: str | None
) -> None:
    problems = Problems()
    # A second, good box shows that one bad box does not take the others along.
    labels = ImageLabels("l.xml", (RawBox("a", xyxy, "object 1"), RawBox("b", (1, 1, 2, 2), "object 2")))
    boxes = checked_boxes(labels, (100, 50), problems)
    assert boxes is not None
    assert [box.xyxy for box in boxes if box.class_name == "a"] == ([expected] if expected else [])
    assert boxes[-1].class_name == "b"
    assert [(p.code, p.file, p.item) for p in problems.found] == ([(code, "l.xml", "object 1")] if code else [])


@pytest.mark.parametrize(
    ("boxes", "has_faults", "is_labelled"),
    [
        pytest.param((), False, True, id="an empty file says that nothing is there"),
        pytest.param((), True, False, id="only faulty lines say nothing"),
        pytest.param((RawBox("a", (5, 5, 5, 5), "line 1"),), False, False, id="only bad boxes say nothing"),
    ],
)
def test_no_usable_box(boxes: tuple[RawBox, ...], has_faults: bool, is_labelled: bool) -> None:
    labels = ImageLabels("l.txt", boxes, has_faults=has_faults)
    assert checked_boxes(labels, (100, 50), Problems()) == (() if is_labelled else None)


def test_shares_become_pixels() -> None:
    labels = ImageLabels("l.txt", (RawBox("a", (0.1, 0.2, 0.5, 0.6), "line 1"),), is_normalized=True)
    boxes = checked_boxes(labels, (100, 50), Problems())
    assert boxes is not None
    assert boxes[0].xyxy == pytest.approx((10, 10, 50, 30))


def mask_of(size_hw: tuple[int, int], *, is_empty: bool = False) -> Mask:
    pixels = np.zeros(size_hw, np.bool_)
    pixels[10:20, 10:20] = not is_empty
    return Mask.from_array(pixels)


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        pytest.param({"mask": mask_of((50, 100))}, None, "", id="pixels"),
        pytest.param({"polygons": ((10, 10, 20, 10, 20, 20, 10, 20),)}, None, "", id="polygon"),
        pytest.param(
            {"polygons": ((10, 10, 15, 10, 15, 20, 10, 20), (15, 10, 20, 10, 20, 20, 15, 20))}, None, "", id="two parts"
        ),
        pytest.param(
            {"mask": mask_of((100, 50))}, "mask_size_differs", "of 50x100 px, the image has 100x50", id="turn"
        ),
        pytest.param({"mask": mask_of((50, 100), is_empty=True)}, "mask_without_pixels", "no pixel", id="empty"),
        pytest.param({"polygons": ((200, 10, 220, 10, 220, 20),)}, "mask_without_pixels", "kept without", id="outside"),
        pytest.param({"polygons": ((10, 10, 20, 20),)}, "unusable_polygon", "got 4 numbers", id="a line"),
        pytest.param({"polygons": ((10, 10, NAN, 20, 3, 3),)}, "unusable_polygon", "got nan", id="NaN"),
    ],
)
def test_masks_of_an_image_of_100x50(raw: dict[str, Any], code: str | None, message: str) -> None:
    problems = Problems()
    labels = ImageLabels("l.json", (RawBox("a", (10, 10, 20, 20), "annotation 1", is_crowd=True, **raw),))
    boxes = checked_boxes(labels, (100, 50), problems)
    expected = None if code else mask_of((50, 100))
    assert boxes == (Box("a", (10, 10, 20, 20), expected, is_crowd=True),)
    assert [(found.code, found.item) for found in problems.found] == ([(code, "annotation 1")] if code else [])
    assert all(message in found.message for found in problems.found)


def test_a_polygon_leaves_the_image_with_its_box() -> None:
    raw = RawBox("a", (90, 40, 110, 60), "annotation 1", ((90, 40, 110, 40, 110, 60, 90, 60),))
    boxes = checked_boxes(ImageLabels("l.json", (raw,)), (100, 50), Problems())
    assert boxes is not None
    assert boxes[0].xyxy == (90, 40, 100, 50)
    assert boxes[0].mask is not None
    assert boxes[0].mask.area == 100


def test_shares_of_a_polygon_become_pixels() -> None:
    raw = RawBox("a", (0.1, 0.2, 0.2, 0.4), "line 1", ((0.1, 0.2, 0.2, 0.2, 0.2, 0.4, 0.1, 0.4),))
    boxes = checked_boxes(ImageLabels("l.txt", (raw,), is_normalized=True), (100, 50), Problems())
    assert boxes is not None
    assert boxes[0].mask == mask_of((50, 100))


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/images/a.jpg", "train"),
        ("images/val2017/a.jpg", "val"),
        ("Valid/a.jpg", "val"),
        ("data/validation/cat/a.jpg", "val"),
        ("testing/a.jpg", "test"),
        ("test.jpg", None),
        ("trains/a.jpg", None),
        ("contest/a.jpg", None),
    ],
)
def test_folders_that_stand_for_a_split(path: str, split: str | None) -> None:
    assert split_of_path(PurePosixPath(path)) == split
