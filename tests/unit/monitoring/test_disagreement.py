"""When two models disagree, and when they only count a box differently."""

import numpy as np
import pytest

from visionyard.monitoring.disagreement import disagree
from visionyard.transforms import Classification, Detections, Prediction

CLASSES = ["cat", "dog"]


def kind(*probabilities: float) -> Classification:
    return Classification(np.array(probabilities, np.float32))


def boxes(*found: tuple[float, int, float]) -> Detections:
    """Boxes of 10 px, each from its left edge, class id and confidence."""
    return Detections(
        np.array([[left, 0, left + 10, 10] for left, _, _ in found], float).reshape(-1, 4),
        np.array([class_id for _, class_id, _ in found], np.int64),
        np.array([confidence for _, _, confidence in found], np.float32),
    )


@pytest.mark.parametrize(
    ("first", "second", "second_classes", "expected"),
    [
        pytest.param(kind(0.9, 0.1), kind(0.6, 0.4), CLASSES, False, id="same class"),
        pytest.param(kind(0.6, 0.4), kind(0.4, 0.6), CLASSES, True, id="other class"),
        pytest.param(kind(0.6, 0.4), kind(0.4, 0.6), ["dog", "cat"], False, id="same name, other id"),
        pytest.param(boxes(), boxes(), CLASSES, False, id="both see nothing"),
        pytest.param(boxes((0, 0, 0.9)), boxes((1, 0, 0.3)), CLASSES, False, id="same box, less sure"),
        pytest.param(boxes((0, 0, 0.9)), boxes(), CLASSES, True, id="a sure box is missing"),
        pytest.param(boxes(), boxes((0, 0, 0.9)), CLASSES, True, id="a sure box more"),
        pytest.param(boxes((0, 0, 0.34)), boxes(), CLASSES, False, id="only just above the threshold"),
        pytest.param(boxes((0, 0, 0.36)), boxes(), CLASSES, True, id="a tenth above the threshold"),
        pytest.param(boxes((0, 0, 0.9)), boxes((0, 1, 0.9)), CLASSES, True, id="same box, other class"),
        pytest.param(boxes((0, 0, 0.9)), boxes((0, 1, 0.9)), ["dog", "cat"], False, id="same box, same name"),
        pytest.param(boxes((0, 0, 0.9)), boxes((5, 0, 0.9)), CLASSES, True, id="overlap of a third"),
        pytest.param(boxes((0, 0, 0.9)), kind(0.9, 0.1), CLASSES, True, id="a detector and a classifier"),
    ],
)
def test_disagreement(first: Prediction, second: Prediction, second_classes: list[str], expected: bool) -> None:
    found = disagree(
        first,
        second,
        first_classes=CLASSES,
        second_classes=second_classes,
        first_threshold=0.25,
        second_threshold=0.25,
    )
    assert found is expected
