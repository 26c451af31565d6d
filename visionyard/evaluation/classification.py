"""Metrics of image classification: accuracy, per class figures, precision-recall curves and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionyard.errors import DataError, ShapeError
from visionyard.evaluation.numbers import require_finite

_TOP_COUNT = 5
_RECALL_POINTS = np.linspace(0, 1, 101)
# As in Guo et al. 2017, section 2: equally wide bins.
_BIN_COUNT = 15
# Probabilities of a float16 or int8 model do not sum to 1 exactly.
_SUM_TOLERANCE = 0.01
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ClassificationClassMetrics:
    """How well one class is told from the others.

    Attributes:
        class_name: Its name.
        truth_count: Images of it.
        prediction_count: Images it was predicted for.
        precision: Right predictions of all predictions of it; None when it was never predicted.
        recall: Right predictions of all its images; None without images.
        f1: 2 tp / (2 tp + fp + fn); None when it was neither there nor predicted.
        average_precision: Area under its one-against-the-rest curve; None without images.
        pr_precision: 101 precisions at recall 0, 0.01 ... 1, best at that recall or beyond; None without images.
        pr_confidence: 101 probabilities at which these recalls are reached; None without images.
    """

    class_name: str
    truth_count: int
    prediction_count: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    pr_precision: list[float] | None
    pr_confidence: list[float] | None


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose most probable class had a probability in one range.

    Attributes:
        low: Lower end of the range, not in it.
        high: Upper end, in it.
        count: Images in it.
        confidence: Their mean probability; None when empty.
        accuracy: Share of them that is right; None when empty.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ClassificationMetrics:
    """How well a classifier tells classes apart.

    Attributes:
        top_1: Share of images whose most probable class is the true one; on a tie the lower id counts.
        top_5: Share of images whose true class is among the five most probable; None with five classes or fewer.
        macro_precision: Mean over the classes that have images; a class never predicted counts 0.
        macro_recall: Mean over the classes that have images (balanced accuracy).
        macro_f1: Mean over the classes that have images.
        log_loss: Mean negative natural logarithm of the true class's probability.
        ece: Expected calibration error in [0, 1]: how far confidence and accuracy lie apart.
        per_class: In the order of the class ids.
        confusion: (C, C) int64 counts, rows truth, columns prediction.
        calibration: Fifteen equally wide ranges of confidence.
    """

    top_1: float
    top_5: float | None
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float
    ece: float
    per_class: list[ClassificationClassMetrics]
    confusion: np.ndarray
    calibration: list[CalibrationBin]

    def overall(self) -> dict[str, float]:
        """Return the figures over all classes by name, the main one first."""
        values = {
            "top_1": self.top_1,
            "top_5": self.top_5,
            "macro_f1": self.macro_f1,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "log_loss": self.log_loss,
            "ece": self.ece,
        }
        return {name: value for name, value in values.items() if value is not None}


def classification_metrics(
    truth_ids: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> ClassificationMetrics:
    """Measure predicted probabilities against true classes.

    Args:
        truth_ids: (N,) int, N of at least 1.
        probabilities: (N, C) float, each row summing to 1.
        classes: C class names in the order of their ids.

    Raises:
        ShapeError: An array has another shape.
        DataError: There are no images, a class id is not in `classes`, or a row is no distribution.
        NotANumberError: A probability is NaN or infinite.

    Source: calibration error of C. Guo et al., On Calibration of Modern Neural Networks, 2017, section 2;
        arXiv:1706.04599.
    """
    truth, scores = np.asarray(truth_ids, np.int64), np.asarray(probabilities, np.float64)
    _check(truth, scores, len(classes))
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    per_class = [_class_metrics(name, index, truth, scores, confusion) for index, name in enumerate(classes)]
    present = [one for one in per_class if one.truth_count]
    confidence, is_right = scores.max(axis=1), predicted == truth
    calibration = _calibration(confidence, is_right)
    of_truth = scores[np.arange(len(truth)), truth]
    return ClassificationMetrics(
        top_1=float(is_right.mean()),
        top_5=_top_share(truth, scores) if len(classes) > _TOP_COUNT else None,
        macro_precision=_mean([one.precision for one in present]),
        macro_recall=_mean([one.recall for one in present]),
        macro_f1=_mean([one.f1 for one in present]),
        log_loss=float(-np.log(np.clip(of_truth, _SMALLEST_PROBABILITY, 1)).mean()),
        ece=sum(abs((one.accuracy or 0) - (one.confidence or 0)) * one.count for one in calibration) / len(truth),
        per_class=per_class,
        confusion=confusion,
        calibration=calibration,
    )


def _check(truth: np.ndarray, scores: np.ndarray, class_count: int) -> None:
    if scores.shape != (len(truth), class_count):
        raise ShapeError(f"probabilities: expected ({len(truth)}, {class_count}), got {scores.shape}")
    if not len(truth):
        raise DataError("there are 0 images to measure on; label at least one image of the split")
    require_finite("probabilities", scores)
    is_unknown = (truth < 0) | (truth >= class_count)
    if is_unknown.any():
        raise DataError(f"truth_ids has class id {truth[is_unknown][0]}, expected 0 to {class_count - 1}")
    is_odd = (np.abs(scores.sum(axis=1) - 1) > _SUM_TOLERANCE) | (scores < 0).any(axis=1)
    if is_odd.any():
        row = int(is_odd.argmax())
        raise DataError(
            f"probabilities of image {row}: expected 0 or more each and a sum of 1, got sum {scores[row].sum():.4g}, "
            f"least {scores[row].min():.4g}; set the postprocessing's activation to softmax"
        )


def _class_metrics(
    name: str, index: int, truth: np.ndarray, scores: np.ndarray, confusion: np.ndarray
) -> ClassificationClassMetrics:
    right, true, predicted = int(confusion[index, index]), int(confusion[index].sum()), int(confusion[:, index].sum())
    curve = precision_recall_curve(truth == index, scores[:, index]) if true else None
    return ClassificationClassMetrics(
        class_name=name,
        truth_count=true,
        prediction_count=predicted,
        precision=right / predicted if predicted else None,
        recall=right / true if true else None,
        f1=2 * right / (true + predicted) if true + predicted else None,
        average_precision=curve[0] if curve else None,
        pr_precision=curve[1] if curve else None,
        pr_confidence=curve[2] if curve else None,
    )


def precision_recall_curve(is_true: np.ndarray, score: np.ndarray) -> tuple[float, list[float], list[float]]:
    """Return average precision and the curve of a score that should be high where `is_true`.

    Args:
        is_true: (N,) bool, at least one True.
        score: (N,) float; equal scores are one threshold, whatever their order.

    Returns:
        The average precision (sum of precision times step of recall, not interpolated); 101 precisions at recall
        0 ... 1, each the best at that recall or beyond; and the scores at which those recalls are reached.
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    is_last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    right = np.cumsum(is_true[order])[is_last_of_tie]
    precision, recall = right / (np.flatnonzero(is_last_of_tie) + 1), right / right[-1]
    average_precision = float(np.sum(precision * np.diff(recall, prepend=0.0)))
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    # A recall of 0.07 must find the point 7/100, which floating point may put a hair below.
    at = np.searchsorted(recall, _RECALL_POINTS - 1e-12)
    return average_precision, best_beyond[at].tolist(), ranked[is_last_of_tie][at].tolist()


def _top_share(truth: np.ndarray, scores: np.ndarray) -> float:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP_COUNT]
    return float((best == truth[:, None]).any(axis=1).mean())


def _calibration(confidence: np.ndarray, is_right: np.ndarray) -> list[CalibrationBin]:
    edges = np.linspace(0, 1, _BIN_COUNT + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, _BIN_COUNT - 1)
    bins = []
    for index in range(_BIN_COUNT):
        is_in = bin_of == index
        count = int(is_in.sum())
        bins.append(
            CalibrationBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=count,
                confidence=float(confidence[is_in].mean()) if count else None,
                accuracy=float(is_right[is_in].mean()) if count else None,
            )
        )
    return bins


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([value or 0.0 for value in values]))
