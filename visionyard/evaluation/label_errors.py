"""Label errors by confident disagreement: where a trained model contradicts a label and is as sure as it usually is.

What "sure" means differs by class, so the threshold of a class is the model's mean confidence where label and model
agree on it. The model must not have learnt the labels it judges: per-image results are of the test split, which it
never saw.

| kind | told when |
| --- | --- |
| label_disagrees | another class reaches its own threshold and is more probable than the label's |
| box_class_disagrees | a detection of another class, at its threshold, overlaps the box more confidently than its own |
| box_missing | a detection at its threshold overlaps no true box |
| box_unseen | no detection overlaps the box, and another in the image is right at its threshold |

Overlap is an IoU of at least 0.5.

Source: C. Northcutt, L. Jiang, I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70 (2021),
section 3: thresholds by class, off-diagonals of the confident joint, ranked by normalised margin. Swapped, overlooked
and needless boxes as in U. Tkachenko, A. Thyagarajan, J. Mueller, ObjectLab, arXiv:2309.00832 (2023); the rules above
are simpler than theirs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from visionyard.data.dataset import Dataset
from visionyard.data.items import SPLITS, Split
from visionyard.data.quality import Mark, Suspect, SuspectReport
from visionyard.data.quality.suspects import in_order
from visionyard.errors import ArtifactError
from visionyard.evaluation.evaluate import read_metrics
from visionyard.evaluation.matching import is_right_at_any_threshold
from visionyard.evaluation.per_image import ImageResult, read_results
from visionyard.geometry import iou_matrix

_MIN_IOU = 0.5
# A box counts as unseen below this share of its class's threshold: a model that half sees an object is no witness
# against the box.
_UNSEEN_SHARE = 0.1
# Of ten test sets in wide use between 0.15 % and 10 % of the labels are wrong: C. Northcutt, A. Athalye, J. Mueller,
# Pervasive Label Errors in Test Sets, NeurIPS Datasets and Benchmarks 2021.
_USUAL_ERROR_SHARE = 0.1


def judge_labels(evaluation: Path, dataset: Dataset) -> SuspectReport:
    """Return the labels of an evaluated split that the model contradicts.

    Args:
        evaluation: What `validate_model` wrote.
        dataset: The version that it was evaluated on.

    Raises:
        ArtifactError: The evaluation is incomplete, or of another dataset version.
    """
    metrics = read_metrics(evaluation)
    if metrics["dataset_digest"] != dataset.digest:
        raise ArtifactError(
            f"{evaluation}: made on the dataset version {metrics['dataset_digest'][:12]}..., {dataset.folder} is "
            f"{dataset.digest[:12]}...; run validate again"
        )
    split: Split = metrics["split"]
    found = list(find_label_errors(lambda: read_results(evaluation), classes=dataset.classes, split=split))
    counts = {one: dataset.count(one) for one in SPLITS}
    others = " and ".join(f"{count:,} of {one}" for one, count in counts.items() if count and one != split)
    judged = f"labels judged by the model: {counts[split]:,} images of {split}"
    note = f"{judged}; not judged: {others}, for a run keeps no results of them, and a model agrees with what it learnt"
    return SuspectReport(
        label=str(dataset.folder),
        task=dataset.task,
        classes=tuple(dataset.classes),
        item_count=sum(counts.values()),
        suspects=in_order(found),
        balance=(),
        shifts=(),
        notes=(note if others else judged, *_doubts(found, sum(len(one.class_ids) for one in dataset.samples(split)))),
    )


def _doubts(found: Sequence[Suspect], label_count: int) -> Iterator[str]:
    """Yield a warning when the model contradicts more labels than are ever wrong."""
    count = sum(one.kind != "box_missing" for one in found)
    if count > _USUAL_ERROR_SHARE * label_count:
        yield (
            f"the model contradicts {count:,} of {label_count:,} labels: more likely it is the model that is wrong; "
            "train a better one before you trust its judgement"
        )


def find_label_errors(
    results: Callable[[], Iterable[ImageResult]], *, classes: Sequence[str], split: Split = "test"
) -> Iterator[Suspect]:
    """Yield labels that the model contradicts, in the order of the results.

    Args:
        results: Returns the results of a run, each time from the start; they are gone through twice and never held.
        classes: Names in the order of their ids.
        split: Which the results are of.
    """
    thresholds = _thresholds(results(), class_count=len(classes))
    for result in results():
        if result.boxes is None:
            yield from _of_class(result, thresholds, classes, split)
        else:
            yield from _of_boxes(result, thresholds, classes, split)


def _thresholds(results: Iterable[ImageResult], *, class_count: int) -> np.ndarray:
    """Return the (C,) confidence from which on the model is sure of a class; infinite for one it never confirmed."""
    sums, counts = np.zeros(class_count), np.zeros(class_count)
    for result in results:
        if result.boxes is None:
            class_id = result.truth_class_ids[0]
            sums[class_id] += result.probabilities[class_id]
            counts[class_id] += 1
            continue
        found = result.detections
        is_right = is_right_at_any_threshold(result.truth, found, _MIN_IOU)
        np.add.at(sums, found.class_ids[is_right], found.confidence[is_right])
        np.add.at(counts, found.class_ids[is_right], 1)
    thresholds = np.full(class_count, np.inf)
    np.divide(sums, counts, out=thresholds, where=counts > 0)
    return thresholds


def _of_class(result: ImageResult, thresholds: np.ndarray, classes: Sequence[str], split: Split) -> Iterator[Suspect]:
    probabilities, label = result.probabilities, result.truth_class_ids[0]
    # Several classes may reach their thresholds; the most probable of them counts.
    sure = np.where(probabilities >= thresholds, probabilities, -1.0)
    said = int(sure.argmax())
    margin = float(probabilities[said] - probabilities[label])
    if sure[said] >= 0 and margin > 0:
        message = f"labelled {classes[label]} ({probabilities[label]:.2f}), the model says {classes[said]}"
        yield Suspect(
            kind="label_disagrees",
            key=result.key,
            source=result.source,
            split=split,
            message=f"{message} ({probabilities[said]:.2f})",
            score=round(margin, 4),
        )


def _of_boxes(result: ImageResult, thresholds: np.ndarray, classes: Sequence[str], split: Split) -> Iterator[Suspect]:
    truth, found = result.truth, result.detections
    overlap = iou_matrix(found.xyxy, truth.xyxy) if len(truth) else np.zeros((len(found), 0))
    touches = overlap >= _MIN_IOU
    is_sure = found.confidence >= thresholds[found.class_ids]
    is_own = found.class_ids[:, None] == truth.class_ids[None, :]

    def suspect(kind: str, message: str, score: float, *marks: Mark) -> Suspect:
        return Suspect(kind, result.key, result.source, split, message, round(score, 4), marks)

    def seen(row: int) -> Mark:
        return _mark(found.xyxy[row], "model", int(found.class_ids[row]), classes, float(found.confidence[row]))

    is_confirmed = bool((is_sure & (touches & is_own).any(axis=1)).any())
    for column, class_id in enumerate(truth.class_ids.tolist()):
        labelled = _mark(truth.xyxy[column], "label", class_id, classes)
        own = float(found.confidence[touches[:, column] & is_own[:, column]].max(initial=0.0))
        others = np.flatnonzero(touches[:, column] & ~is_own[:, column] & is_sure)
        if len(others):
            row = int(others[found.confidence[others].argmax()])
            # A detection that finds its own object next to this one says nothing of this one.
            margin = float(found.confidence[row]) - own
            if margin > 0 and not (touches[row] & is_own[row]).any():
                message = f"labelled {classes[class_id]} ({own:.2f}); {seen(row).text}"
                yield suspect("box_class_disagrees", message, margin, labelled, seen(row))
        seen_at = float(found.confidence[touches[:, column]].max(initial=0.0))
        limit = _UNSEEN_SHARE * thresholds[class_id]
        if is_confirmed and np.isfinite(limit) and seen_at < limit:
            message = f"labelled {classes[class_id]}, the model sees nothing there ({seen_at:.3f})"
            yield suspect("box_unseen", message, 1.0 - seen_at, labelled)
    for row in _lonely(found.xyxy, found.confidence, is_sure & ~touches.any(axis=1)):
        best = float(overlap[row].max(initial=0.0))
        near = f"; the nearest box overlaps by {best:.2f}" if best > 0 else ""
        message = f"no box; {seen(row).text}{near}"
        yield suspect("box_missing", message, float(found.confidence[row]), seen(row))


def _lonely(xyxy: np.ndarray, confidence: np.ndarray, is_kept: np.ndarray) -> Iterator[int]:
    """Yield detections, the most confident first, one of each group that overlaps."""
    rows = np.flatnonzero(is_kept)
    told: list[int] = []
    for row in rows[np.argsort(-confidence[rows], kind="stable")].tolist():
        if not told or iou_matrix(xyxy[[row]], xyxy[told]).max() < _MIN_IOU:
            told.append(row)
            yield row


def _mark(xyxy: np.ndarray, who: str, class_id: int, classes: Sequence[str], confidence: float | None = None) -> Mark:
    left, top, right, bottom = xyxy.tolist()
    told = "" if confidence is None else f" {confidence:.2f}"
    return Mark((left, top, right, bottom), f"{who}: {classes[class_id]}{told}", class_id)
