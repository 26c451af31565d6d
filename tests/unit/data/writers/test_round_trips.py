"""What every format must keep: read again by ingest, the labels are those that were written."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.fixtures.labelled_sets import described, make_set, round_trip
from visionyard.data.formats import FORMATS as READ
from visionyard.data.items import SPLITS, Box
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers import FORMATS
from visionyard.geometry import Mask

# Names that break formats: spaces, commas, quotes, markup, other scripts, numbers, the same but for case, split names.
ODD_NAMES = [
    "stop sign",
    "a,b",
    "Cat",
    "cat",
    "CAT",
    "größe",
    "猫",
    "x<y>&z",
    'it\'s "so"',
    "1",
    "train",
    "none",
    "a:b",
    "-",
    "{q}",
]
HOLD_MASKS = ["coco", "yolo", "cvat", "tfrecord", "label_studio"]


few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _readable(names: list[str]) -> list[Any]:
    """Return formats as parameters; one whose reader is not there yet waits for it."""
    missing = [name for name in names if FORMATS[name].read_as not in READ]
    return [pytest.param(name, marks=pytest.mark.skip("no reader yet")) if name in missing else name for name in names]


def _farthest(labelled: LabelledSet) -> float:
    return max(value for image in labelled.images() for box in image.item.boxes or () for value in box.xyxy)


@st.composite
def boxes(draw: st.DrawFn, classes: list[str], size_hw: tuple[int, int]) -> Box:
    height, width = size_hw
    left, right = sorted(draw(st.lists(st.integers(0, width * 16), min_size=2, max_size=2, unique=True)))
    top, bottom = sorted(draw(st.lists(st.integers(0, height * 16), min_size=2, max_size=2, unique=True)))
    return Box(draw(st.sampled_from(classes)), (left / 16, top / 16, right / 16, bottom / 16))


@st.composite
def masked_boxes(draw: st.DrawFn, classes: list[str], size_hw: tuple[int, int]) -> Box:
    seed, density = draw(st.integers(0, 999)), draw(st.sampled_from([0.1, 0.5, 0.9]))
    pixels = np.random.default_rng(seed).random(size_hw) < density
    pixels[draw(st.integers(0, size_hw[0] - 1)), draw(st.integers(0, size_hw[1] - 1))] = True
    mask = Mask.from_array(pixels)
    crop, (left, top) = mask.to_crop()
    return Box(draw(st.sampled_from(classes)), (left, top, left + crop.shape[1], top + crop.shape[0]), mask)


@st.composite
def sets(draw: st.DrawFn, *, has_masks: bool = False) -> Any:
    classes = draw(st.lists(st.sampled_from(ODD_NAMES), min_size=1, max_size=5, unique=True))
    splits = draw(st.sampled_from([(None,), SPLITS, ("train", "val"), (*SPLITS, None)]))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        size_hw = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
        kinds = [boxes(classes, size_hw)] + ([masked_boxes(classes, size_hw)] if has_masks else [])
        found = tuple(draw(st.lists(st.one_of(kinds), max_size=4)))
        rows.append({"size_hw": size_hw, "split": draw(st.sampled_from(splits)), "boxes": found})
    rows[0]["boxes"] = rows[0]["boxes"] or (draw(boxes(classes, rows[0]["size_hw"])),)
    return make_set("detection", classes, rows)


@pytest.mark.parametrize("name", _readable([*HOLD_MASKS, "voc", "csv"]))
@few
@given(labelled=sets())
def test_boxes_classes_and_splits_come_back(name: str, labelled: LabelledSet):
    with TemporaryDirectory() as work:
        assume(name != "csv" or _farthest(labelled) > 1)
        again, problems = round_trip(labelled, Path(work), name)
        assert described(again) == described(labelled)
        assert {problem.code for problem in problems.found} <= {"label_map_left_out"}


@pytest.mark.parametrize("name", _readable(HOLD_MASKS))
@few
@given(labelled=sets(has_masks=True))
def test_masks_come_back_exactly(name: str, labelled: LabelledSet):
    with TemporaryDirectory() as work:
        again, _ = round_trip(labelled, Path(work), name)
        assert described(again) == described(labelled)


@pytest.mark.parametrize("name", _readable([*HOLD_MASKS, "voc", "csv"]))
@few
@given(left=st.floats(0, 4000), width=st.floats(0.5, 1000), top=st.floats(0, 30), height=st.floats(0.5, 10))
def test_a_corner_moves_by_less_than_a_hundredth_of_a_pixel(
    name: str, left: float, width: float, top: float, height: float
):
    assume(name != "csv" or max(left + width, top + height) > 1)
    box = Box("thing", (left, top, left + width, top + height))
    labelled = make_set("detection", ["thing"], [{"size_hw": (40, 5000), "boxes": (box,)}])
    with TemporaryDirectory() as work:
        again, _ = round_trip(labelled, Path(work), name)
        (image,) = again.images()
        assert image.item.boxes is not None
        assert image.item.boxes[0].xyxy == pytest.approx(box.xyxy, abs=0.01)


NAMED = {
    "two splits": [{"class_name": "Cat", "split": "train"}, {"class_name": "cat", "split": "test"}],
    "no split": [{"class_name": "stop sign"}, {"class_name": "größe, 猫"}],
    "one class": [{"class_name": "only", "split": "val"}],
    "named as splits": [{"class_name": "train", "split": "train"}, {"class_name": "test", "split": "train"}],
    "jpeg": [{"class_name": "a", "format": "JPEG"}, {"class_name": "b", "format": "JPEG"}],
}


@pytest.mark.parametrize("name", _readable(["folders", "csv", "tfrecord", "cvat", "label_studio"]))
@pytest.mark.parametrize("rows", NAMED.values(), ids=NAMED)
def test_classes_of_images_come_back(rows: list[dict[str, Any]], name: str, tmp_path: Path):
    labelled = make_set("classification", sorted({row["class_name"] for row in rows}), rows)
    again, problems = round_trip(labelled, tmp_path, name)
    assert again.task == "classification"
    assert described(again) == described(labelled)
    assert problems.found == []


@few
@given(labelled=sets(), name=st.sampled_from(sorted(name for name in FORMATS if FORMATS[name].read_as in READ)))
def test_an_image_comes_back_byte_for_byte_in_any_format(labelled: LabelledSet, name: str):
    assume(labelled.task in FORMATS[name].tasks)
    assume(name != "csv" or _farthest(labelled) > 1)
    with TemporaryDirectory() as work:
        again, _ = round_trip(labelled, Path(work), name)
        written = {image.item.sha256: image.image_bytes() for image in labelled.images()}
        assert {image.item.sha256: image.image_bytes() for image in again.images()} == written


@pytest.mark.parametrize("splits", [(None, None), ("train", "test")])
def test_semantic_masks_come_back_exactly(splits: tuple[Any, Any], tmp_path: Path):
    classes = ["sky, blue", "Sky", "größe"]
    random = np.random.default_rng(1)
    masks = [random.choice([0, 1, 2, 255], (24, 32)).astype(np.uint8) for _ in splits]
    labelled = make_set(
        "semantic_segmentation", classes, [{"mask": mask, "split": split} for mask, split in zip(masks, splits)]
    )
    again, _ = round_trip(labelled, tmp_path, "mask_pairs")
    assert (again.task, again.classes) == ("semantic_segmentation", tuple(classes))
    written = {image.item.sha256: (image.mask_bytes(), image.item.published_split) for image in labelled.images()}
    assert {image.item.sha256: (image.mask_bytes(), image.item.published_split) for image in again.images()} == written
