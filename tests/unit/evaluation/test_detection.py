from collections.abc import Callable, Sequence

import numpy as np
import pytest

from visionyard.errors import DataError, NotANumberError, ShapeError
from visionyard.evaluation import DetectionMetrics, TrueBoxes, detection_metrics
from visionyard.geometry import iou_matrix
from visionyard.transforms import Detections

A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 40.0, 20.0), (50.0, 50.0, 80.0, 90.0)
Boxes = Callable[..., Detections]


def _truth(*rows: tuple[float, ...]) -> TrueBoxes:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return TrueBoxes(table[:, 1:], table[:, 0].astype(np.int64))


def _measure(truths: Sequence[TrueBoxes], found: Sequence[Detections], classes: Sequence[str]) -> DetectionMetrics:
    return detection_metrics(truths, found, classes, confidence_threshold=0.5, iou_threshold=0.5)


def _brute_force_ap(truths: Sequence[TrueBoxes], found: Sequence[Detections], class_id: int, iou: float) -> float:
    """Average precision by the letter of the COCO protocol, one detection after another."""
    ranked = sorted(
        (-float(score), image, index)
        for image, detections in enumerate(found)
        for index, score in enumerate(detections.confidence)
        if detections.class_ids[index] == class_id
    )
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, image, index in ranked:
        overlap = iou_matrix(found[image].xyxy[index : index + 1], truths[image].xyxy)[0]
        free = [
            (overlap[number], number)
            for number in np.flatnonzero(truths[image].class_ids == class_id)
            if (image, number) not in taken and overlap[number] >= iou
        ]
        hits.append(bool(free))
        if free:
            taken.add((image, max(free)[1]))
    total = sum(int((truth.class_ids == class_id).sum()) for truth in truths)
    curve = [(sum(hits[:n]) / total, sum(hits[:n]) / n) for n in range(1, len(hits) + 1)]
    return float(
        np.mean([max((p for r, p in curve if r >= want - 1e-12), default=0.0) for want in np.linspace(0, 1, 101)])
    )


def test_average_precision_equals_brute_force() -> None:
    random = np.random.default_rng(3)
    truths, found = [], []
    for _ in range(25):
        low = random.uniform(0, 60, (6, 2))
        truth = TrueBoxes(np.hstack([low, low + random.uniform(8, 30, (6, 2))]), random.integers(0, 3, 6))
        noise = random.normal(0, 2.5, (2, 6, 4)).reshape(-1, 4)
        class_ids = np.where(random.random(12) < 0.8, np.tile(truth.class_ids, 2), random.integers(0, 3, 12))
        found.append(Detections(np.tile(truth.xyxy, (2, 1)) + noise, class_ids, random.random(12).astype(np.float32)))
        truths.append(truth)
    metrics = _measure(truths, found, ["a", "b", "c"])
    ious = np.linspace(0.5, 0.95, 10)
    for class_id, one in enumerate(metrics.per_class):
        expected = [_brute_force_ap(truths, found, class_id, iou) for iou in ious]
        assert one.ap_50 == pytest.approx(expected[0], abs=1e-9)
        assert one.ap_50_95 == pytest.approx(np.mean(expected), abs=1e-9)
    assert 0.1 < metrics.map_50_95 < metrics.map_50 < 0.9
    assert metrics.map_50 == pytest.approx(np.mean([one.ap_50 for one in metrics.per_class]))


def test_perfect_detections_score_one_everywhere(boxes: Boxes) -> None:
    metrics = _measure([_truth((0, *A), (1, *B))], [boxes((0, 0.9, *A), (1, 0.8, *B))], ["a", "b"])
    assert metrics.overall() == pytest.approx({"map_50": 1, "map_50_95": 1, "precision": 1, "recall": 1, "f1": 1})
    assert metrics.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert metrics.per_class[0].pr_precision == [1.0] * 101
    assert metrics.per_class[0].pr_confidence == pytest.approx([0.9] * 101)


def test_hand_calculated_image(boxes: Boxes) -> None:
    """One of two found, one false alarm ranked first: precision 1/2 up to recall 1/2, which are 51 of 101 points."""
    metrics = _measure([_truth((0, *A), (0, *B))], [boxes((0, 0.9, *C), (0, 0.8, *A), (0, 0.4, *B))], ["a"])
    assert metrics.per_class[0].ap_50 == pytest.approx((51 * 2 / 3 + 50 * 2 / 3) / 101)
    assert (metrics.precision, metrics.recall, metrics.f1) == (0.5, 0.5, 0.5)
    assert metrics.confusion.tolist() == [[1, 1], [1, 0]]


