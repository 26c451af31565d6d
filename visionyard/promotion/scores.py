"""A model's results on the test images, kept so that its metric can be taken again of any weighting of the groups.

A bootstrap draws whole groups (clips, scenes), so a draw is a count for each group, and the metric of a draw is the
metric of the images weighted by their group's count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from visionyard.data.items import Task
from visionyard.evaluation import ImageResult
from visionyard.evaluation.matching import is_right_at_any_threshold
from visionyard.transforms import Detections

# As in visionyard.evaluation.detection: the COCO protocol's limit, overlap and recall points.
_MAX_DETECTIONS = 100
_IOU = 0.5
_RECALL_POINTS = np.linspace(0, 1, 101)
# Values of one block of draws and detections in float64: 64 MB, whatever the number of draws.
_BLOCK_VALUES = 8_000_000


class Scores(Protocol):
    """One model's results by group."""

    @property
    def cost(self) -> int:
        """Values that one draw goes through."""

    def per_class(self, counts: np.ndarray) -> np.ndarray:
        """Return the class measure for (B, G) counts of the groups: (B, C), NaN where a class has no truth."""

    def overall(self, counts: np.ndarray, per_class: np.ndarray) -> np.ndarray:
        """Return the main metric (B,) for the same counts; NaN where there is no truth at all."""

    def digest_of_group(self, group: int) -> bytes:
        """Return what the group's results come down to; equal for two models that did the same there."""


@dataclass(frozen=True)
class ClassificationScores:
    """Images and right answers by group and class; the class measure is recall, the main metric `top_1`.

    Attributes:
        image_counts: (G, C) int64.
        right_counts: (G, C) int64.
        answers: One a group: whether each of its images was right, in key order.
    """

    image_counts: np.ndarray
    right_counts: np.ndarray
    answers: list[bytes]

    @property
    def cost(self) -> int:
        """See Scores."""
        return int(self.image_counts.size)

    def per_class(self, counts: np.ndarray) -> np.ndarray:
        """See Scores."""
        return _share(counts @ self.right_counts, counts @ self.image_counts)

    def overall(self, counts: np.ndarray, per_class: np.ndarray) -> np.ndarray:
        """See Scores."""
        return _share(counts @ self.right_counts.sum(axis=1), counts @ self.image_counts.sum(axis=1))

    def digest_of_group(self, group: int) -> bytes:
        """See Scores."""
        return self.answers[group]


@dataclass(frozen=True)
class _Ranking:
    """The detections of one class, most confident first.

    Attributes:
        is_right: (D,) bool.
        groups: (D,) int64.
        truth_counts: (G,) int64, true boxes of the class.
    """

    is_right: np.ndarray
    groups: np.ndarray
    truth_counts: np.ndarray


@dataclass(frozen=True)
class DetectionScores:
    """Ranked detections by class; the class measure is AP at IoU 0.50, the main metric its mean, `map_50`.

    Attributes:
        rankings: One a class.
        answers: One a group: classes, confidences and rightness of its detections, in key order.
    """

    rankings: list[_Ranking]
    answers: list[bytes]

    @property
    def cost(self) -> int:
        """See Scores."""
        return sum(len(one.groups) for one in self.rankings)

    def per_class(self, counts: np.ndarray) -> np.ndarray:
        """See Scores."""
        return np.stack([_average_precisions(one, counts) for one in self.rankings], axis=1)

    def overall(self, counts: np.ndarray, per_class: np.ndarray) -> np.ndarray:
        """See Scores."""
        is_there = np.isfinite(per_class)
        return _share(np.where(is_there, per_class, 0.0).sum(axis=1), is_there.sum(axis=1))

    def digest_of_group(self, group: int) -> bytes:
        """See Scores."""
        return self.answers[group]


def collect_scores(results: Iterable[ImageResult], groups: Sequence[str], classes: Sequence[str], task: Task) -> Scores:
    """Return the scores of one model.

    Args:
        results: Of the test images, in key order; those of other groups are left out.
        groups: G names.
        classes: C names in the order of their ids.
        task: What is measured.
    """
    place = {name: number for number, name in enumerate(groups)}
    kept = ((one, place[one.group]) for one in results if one.group in place)
    if task == "classification":
        return _classification(kept, len(groups), len(classes))
    return _detection(kept, len(groups), len(classes))


