"""The page's part on single test images, or rows: which are shown, and what was right and wrong in each."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionyard.data.dataset import Dataset, DatasetVersion
from visionyard.data.tables import TableDataset
from visionyard.errors import ArtifactError
from visionyard.evaluation.matching import above, confusion_pairs, match_boxes
from visionyard.evaluation.per_image import ImageResult, read_results
from visionyard.evaluation.report.pictures import thumbnails

_SHOWN_COUNT = 200
# Of the images shown: the worst, the best, and the rest spread over the classes.
_WORST_SHARE, _BEST_SHARE = 0.4, 0.2
_BUDGET_BYTES = 5_500_000
_LISTED_CLASSES = 5


@dataclass(frozen=True)
class _Ranked:
    """One image to choose from: position in key order, how well it went in [0, 1], and its first true class."""

    position: int
    quality: float
    class_id: int


def images_part(evaluation: Path, dataset: DatasetVersion, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the test images that the page shows, the worst first; each with its picture, or with its values.

    Args:
        evaluation: The evaluation folder.
        dataset: The dataset version it was made on.
        metrics: Its `metrics.json`.

    Raises:
        ArtifactError: The per-image results are missing or do not fit the dataset version.
        DataError: An image cannot be decoded.
    """
    ranked = [_rank(position, result) for position, result in enumerate(read_results(evaluation))]
    chosen = choose(ranked, _SHOWN_COUNT)
    order = {one.position: place for place, one in enumerate(chosen)}
    results = {n: result for n, result in enumerate(read_results(evaluation)) if n in order}
    shown = [results[one.position] for one in chosen]
    keys = {result.key for result in shown}
    samples = {sample.key: sample for sample in dataset.samples(metrics["split"]) if sample.key in keys}
    if missing := sorted(keys - samples.keys()):
        raise ArtifactError(f"{evaluation}: judges {missing[0]}, which {dataset.folder} lacks; run validate again")
    looks: Iterable[dict[str, Any]] = ({"values": dataset.content(samples[result.key])} for result in shown)
    if isinstance(dataset, Dataset):
        pictures = thumbnails(dataset, [samples[result.key] for result in shown], budget_bytes=_BUDGET_BYTES)
        looks = ({"picture": picture} for picture in pictures)
    describe = _describe_detection if metrics["task"] == "detection" else _describe_classification
    columns = {"columns": list(dataset.content(samples[shown[0].key]))} if isinstance(dataset, TableDataset) else {}
    return {
        **columns,
        "total": len(ranked),
        "shown": [
            {**_common(result), **describe(result, metrics), **look} for result, look in zip(shown, looks, strict=True)
        ],
    }


def choose(ranked: Sequence[_Ranked], count: int) -> list[_Ranked]:
    """Return at most `count` images, the worst first: the worst, the best, others spread evenly over the classes."""
    by_quality = sorted(ranked, key=lambda one: (one.quality, one.position))
    if len(by_quality) <= count:
        return by_quality
    worst, best = int(count * _WORST_SHARE), int(count * _BEST_SHARE)
    middle = by_quality[worst : len(by_quality) - best]
    spread = _spread(middle, count - worst - best)
    return by_quality[:worst] + spread + by_quality[len(by_quality) - best :]


def _spread(ranked: Sequence[_Ranked], count: int) -> list[_Ranked]:
    """Return `count` images: class by class in turn, within a class evenly from worse to better."""
    by_class: defaultdict[int, list[_Ranked]] = defaultdict(list)
    for one in ranked:
        by_class[one.class_id].append(one)
    shares = _fair_shares({class_id: len(members) for class_id, members in by_class.items()}, count)
    chosen: list[_Ranked] = []
    for class_id, share in shares.items():
        members = by_class[class_id]
        chosen += [members[index * len(members) // share] for index in range(share)]
    return sorted(chosen, key=lambda one: (one.quality, one.position))


def _fair_shares(sizes: Mapping[int, int], count: int) -> dict[int, int]:
    """Divide `count` among classes as equally as their sizes allow; the lower class id gets what is left over."""
    shares: dict[int, int] = {}
    left = count
    # From the smallest class on: what it cannot take is left to the larger ones.
    for done, class_id in enumerate(sorted(sizes, key=lambda class_id: (sizes[class_id], -class_id))):
        shares[class_id] = min(sizes[class_id], left // (len(sizes) - done))
        left -= shares[class_id]
    return dict(sorted(shares.items()))


def _rank(position: int, result: ImageResult) -> _Ranked:
    class_id = result.truth_class_ids[0] if result.truth_class_ids else -1
    if result.boxes is None:
        return _Ranked(position, result.confidence[class_id], class_id)
    mistakes = result.false_count + result.missed_count
    f1 = 2 * result.right_count / (2 * result.right_count + mistakes) if result.right_count + mistakes else 1.0
    # Among images with equal counts, the one whose boxes fit less well is worse.
    return _Ranked(position, 0.9 * f1 + 0.1 * (1.0 if result.mean_iou is None else result.mean_iou), class_id)


def _common(result: ImageResult) -> dict[str, Any]:
    names = ("key", "group", "source", "timestamp_s", "width", "height", "is_right")
    return {
        **{name: getattr(result, name) for name in names},
        "score": _rounded(result.score),
        "mean_iou": _rounded(result.mean_iou),
    }


def _describe_detection(result: ImageResult, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the boxes with their matches: truth `[class, found by, xyxy]`, found `[class, on, confidence, iou, xyxy]`.

    `found by` and `on` are positions in the other list, -1 for none; a pair of unlike classes is a confusion.
    """
    shown = above(result.detections, metrics["thresholds"]["confidence"])
    matches = match_boxes(result.truth, shown, metrics["thresholds"]["iou"])
    background = len(metrics["classes"])
    pairs = confusion_pairs(result.truth, shown, matches, background)
    truth_columns = (result.truth.class_ids, matches.prediction_of_truth)
    found_columns = (shown.class_ids, matches.truth_of_prediction, shown.confidence, matches.iou)
    return {
        "truth": _table((*truth_columns, *result.truth.xyxy.T.round(1))),
        "found": _table((*found_columns, *shown.xyxy.T.round(1))),
        "counts": [result.right_count, result.false_count, result.missed_count],
        "cells": sorted({(int(row), int(column)) for row, column in pairs}),
    }


def _describe_classification(result: ImageResult, _: Mapping[str, Any]) -> dict[str, Any]:
    """Return the true class and the most probable ones as `[class, probability]`."""
    best = np.argsort(-result.probabilities, kind="stable")
    truth = result.truth_class_ids[0]
    return {
        "truth": truth,
        "found": [[int(class_id), _rounded(result.confidence[class_id])] for class_id in best[:_LISTED_CLASSES]],
        "truth_probability": _rounded(result.confidence[truth]),
        "cells": [[truth, int(best[0])]],
    }


def _table(columns: Iterable[np.ndarray]) -> list[list[float]]:
    return [
        [_rounded(value) or 0 for value in row] for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
