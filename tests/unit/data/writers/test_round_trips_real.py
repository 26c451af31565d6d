"""Real sets through every format and back: nothing differs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.labelled_sets import read_back, round_trip
from visionyard.data.inspection.difference import compare
from visionyard.data.labelled import LabelledSet

SETS = {
    "nuclei-dsb2018": ["coco", "yolo", "cvat", "tfrecord", "label_studio"],
    "cones-and-cubes": ["coco", "voc", "csv"],
    "trashnet-mini": ["folders", "csv", "tfrecord", "cvat", "label_studio"],
    "membrane-isbi2012": ["mask_pairs"],
}


Labels = dict[str, list[tuple[tuple[float, ...], str]]]


def _labels(labelled: LabelledSet) -> Labels:
    """Return the boxes of each image, and their masks as text, in some fixed order."""
    return {
        image.item.sha256: sorted((box.xyxy, repr(box.mask)) for box in image.item.boxes or ())
        for image in labelled.images()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_nothing_differs(name: str, shared_data: Callable[[str], Path], tmp_path: Path):
    labelled = read_back(shared_data(name), tmp_path / "source", "auto")
    without_label = {"test": 30} if name == "membrane-isbi2012" else {}
    before = _labels(labelled)
    for target in SETS[name]:
        again, problems = round_trip(labelled, tmp_path / target, target)
        difference = compare(labelled, again)
        assert (difference.added, difference.split_changes, difference.class_changes) == ({}, (), ())
        assert difference.removed == without_label
        assert {problem.code for problem in problems.found} <= {"image_without_labels"}
        for sha256, boxes in _labels(again).items():
            assert [mask for _, mask in boxes] == [mask for _, mask in before[sha256]]
            assert [xyxy for xyxy, _ in boxes] == [pytest.approx(xyxy, abs=0.01) for xyxy, _ in before[sha256]]