def _classification(kept: Iterable[tuple[ImageResult, int]], groups: int, classes: int) -> ClassificationScores:
    images, right = np.zeros((groups, classes), np.int64), np.zeros((groups, classes), np.int64)
    answers = [bytearray() for _ in range(groups)]
    for result, group in kept:
        class_id = result.truth_class_ids[0]
        images[group, class_id] += 1
        right[group, class_id] += result.is_right
        answers[group].append(result.is_right)
    return ClassificationScores(images, right, [bytes(one) for one in answers])


def _detection(kept: Iterable[tuple[ImageResult, int]], groups: int, classes: int) -> DetectionScores:
    truth_counts = np.zeros((classes, groups), np.int64)
    parts: list[list[tuple[np.ndarray, np.ndarray, int]]] = [[] for _ in range(classes)]
    answers = [bytearray() for _ in range(groups)]
    for result, group in kept:
        truth, found = result.truth, _most_confident(result.detections)
        is_right = is_right_at_any_threshold(truth, found, _IOU)
        np.add.at(truth_counts[:, group], truth.class_ids, 1)
        for class_id in np.unique(found.class_ids):
            is_class = found.class_ids == class_id
            parts[class_id].append((found.confidence[is_class], is_right[is_class], group))
        answers[group] += found.class_ids.tobytes() + found.confidence.tobytes() + is_right.tobytes() + b"|"
    rankings = [_rank(parts[class_id], truth_counts[class_id]) for class_id in range(classes)]
    return DetectionScores(rankings, [bytes(one) for one in answers])


def _most_confident(found: Detections) -> Detections:
    """Return the hundred most confident detections of each class, in order of confidence."""
    order = np.argsort(-found.confidence, kind="stable")
    rank = np.zeros(len(order), np.int64)
    for class_id in np.unique(found.class_ids):
        of_class = np.flatnonzero(found.class_ids[order] == class_id)
        rank[of_class] = np.arange(len(of_class))
    order = order[rank < _MAX_DETECTIONS]
    return Detections(found.xyxy[order], found.class_ids[order], found.confidence[order])


def _rank(parts: Sequence[tuple[np.ndarray, np.ndarray, int]], truth_counts: np.ndarray) -> _Ranking:
    if not parts:
        return _Ranking(np.zeros(0, bool), np.zeros(0, np.int64), truth_counts)
    confidence = np.concatenate([part[0] for part in parts])
    is_right = np.concatenate([part[1] for part in parts])
    groups = np.repeat([part[2] for part in parts], [len(part[0]) for part in parts])
    order = np.argsort(-confidence, kind="stable")
    # What comes after the last right one changes no precision at any recall that is reached.
    right_places = np.flatnonzero(is_right[order])
    order = order[: right_places[-1] + 1] if len(right_places) else order[:0]
    return _Ranking(is_right[order], groups[order], truth_counts)


def _average_precisions(ranking: _Ranking, counts: np.ndarray) -> np.ndarray:
    """Return AP at IoU 0.50 for (B, G) counts: 101 recall points, precision the best at that recall or beyond."""
    truth = counts @ ranking.truth_counts
    values = np.where(truth > 0, 0.0, np.nan)
    detections = len(ranking.groups)
    if not detections:
        return values
    block = max(1, _BLOCK_VALUES // detections)
    for start in range(0, len(counts), block):
        weights = counts[start : start + block][:, ranking.groups]
        right = (weights * ranking.is_right).cumsum(axis=1)
        precision = _share(right, weights.cumsum(axis=1), empty=0.0)
        best_beyond = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for row in range(len(weights)):
            total = truth[start + row]
            if total:
                at = np.searchsorted(right[row] / total, _RECALL_POINTS, side="left")
                reached = at[at < detections]
                values[start + row] = best_beyond[row, reached].sum() / len(_RECALL_POINTS)
    return values


def _share(part: np.ndarray, whole: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    shares = np.full(np.shape(whole), empty, np.float64)
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares
