"""What the inspection counts, against numbers counted by hand."""

import numpy as np
import pytest

from tests.fixtures.labelled_sets import make_set
from visionyard.data.inspection import inspect_images
from visionyard.data.inspection.histogram import Bins, Histogram
from visionyard.data.items import Box
from visionyard.geometry import Mask


def _box(name: str, *xyxy: float, **extra: object) -> Box:
    return Box(name, xyxy, **extra)  # type: ignore[arg-type]


ROWS = [
    {"split": "train", "size_hw": (40, 80), "boxes": (_box("cat", 0, 0, 10, 10), _box("dog", 40, 0, 80, 40))},
    {"split": "train", "size_hw": (40, 80), "boxes": (_box("cat", 0, 0, 20, 20, is_crowd=True),)},
    {"split": "test", "size_hw": (40, 40), "boxes": ()},
    {"split": None, "size_hw": (40, 40)},
]


def test_boxes_are_counted_by_class_and_split():
    inspection = inspect_images(make_set("detection", ["cat", "dog", "cow"], ROWS))
    cat, dog, cow = inspection.classes
    assert inspection.items == {"train": 2, "test": 1, "none": 1}
    assert inspection.groups == {"train": 2, "test": 1, "none": 1}
    assert (inspection.unlabelled_count, inspection.background_count, inspection.crowd_count) == (1, 1, 1)
    assert (cat.boxes, cat.items) == ({"train": 2, "test": 0, "none": 0}, {"train": 2, "test": 0, "none": 0})
    assert (dog.boxes["train"], sum(cow.boxes.values())) == (1, 0)
    assert inspection.box_count == 3
    assert inspection.image_sizes == ((40, 40, 2), (80, 40, 2))
    assert inspection.image_side_quantiles_px == (40, 40, 80)
    assert [n for n, count in enumerate(inspection.boxes_per_image.counts) for _ in range(count)] == [0, 1, 2]


def test_the_map_tells_which_share_of_the_boxes_covers_a_place():
    inspection = inspect_images(make_set("detection", ["cat", "dog"], ROWS), looked_at=0)
    assert inspection.coverage[0][0] == pytest.approx(2 / 3, abs=1e-5)
    assert inspection.coverage[0][31] == pytest.approx(1 / 3, abs=1e-5)
    assert inspection.coverage[31][0] == 0
    assert sum(inspection.looks.brightness.counts) == inspection.looks.measured_count == 0


def test_a_box_between_the_cells_middles_still_counts():
    row = {"size_hw": (320, 320), "boxes": (_box("dot", 1, 1, 2, 2),)}
    assert inspect_images(make_set("detection", ["dot"], [row])).coverage[0][0] == 1


def test_masks_classes_and_pixels_are_counted():
    masked = _box("cat", 0, 0, 2, 2, mask=Mask.from_array(np.ones((4, 4), bool)))
    found = inspect_images(make_set("detection", ["cat"], [{"size_hw": (4, 4), "boxes": (masked,)}]))
    assert found.classes[0].mask_count == 1
    named = [{"class_name": "cat"}, {"class_name": "dog"}, {"class_name": "dog"}]
    found = inspect_images(make_set("classification", ["cat", "dog"], named))
    assert [one.items for one in found.classes] == [{"none": 1}, {"none": 2}]
    assert found.coverage == ()
    ids = np.array([[0, 0, 1], [1, 1, 255]], np.uint8)
    found = inspect_images(make_set("semantic_segmentation", ["sky", "sea"], [{"size_hw": (2, 3), "mask": ids}]))
    assert [one.pixels for one in found.classes] == [{"none": 2}, {"none": 3}]
    assert [one.items for one in found.classes] == [{"none": 1}, {"none": 1}]


def test_only_some_images_are_looked_at_and_the_ends_of_the_scale_are_named():
    rows = [{"class_name": "a"} for _ in range(9)]
    looks = inspect_images(make_set("classification", ["a"], rows), looked_at=4).looks
    assert looks.measured_count == 3  # of every three the first
    assert {one.key for one in looks.darkest} == {"item-0", "item-3", "item-6"}
    assert looks.darkest[0].value <= looks.darkest[-1].value
    assert [one.key for one in looks.brightest] == [one.key for one in reversed(looks.darkest)]


def test_the_numbers_do_not_grow_with_the_data():
    few, many = (
        inspect_images(make_set("classification", ["a"], [{"class_name": "a"}] * count), looked_at=0).to_json()
        for count in (2, 60)
    )
    assert len(str(many)) - len(str(few)) < 20


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        pytest.param([], 0.5, None, id="empty"),
        pytest.param([5.0], 0.5, 5.0, id="middle of a bin"),
        pytest.param([0.0, 15.0], 1.0, 20.0, id="all"),
        pytest.param([-3.0, 99.0], 0.5, 10.0, id="beyond the edges counts in the outermost"),
    ],
)
def test_quantiles(values: list[float], share: float, expected: float | None):
    bins = Bins([0, 10, 20])
    bins.add(values)
    assert bins.histogram().quantile(share) == expected


def test_a_value_on_an_edge_counts_above_it_and_the_last_edge_below():
    bins = Bins([0, 1, 2])
    bins.add([0, 1, 2])
    assert bins.histogram() == Histogram((0, 1, 2), (1, 2))
