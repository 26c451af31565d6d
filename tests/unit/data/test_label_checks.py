"""Masks of objects and of whole images against their image and the dataset's classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.data.artifacts import IMAGES
from visionyard.data.class_masks import encode_class_mask
from visionyard.data.health import Intake, check_health
from visionyard.data.items import Problems
from visionyard.errors import ArtifactError, DataError
from visionyard.geometry import Mask

WHOLE = (1.0, 2.0, 30.0, 40.0)
CLASSES = ("sky", "road", "car")


def mask_of(size_hw: tuple[int, int] = (48, 64), *, is_empty: bool = False) -> Mask:
    pixels = np.zeros(size_hw, np.bool_)
    if not is_empty:
        pixels[2:20, 1:30] = True
    return Mask.from_array(pixels)


def semantic(*ids: int, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return a mask of stripes."""
    return np.resize(np.repeat(np.array(ids, np.uint8), 3), size_hw)


def check(artifacts: Any, *, listed: tuple[str, ...] = (), wanted: tuple[str, ...] = ()) -> tuple[Intake, Problems]:
    problems = Problems()
    folders = (artifacts.sources, artifacts.frames)
    return check_health(folders, listed=listed, wanted=wanted, problems=problems), problems


@pytest.mark.parametrize(
    ("mask", "code", "message"),
    [
        pytest.param(mask_of(), None, "", id="good"),
        pytest.param(mask_of((64, 48)), "mask_size_differs", "is of 48x64 px, the image of 64x48", id="turned"),
        pytest.param(mask_of(is_empty=True), "mask_without_pixels", "the mask of car holds no pixel", id="empty"),
    ],
)
def test_the_mask_of_a_box(
    mask: Mask, code: str | None, message: str, build_artifacts: Callable[..., Any], image_spec: Any
) -> None:
    boxes = (("car", WHOLE), ("car", (0, 0, 9, 9)))
    intake, problems = check(build_artifacts([image_spec("a", boxes=boxes, masks=(None, mask), crowds=(1,))]))
    (record,) = intake.records
    assert record.class_ids == (0, 0)
    assert record.masks == (None if code else (None, mask.counts))
    assert record.is_crowd == (False, True)
    assert [(found.code, found.item) for found in problems.found if "mask" in found.code] == (
        [(code, "box 2")] if code else []
    )
    assert all(message in found.message for found in problems.found if "mask" in found.code)


def test_masks_go_with_the_boxes_that_are_left_out(build_artifacts: Callable[..., Any], image_spec: Any) -> None:
    boxes = (("car", (70, 0, 80, 9)), ("bus", WHOLE), ("car", WHOLE))
    masks = (mask_of(), None, mask_of())
    spec = image_spec("a", boxes=boxes, masks=masks, crowds=(0,))
    intake, _ = check(build_artifacts([spec]), wanted=("car",))
    (record,) = intake.records
    assert (record.class_ids, record.masks, record.is_crowd) == ((0,), (masks[2].counts,), None)


@pytest.mark.parametrize(
    ("mask", "wanted", "class_ids", "code", "message"),
    [
        pytest.param(semantic(0, 2, 255), (), (0, 2), None, "", id="two classes"),
        pytest.param(semantic(0, 2), ("car", "sky"), (0, 1), None, "", id="renumbered"),
        pytest.param(semantic(0, 2), ("road", "sky"), (1,), None, "", id="one left out"),
        pytest.param(semantic(2), ("road", "sky"), None, None, "", id="all left out on purpose"),
        pytest.param(semantic(0, 7), (), (0,), "unknown_class", "holds the ids [7], there are 3 classes", id="unknown"),
        pytest.param(semantic(7), (), None, "mask_without_classes", "says of no pixel", id="only unknown"),
        pytest.param(semantic(255), (), None, "mask_without_classes", "the item is left out", id="nobody said"),
        pytest.param(
            semantic(0, size_hw=(64, 48)), (), None, "mask_size_differs", "of 48x64 px, the image of 64x48", id="turned"
        ),
        pytest.param(
            encode_class_mask(semantic(0))[:-30], (), None, "unreadable_mask", "truncated; the item", id="cut short"
        ),
    ],
)
def test_the_mask_of_an_image(
    mask: Any,
    wanted: tuple[str, ...],
    class_ids: tuple[int, ...] | None,
    code: str | None,
    message: str,
    build_artifacts: Callable[..., Any],
    image_spec: Any,
) -> None:
    good = image_spec("b", semantic_mask=semantic(0, 1, 2))
    artifacts = build_artifacts([image_spec("a", semantic_mask=mask), good], classes=CLASSES)
    intake, problems = check(artifacts, listed=CLASSES, wanted=wanted)
    assert intake.task == "semantic_segmentation"
    assert {record.key: record.class_ids for record in intake.records}.get("a") == class_ids
    assert [record.xyxy for record in intake.records] == [None] * len(intake.records)
    found = {problem.code: problem for problem in problems.found if problem.file == "a.jpg"}
    assert (code in found) if code else not found
    assert code is None or message in found[code].message
    assert intake.other_class_items == (1 if class_ids is None and code is None else 0)


def test_a_class_that_no_mask_shows_is_left_out(build_artifacts: Callable[..., Any], image_spec: Any) -> None:
    specs = [image_spec("a", semantic_mask=semantic(0, 2)), image_spec("b", semantic_mask=semantic(2))]
    intake, problems = check(build_artifacts(specs, classes=CLASSES), listed=CLASSES)
    assert intake.classes == ["sky", "car"]
    assert [record.class_ids for record in intake.records] == [(0, 1), (1,)]
    assert [(found.code, found.message) for found in problems.found if found.item == "road"] == [
        ("class_without_items", "no mask shows class 'road'; the class is left out")
    ]


def test_an_altered_mask_is_refused(build_artifacts: Callable[..., Any], image_spec: Any) -> None:
    artifacts = build_artifacts([image_spec("a", semantic_mask=semantic(0))], classes=CLASSES)
    path: Path = artifacts.sources / IMAGES
    path.write_text(path.read_text().replace('"mask_sha256": "', '"mask_sha256": "0'))
    with pytest.raises(ArtifactError, match="the mask of a is not the one that was written"):
        check(artifacts, listed=CLASSES)


def test_boxes_may_have_more_classes_than_a_mask_has_numbers(
    build_artifacts: Callable[..., Any], image_spec: Any
) -> None:
    names = tuple(f"class {number:03d}" for number in range(300))
    specs = [image_spec(f"k{n}", boxes=((name, WHOLE),)) for n, name in enumerate(names[::-1])]
    intake, _ = check(build_artifacts(specs, classes=names), listed=names)
    assert [record.class_ids for record in intake.records] == [(299 - n,) for n in range(300)]


def test_boxes_and_masks_of_images_do_not_mix(build_artifacts: Callable[..., Any], image_spec: Any) -> None:
    specs = [image_spec("a", semantic_mask=semantic(0)), image_spec("b", boxes=(("car", WHOLE),))]
    message = (
        r"a\.jpg has a class for each pixel and b\.jpg has boxes: a dataset is for semantic segmentation or for detec"
    )
    with pytest.raises(DataError, match=message):
        check(build_artifacts(specs, classes=CLASSES), listed=CLASSES)
