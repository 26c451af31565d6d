"""Metrics of object detection: the COCO protocol's mean average precision, and counts at one confidence threshold.

Source: T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, 2014, and its evaluation code (101 recall points,
IoU 0.50 to 0.95 in steps of 0.05, the 100 most confident detections of an image and class); arXiv:1405.0312.
Computed by faster-coco-eval, whose results equal those of pycocotools.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionyard.errors import DataError, ShapeError
from visionyard.evaluation.matching import TrueBoxes, above, confusion_pairs, is_right_at_any_threshold, match_boxes
from visionyard.evaluation.numbers import require_finite
from visionyard.geometry import xyxy_to_xywh
from visionyard.transforms import Detections

# The COCO protocol's limit; lower ranked detections of an image and class are not looked at.
_MAX_DETECTIONS = 100


@dataclass(frozen=True)
class DetectionClassMetrics:
    """How well one class is found.

    Attributes:
        class_name: Its name.
        truth_count: True boxes.
        prediction_count: Detections at the confidence threshold.
        ap_50: Average precision at IoU 0.50, in [0, 1]; None when the class has no true box.
        ap_50_95: Averaged over IoU 0.50 to 0.95; None when the class has no true box.
        precision: At the thresholds: right detections of all detections; None without detections.
        recall: At the thresholds: found boxes of all true boxes; None without true boxes.
        f1: Harmonic mean of the two, 2 tp / (2 tp + fp + fn); None with neither boxes nor detections.
        pr_precision: 101 precisions at recall 0, 0.01 ... 1 and IoU 0.50, interpolated; None without true boxes.
        pr_confidence: 101 confidences at which these recalls are reached, 0 for a recall never reached; None without
            true boxes.
        f1_by_confidence: 101 values of f1 at the IoU threshold and at confidence 0, 0.01 ... 1; None without boxes.
    """

    class_name: str
    truth_count: int
    prediction_count: int
    ap_50: float | None
    ap_50_95: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    pr_precision: list[float] | None
    pr_confidence: list[float] | None
    f1_by_confidence: list[float] | None


@dataclass(frozen=True)
class DetectionMetrics:
    """How well a detector finds what is there.

    Attributes:
        map_50: Mean of `ap_50` over the classes that have true boxes.
        map_50_95: Mean of `ap_50_95` over them.
        precision: At the thresholds, over all boxes; 0 without detections.
        recall: At the thresholds, over all boxes.
        f1: Harmonic mean of the two.
        per_class: In the order of the class ids.
        confusion: (C + 1, C + 1) int64 counts at the thresholds; rows truth, columns prediction, the last row and
            column are the background.
    """

    map_50: float
    map_50_95: float
    precision: float
    recall: float
    f1: float
    per_class: list[DetectionClassMetrics]
    confusion: np.ndarray

    def overall(self) -> dict[str, float]:
        """Return the figures over all classes by name, the main one first."""
        return {
            "map_50": self.map_50,
            "map_50_95": self.map_50_95,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


def detection_metrics(
    truths: Sequence[TrueBoxes],
    predictions: Sequence[Detections],
    classes: Sequence[str],
    *,
    confidence_threshold: float,
    iou_threshold: float,
) -> DetectionMetrics:
    """Measure detections against true boxes.

    Args:
        truths: One an image.
        predictions: One an image, all detections down to a very low confidence: average precision needs them.
        classes: C class names in the order of their ids.
        confidence_threshold: Detections below it do not count for precision, recall, f1 and the confusion matrix.
        iou_threshold: Least overlap of a match for these, in (0, 1].

    Raises:
        ShapeError: There are not as many predictions as truths.
        DataError: There is no true box at all, or a class id is not in `classes`.
        NotANumberError: A box or a confidence is NaN or infinite.
    """
    if len(truths) != len(predictions):
        raise ShapeError(f"predictions: expected {len(truths)}, one an image, got {len(predictions)}")
    _check(truths, predictions, len(classes))
    confusion = _confusion(truths, predictions, len(classes), confidence_threshold, iou_threshold)
    f1_curves = _f1_curves(truths, predictions, len(classes), iou_threshold)
    per_class = [
        _class_metrics(name, class_id, truths, predictions, confusion, f1_curves[class_id])
        for class_id, name in enumerate(classes)
    ]
    precision, recall, f1 = _rates(int(np.trace(confusion)), int(confusion[:, :-1].sum()), int(confusion[:-1].sum()))
    return DetectionMetrics(
        map_50=_mean([one.ap_50 for one in per_class]),
        map_50_95=_mean([one.ap_50_95 for one in per_class]),
        precision=precision or 0.0,
        recall=recall or 0.0,
        f1=f1 or 0.0,
        per_class=per_class,
        confusion=confusion,
    )


def _check(truths: Sequence[TrueBoxes], predictions: Sequence[Detections], class_count: int) -> None:
    if not any(len(truth) for truth in truths):
        raise DataError(
            f"{len(truths)} images with no true box among them: average precision is not defined; label some of them"
        )
    for index, (truth, found) in enumerate(zip(truths, predictions, strict=True)):
        require_finite(f"image {index}: true boxes", truth.xyxy)
        require_finite(f"image {index}: detected boxes", found.xyxy)
        require_finite(f"image {index}: confidence", found.confidence)
        for what, class_ids in (("truth", truth.class_ids), ("prediction", found.class_ids)):
            is_unknown = (class_ids < 0) | (class_ids >= class_count)
            if is_unknown.any():
                raise DataError(
                    f"image {index}: {what} has class id {class_ids[is_unknown][0]}, expected 0 to {class_count - 1}"
                )


def _coco_curves(
    truths: Sequence[TrueBoxes], predictions: Sequence[Detections], class_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and confidence of one class, each (10, 101): by IoU threshold and recall.

    Class by class, because faster-coco-eval wants a dictionary a box: 300 detections an image would be 200 kB of them.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for index, (truth, detections) in enumerate(zip(truths, predictions, strict=True)):
        annotations += _coco_boxes(index, truth.xyxy[truth.class_ids == class_id])
        is_class = detections.class_ids == class_id
        boxes = _coco_boxes(index, detections.xyxy[is_class])
        found += [
            {**box, "score": score} for box, score in zip(boxes, detections.confidence[is_class].tolist(), strict=True)
        ]
    truth_set = COCO(
        {
            "images": [{"id": index} for index in range(len(truths))],
            "categories": [{"id": 0, "name": ""}],
            "annotations": [{**box, "id": number, "iscrowd": 0} for number, box in enumerate(annotations, start=1)],
        }
    )
    evaluation = COCOeval_faster(truth_set, truth_set.loadRes(found), iouType="bbox")
    evaluation.params.maxDets = [_MAX_DETECTIONS]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision: np.ndarray = evaluation.eval["precision"][:, :, 0, 0, 0]
    confidence: np.ndarray = evaluation.eval["scores"][:, :, 0, 0, 0]
    return precision, confidence


def _coco_boxes(image_index: int, xyxy: np.ndarray) -> list[dict[str, Any]]:
    xywh = xyxy_to_xywh(xyxy.astype(np.float64))
    return [{"image_id": image_index, "category_id": 0, "bbox": box, "area": box[2] * box[3]} for box in xywh.tolist()]


def _confusion(
    truths: Sequence[TrueBoxes],
    predictions: Sequence[Detections],
    class_count: int,
    confidence_threshold: float,
    iou_threshold: float,
) -> np.ndarray:
    counts = np.zeros((class_count + 1, class_count + 1), np.int64)
    for truth, found in zip(truths, predictions, strict=True):
        shown = above(found, confidence_threshold)
        pairs = confusion_pairs(truth, shown, match_boxes(truth, shown, iou_threshold), class_count)
        np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    return counts


def _f1_curves(
    truths: Sequence[TrueBoxes], predictions: Sequence[Detections], class_count: int, iou_threshold: float
) -> np.ndarray:
    """Return f1 as (C, 101): by class and confidence threshold; 0 where there are neither boxes nor detections."""
    thresholds = np.linspace(0, 1, 101)
    # Detections by class, whether they are right, and the highest threshold that they pass.
    counts = np.zeros((class_count, 2, len(thresholds)), np.int64)
    true_counts = np.zeros(class_count, np.int64)
    for truth, found in zip(truths, predictions, strict=True):
        is_right = is_right_at_any_threshold(truth, found, iou_threshold)
        highest = np.searchsorted(thresholds, found.confidence.astype(np.float64), side="right") - 1
        np.add.at(counts, (found.class_ids, is_right.astype(np.int64), highest), 1)
        np.add.at(true_counts, truth.class_ids, 1)
    passing = counts[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    denominator = passing.sum(axis=1) + true_counts[:, None]
    return np.asarray(2 * passing[:, 1] / np.maximum(denominator, 1))


def _class_metrics(
    name: str,
    class_id: int,
    truths: Sequence[TrueBoxes],
    predictions: Sequence[Detections],
    confusion: np.ndarray,
    f1_curve: np.ndarray,
) -> DetectionClassMetrics:
    truth_count, prediction_count = int(confusion[class_id].sum()), int(confusion[:, class_id].sum())
    precision, recall, f1 = _rates(int(confusion[class_id, class_id]), prediction_count, truth_count)
    curves = _coco_curves(truths, predictions, class_id) if truth_count else None
    return DetectionClassMetrics(
        class_name=name,
        truth_count=truth_count,
        prediction_count=prediction_count,
        ap_50=float(curves[0][0].mean()) if curves else None,
        ap_50_95=float(curves[0].mean()) if curves else None,
        precision=precision,
        recall=recall,
        f1=f1,
        pr_precision=curves[0][0].tolist() if curves else None,
        pr_confidence=curves[1][0].tolist() if curves else None,
        f1_by_confidence=f1_curve.tolist() if curves else None,
    )


def _rates(right: int, predicted: int, true: int) -> tuple[float | None, float | None, float | None]:
    """Return precision, recall and f1 of counts; None where the denominator is 0."""
    return (
        right / predicted if predicted else None,
        right / true if true else None,
        2 * right / (predicted + true) if predicted + true else None,
    )


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))