def test_a_class_absent_from_the_truth_does_not_count_in_the_mean(boxes: Boxes) -> None:
    metrics = _measure([_truth((0, *A))], [boxes((0, 0.9, *A), (1, 0.9, *B))], ["a", "b", "never seen"])
    assert metrics.map_50 == 1.0
    absent, never = metrics.per_class[1:]
    assert (absent.ap_50, absent.recall, absent.precision, absent.f1, absent.pr_precision) == (
        None,
        None,
        0.0,
        0.0,
        None,
    )
    assert (never.truth_count, never.prediction_count, never.precision, never.f1) == (0, 0, None, None)


def test_no_detection_at_all_scores_zero(boxes: Boxes) -> None:
    metrics = _measure([_truth((0, *A)), _truth()], [boxes(), boxes()], ["a"])
    assert set(metrics.overall().values()) == {0.0}
    assert metrics.per_class[0].precision is None
    assert metrics.confusion.tolist() == [[0, 1], [0, 0]]


def test_detections_on_images_without_objects_lower_precision(boxes: Boxes) -> None:
    metrics = _measure([_truth((0, *A)), _truth()], [boxes((0, 0.9, *A)), boxes((0, 0.95, *A))], ["a"])
    assert metrics.precision == 0.5
    assert metrics.per_class[0].ap_50 == pytest.approx(0.5)


def test_the_threshold_leaves_average_precision_alone(boxes: Boxes) -> None:
    truths, found = [_truth((0, *A), (0, *B))], [boxes((0, 0.9, *A), (0, 0.1, *B))]
    metrics = _measure(truths, found, ["a"])
    assert (metrics.map_50, metrics.recall) == (pytest.approx(1.0), 0.5)


def test_only_the_hundred_surest_of_an_image_count(boxes: Boxes) -> None:
    false_alarms = [(0, 0.9, 200.0 + 10 * n, 0, 205.0 + 10 * n, 5) for n in range(100)]
    assert _measure([_truth((0, *A))], [boxes(*false_alarms, (0, 0.1, *A))], ["a"]).map_50 == 0.0
    assert _measure([_truth((0, *A))], [boxes(*false_alarms[1:], (0, 0.1, *A))], ["a"]).map_50 > 0.0


def test_bad_input(boxes: Boxes) -> None:
    truth, nan = _truth((0, *A)), float("nan")
    with pytest.raises(ShapeError, match="expected 1, one an image, got 2"):
        _measure([truth], [boxes(), boxes()], ["a"])
    with pytest.raises(DataError, match="2 images with no true box"):
        _measure([_truth(), _truth()], [boxes(), boxes()], ["a"])
    with pytest.raises(DataError, match="image 0: prediction has class id 3, expected 0 to 0"):
        _measure([truth], [boxes((3, 0.9, *A))], ["a"])
    with pytest.raises(NotANumberError, match="image 1: confidence: expected finite numbers, got nan"):
        _measure([truth, truth], [boxes(), boxes((0, nan, *A))], ["a"])
    with pytest.raises(NotANumberError, match=r"image 0: detected boxes: .* got inf at \(0, 2\)"):
        _measure([truth], [boxes((0, 0.5, 0, 0, float("inf"), 4))], ["a"])


def test_f1_by_confidence_is_what_each_threshold_gives() -> None:
    random = np.random.default_rng(11)
    low = random.uniform(0, 60, (20, 2))
    truth = TrueBoxes(np.hstack([low, low + random.uniform(8, 30, (20, 2))]), random.integers(0, 2, 20))
    noisy = np.tile(truth.xyxy, (3, 1)) + random.normal(0, 2, (60, 4))
    # Between the thresholds, so that float32 cannot move a detection across one.
    confidence = (random.integers(0, 100, 60) / 100 + 0.005).astype(np.float32)
    found = Detections(noisy, np.tile(truth.class_ids, 3), confidence)
    curves = [one.f1_by_confidence for one in _measure([truth], [found], ["a", "b"]).per_class]
    for percent in (0, 7, 29, 50, 99, 100):
        metrics = detection_metrics([truth], [found], ["a", "b"], confidence_threshold=percent / 100, iou_threshold=0.5)
        for one, curve in zip(metrics.per_class, curves, strict=True):
            assert curve is not None and curve[percent] == pytest.approx(one.f1 or 0.0)
