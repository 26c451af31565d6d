"""From predictions to answers and agreement; boxes are held against counts by hand."""

import math

import numpy as np
import pytest

from visionyard.monitoring.judge_answers import agreement, answer_of
from visionyard.transforms import Classification, Detections

LEFT, RIGHT, NEAR_LEFT = [0, 0, 10, 10], [100, 0, 110, 10], [0, 0, 10, 8]


def boxes(*rows: tuple[list[int], int, float]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32),
    )


@pytest.mark.parametrize(
    ("champion", "canary", "expected"),
    [
        pytest.param(boxes(), boxes(), 1.0, id="nothing and nothing"),
        pytest.param(boxes((LEFT, 0, 0.9)), boxes(), 0.0, id="one and nothing"),
        pytest.param(boxes((LEFT, 0, 0.9)), boxes((NEAR_LEFT, 0, 0.4)), 1.0, id="overlap 0.8"),
        pytest.param(boxes((LEFT, 0, 0.9)), boxes(([0, 0, 10, 5], 0, 0.4)), 1.0, id="overlap just 0.5"),
        pytest.param(boxes((LEFT, 0, 0.9)), boxes(([0, 0, 10, 4], 0, 0.4)), 0.0, id="overlap 0.4"),
        pytest.param(boxes((LEFT, 0, 0.9)), boxes((LEFT, 1, 0.9)), 0.0, id="another class"),
        pytest.param(boxes((LEFT, 0, 0.9), (RIGHT, 1, 0.8)), boxes((LEFT, 0, 0.9)), 2 / 3, id="one of two"),
        pytest.param(boxes((LEFT, 0, 0.9)), boxes((NEAR_LEFT, 0, 0.9), (LEFT, 0, 0.1)), 2 / 3, id="one partner each"),
    ],
)
def test_agreement_of_boxes(champion: Detections, canary: Detections, expected: float) -> None:
    assert agreement(champion, canary) == pytest.approx(expected)
    assert agreement(canary, champion) == pytest.approx(expected)


def test_agreement_of_classes() -> None:
    cat, dog = Classification(np.array([0.6, 0.4], np.float32)), Classification(np.array([0.4, 0.6], np.float32))
    assert agreement(cat, cat) == 1.0
    assert agreement(cat, dog) == 0.0


def test_two_kinds_do_not_compare() -> None:
    with pytest.raises(TypeError, match="got Detections and Classification"):
        agreement(boxes(), Classification(np.array([1.0], np.float32)))


def test_the_surest_box_stands_for_the_answer() -> None:
    answer = answer_of(boxes((LEFT, 3, 0.25), (RIGHT, 5, 0.75)), latency_s=0.1)
    assert (answer.confidence, answer.class_id, answer.is_failed) == (0.75, 5, False)


def test_nothing_found_is_an_answer() -> None:
    answer = answer_of(boxes(), latency_s=0.1)
    assert (answer.confidence, answer.class_id, answer.is_failed) == (None, None, False)


@pytest.mark.parametrize(
    "prediction",
    [
        pytest.param(boxes((LEFT, 3, 0.9), (RIGHT, 5, math.nan)), id="one box"),
        pytest.param(Classification(np.full(3, np.nan, np.float32)), id="all classes"),
        pytest.param(Classification(np.array([0.5, np.nan, 0.5], np.float32)), id="one class"),
    ],
)
def test_not_a_number_is_a_failure(prediction: Detections | Classification) -> None:
    assert answer_of(prediction, latency_s=0.1).is_failed
