"""Which detection found which true box: one way of counting for figures, confusion matrix and pictures."""

from dataclasses import dataclass

import numpy as np

from visionyard.geometry import iou_matrix
from visionyard.transforms import Detections


@dataclass(frozen=True)
class TrueBoxes:
    """The label of one image.

    Attributes:
        xyxy: (M, 4) float, pixels of the image.
        class_ids: (M,) int64.
    """

    xyxy: np.ndarray
    class_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.class_ids)


@dataclass(frozen=True)
class Matches:
    """Which detection belongs to which true box.

    Attributes:
        truth_of_prediction: (N,) int64, index of the true box each detection lies on; -1 where it lies on none.
        iou: (N,) float64, overlap with that box; 0 where it lies on none.
        is_right: (N,) bool, the detection lies on a true box of its own class.
        prediction_of_truth: (M,) int64, the reverse; -1 where nothing found the box.
    """

    truth_of_prediction: np.ndarray
    iou: np.ndarray
    is_right: np.ndarray
    prediction_of_truth: np.ndarray


def above(predictions: Detections, confidence_threshold: float) -> Detections:
    """Return the detections with at least the given confidence, in the order they had."""
    is_kept = predictions.confidence >= confidence_threshold
    return Detections(predictions.xyxy[is_kept], predictions.class_ids[is_kept], predictions.confidence[is_kept])


def match_boxes(truth: TrueBoxes, predictions: Detections, iou_threshold: float) -> Matches:
    """Match detections to true boxes, each to at most one.

    First within classes, as the COCO protocol does: from the most confident detection down, each takes the free
    true box of its class it overlaps most. What is left is then matched across classes, largest overlap first:
    those pairs are confusions of one class with another.

    Args:
        truth: M true boxes.
        predictions: N detections, in any order.
        iou_threshold: Least overlap of a pair, in (0, 1].

    Returns:
        The matches. On a tie of confidence or overlap the lower index comes first.
    """
    overlap = iou_matrix(predictions.xyxy, truth.xyxy)
    is_same_class = predictions.class_ids[:, None] == truth.class_ids[None, :]
    truth_of_prediction = _match_within_classes(overlap * is_same_class, predictions.confidence, iou_threshold)
    is_right = truth_of_prediction >= 0
    prediction_of_truth = np.full(len(truth), -1, np.int64)
    prediction_of_truth[truth_of_prediction[is_right]] = np.flatnonzero(is_right)
    rows, columns = np.nonzero(overlap >= iou_threshold)
    for pair in np.argsort(-overlap[rows, columns], kind="stable"):
        row, column = rows[pair], columns[pair]
        if not is_same_class[row, column] and truth_of_prediction[row] < 0 and prediction_of_truth[column] < 0:
            truth_of_prediction[row], prediction_of_truth[column] = column, row
    iou = np.where(
        truth_of_prediction >= 0, overlap[np.arange(len(predictions)), truth_of_prediction] if len(truth) else 0.0, 0.0
    )
    return Matches(truth_of_prediction, iou, is_right, prediction_of_truth)


def is_right_at_any_threshold(truth: TrueBoxes, predictions: Detections, iou_threshold: float) -> np.ndarray:
    """Return which detections lie on a true box of their class that no more confident one has taken.

    Whether a detection is right depends on more confident ones only, so one matching of all of them tells what is right
    at each confidence threshold.

    Args:
        truth: M true boxes.
        predictions: N detections, in any order.
        iou_threshold: Least overlap of a pair, in (0, 1].

    Returns:
        (N,) bool.
    """
    is_same_class = predictions.class_ids[:, None] == truth.class_ids[None, :]
    overlap = iou_matrix(predictions.xyxy, truth.xyxy) * is_same_class
    return _match_within_classes(overlap, predictions.confidence, iou_threshold) >= 0


def _match_within_classes(overlap: np.ndarray, confidence: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the (N,) true box of each detection or -1; `overlap` (N, M) is 0 for pairs of different classes."""
    truth_of_prediction = np.full(len(overlap), -1, np.int64)
    free = overlap.copy()
    # Most of the many uncertain detections touch nothing and need no look.
    touching = np.flatnonzero((overlap >= iou_threshold).any(axis=1))
    for index in touching[np.argsort(-confidence[touching], kind="stable")]:
        best = int(free[index].argmax())
        if free[index, best] >= iou_threshold:
            truth_of_prediction[index] = best
            free[:, best] = 0
    return truth_of_prediction


def confusion_pairs(truth: TrueBoxes, predictions: Detections, matches: Matches, background: int) -> np.ndarray:
    """Return what stood where and what was said of it, a row for each detection and for each true box nothing found.

    Args:
        truth: M true boxes.
        predictions: N detections.
        matches: Of these two.
        background: The id that stands for "no object": the truth of a false alarm, the prediction of a missed box.

    Returns:
        (N + missed, 2) int64 rows of true class id, predicted class id; detections first, in their order.
    """
    is_matched = matches.truth_of_prediction >= 0
    said_of = np.full(len(predictions), background, np.int64)
    said_of[is_matched] = truth.class_ids[matches.truth_of_prediction[is_matched]]
    missed = truth.class_ids[matches.prediction_of_truth < 0]
    found = np.stack([said_of, predictions.class_ids.astype(np.int64)], axis=1)
    lost = np.stack([missed.astype(np.int64), np.full(len(missed), background, np.int64)], axis=1)
    return np.concatenate([found, lost])
