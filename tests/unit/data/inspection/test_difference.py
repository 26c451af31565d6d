"""What differs between two sets, case by case."""

from typing import Any

import numpy as np
import pytest

from tests.fixtures.labelled_sets import make_set
from visionyard.data.inspection.difference import Change, Difference, compare
from visionyard.data.items import Box
from visionyard.errors import DataError
from visionyard.geometry import Mask

CAT, DOG = (0.0, 0.0, 10.0, 10.0), (12.0, 0.0, 20.0, 8.0)


def _boxes(*named: tuple[str, tuple[float, float, float, float]]) -> dict[str, Any]:
    return {"split": "train", "boxes": tuple(Box(name, xyxy) for name, xyxy in named)}


def _compare(before: list[dict[str, Any]], after: list[dict[str, Any]], classes: str = "cat dog") -> Difference:
    return compare(make_set("detection", classes.split(), before), make_set("detection", classes.split(), after))


def test_equal_sets_do_not_differ_whatever_the_order_of_boxes_and_the_names_of_files():
    before = [{**_boxes(("cat", CAT), ("dog", DOG)), "key": "one"}]
    after = [{**_boxes(("dog", DOG), ("cat", CAT)), "key": "two"}]
    difference = _compare(before, after)
    assert difference.is_empty
    assert difference.same_count == 1


def test_images_added_and_removed_are_counted_by_split_and_named():
    row = _boxes(("cat", CAT))
    difference = _compare([row, row, {**row, "split": "val"}], [row])
    assert difference.removed == {"train": 1, "val": 1}
    assert difference.removed_sources == ("item-1.png", "item-2.png")
    back = _compare([row], [row, row, {**row, "split": "val"}])
    assert (back.added, back.removed) == (difference.removed, {})
    assert back.added_sources == difference.removed_sources


def test_an_image_in_another_split_is_not_relabelled():
    row = _boxes(("cat", CAT))
    difference = _compare([row], [{**row, "split": "test"}])
    assert difference.split_changes == (Change("train", "test", 1),)
    assert (difference.relabelled_count, difference.same_count) == (0, 0)


MASK = Mask.from_array(np.ones((24, 32), bool))
LABELS = {
    "class changed": ([("cat", CAT)], [("dog", CAT)], [Change("cat", "dog", 1)], {}),
    "box moved": ([("cat", CAT)], [("cat", (1.0, 0.0, 10.0, 10.0))], [], {"cat": 1}),
    "box elsewhere": ([("cat", CAT)], [("cat", DOG)], [Change("", "cat", 1), Change("cat", "", 1)], {}),
    "box added": ([("cat", CAT)], [("cat", CAT), ("dog", DOG)], [Change("", "dog", 1)], {}),
    "all boxes removed": ([("cat", CAT), ("dog", DOG)], [], [Change("cat", "", 1), Change("dog", "", 1)], {}),
    "the better overlap wins": (
        [("cat", CAT)],
        [("dog", (0.0, 0.0, 9.0, 10.0)), ("cat", (0.0, 0.0, 9.9, 10.0))],
        [Change("", "dog", 1)],
        {"cat": 1},
    ),
    "one of two equal boxes removed": ([("cat", CAT), ("cat", CAT)], [("cat", CAT)], [Change("cat", "", 1)], {}),
}


@pytest.mark.parametrize(("before", "after", "changes", "moved"), LABELS.values(), ids=LABELS)
def test_boxes_are_compared_by_class(before: Any, after: Any, changes: Any, moved: Any):
    difference = _compare([_boxes(*before)], [_boxes(*after)])
    assert difference.relabelled_count == 1
    assert difference.relabelled_sources == ("item-0.png",)
    assert list(difference.class_changes) == changes
    assert difference.moved == moved


def test_another_mask_of_the_same_box_counts_as_moved():
    row = {"boxes": (Box("cat", CAT),)}
    assert _compare([row], [{"boxes": (Box("cat", CAT, MASK),)}]).moved == {"cat": 1}


def test_classes_of_images_and_their_lists_are_compared():
    first = make_set("classification", ["cat", "cow"], [{"class_name": "cat"}, {"class_name": "cat"}])
    second = make_set("classification", ["cat", "dog"], [{"class_name": "dog"}, {}])
    difference = compare(first, second)
    assert difference.class_changes == (Change("cat", "", 1), Change("cat", "dog", 1))
    assert (difference.classes_added, difference.classes_removed) == (("dog",), ("cow",))


def test_pixels_are_compared_by_the_names_of_their_classes():
    ids = np.array([[0, 0, 1, 255]], np.uint8)
    first = make_set("semantic_segmentation", ["sky", "sea"], [{"size_hw": (1, 4), "mask": ids}])
    turned = np.array([[1, 1, 0, 255]], np.uint8)
    assert (
        compare(
            first, make_set("semantic_segmentation", ["sea", "sky"], [{"size_hw": (1, 4), "mask": turned}])
        ).same_count
        == 1
    )
    other = np.array([[0, 1, 1, 1]], np.uint8)
    second = make_set("semantic_segmentation", ["sky", "sea"], [{"size_hw": (1, 4), "mask": other}])
    assert compare(first, second).class_changes == (Change("", "sea", 1), Change("sky", "sea", 1))


def test_labels_of_two_tasks_are_refused():
    first = make_set("detection", ["cat"], [_boxes(("cat", CAT))])
    second = make_set("classification", ["cat"], [{"class_name": "cat"}])
    with pytest.raises(DataError, match=r"detection.*classification.*two tasks"):
        compare(first, second)
