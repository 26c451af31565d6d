import itertools
from collections.abc import Callable

import numpy as np
import pytest

from visionyard.evaluation.matching import TrueBoxes, above, confusion_pairs, match_boxes
from visionyard.geometry import iou_matrix
from visionyard.transforms import Detections

A, B = (0, 0, 10, 10), (20, 0, 30, 10)
BACKGROUND = 2


def _truth(*rows: tuple[int, tuple[float, ...]]) -> TrueBoxes:
    corners = np.array([box for _, box in rows], np.float64).reshape(-1, 4)
    return TrueBoxes(corners, np.array([class_id for class_id, _ in rows], np.int64))


TABLE = {
    # name: true boxes, detections (class, confidence, box), expected (true class, predicted class) pairs
    "nothing at all": ([], [], []),
    "nothing found": ([(0, A)], [], [(0, BACKGROUND)]),
    "nothing there": ([], [(1, 0.9, *A)], [(BACKGROUND, 1)]),
    "found": ([(0, A)], [(0, 0.9, *A)], [(0, 0)]),
    "of another class": ([(0, A)], [(1, 0.9, *A)], [(0, 1)]),
    "found twice": ([(0, A)], [(0, 0.9, *A), (0, 0.8, *A)], [(0, 0), (BACKGROUND, 0)]),
    "the surer of two wins": ([(0, A)], [(0, 0.3, 0, 0, 10, 10), (0, 0.8, 0, 0, 10, 9)], [(BACKGROUND, 0), (0, 0)]),
    "own class before a surer other one": ([(0, A)], [(1, 0.9, *A), (0, 0.5, *A)], [(BACKGROUND, 1), (0, 0)]),
    "two swapped": ([(0, A), (1, B)], [(1, 0.9, *A), (0, 0.8, *B)], [(0, 1), (1, 0)]),
    "exactly at the threshold": ([(0, A)], [(0, 0.9, 0, 0, 5, 10)], [(0, 0)]),
    "just below the threshold": ([(0, A)], [(0, 0.9, 0, 0, 4.99, 10)], [(BACKGROUND, 0), (0, BACKGROUND)]),
}


@pytest.mark.parametrize("name", TABLE)
def test_pairs(name: str, boxes: Callable[..., Detections]) -> None:
    rows, found, expected = TABLE[name]
    truth, detections = _truth(*rows), boxes(*found)
    pairs = confusion_pairs(truth, detections, match_boxes(truth, detections, 0.5), BACKGROUND)
    assert [tuple(pair) for pair in pairs.tolist()] == expected


def test_each_box_is_used_once_and_no_free_pair_is_left() -> None:
    random = np.random.default_rng(7)
    for _ in range(50):
        corners = random.uniform(0, 30, (2, 12, 2))
        everything = np.concatenate([corners, corners + random.uniform(5, 25, corners.shape)], axis=2)
        truth = TrueBoxes(everything[0], random.integers(0, 2, 12))
        found = Detections(everything[1], random.integers(0, 2, 12), random.random(12).astype(np.float32))
        matches = match_boxes(truth, found, 0.3)
        taken = matches.truth_of_prediction[matches.truth_of_prediction >= 0]
        assert len(set(taken)) == len(taken)
        assert all(matches.prediction_of_truth[t] == p for p, t in enumerate(matches.truth_of_prediction) if t >= 0)
        overlap = iou_matrix(found.xyxy, truth.xyxy)
        free = itertools.product(
            np.flatnonzero(matches.truth_of_prediction < 0), np.flatnonzero(matches.prediction_of_truth < 0)
        )
        assert not any(overlap[pair] >= 0.3 for pair in free)
        assert all(
            (found.class_ids[p] == truth.class_ids[t]) == matches.is_right[p]
            for p, t in enumerate(matches.truth_of_prediction)
            if t >= 0
        )


def test_above_keeps_the_threshold_itself(boxes: Callable[..., Detections]) -> None:
    assert above(boxes((0, 0.25, *A), (1, 0.24, *B)), 0.25).class_ids.tolist() == [0]
