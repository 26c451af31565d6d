"""The page's part on the data: counts, the split by group, examples, problems found, the leak certificate."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from visionyard.data.artifacts import read_problems
from visionyard.data.dataset import Dataset, DatasetVersion, Sample
from visionyard.data.items import SPLITS, Problem
from visionyard.evaluation.report.pictures import thumbnails

_EXAMPLE_COUNT = 12
_EXAMPLES_BUDGET_BYTES = 600_000
_PAIRS_BUDGET_BYTES = 800_000
# Enough to see what is going on; the page says how many more stand in problems.jsonl.
_LISTED_PROBLEMS = 100
_LISTED_GROUPS = 300


def dataset_part(dataset: DatasetVersion) -> dict[str, Any]:
    """Return what the page says of a dataset version; of a table without examples, which the test rows are enough of.

    Raises:
        DataError: An example image cannot be decoded.
    """
    items: Counter[str] = Counter()
    labels: Counter[tuple[int, str]] = Counter()
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for split in SPLITS:
        for sample in dataset.samples(split):
            items[split] += 1
            groups[sample.group][split] += 1
            labels.update((int(class_id), split) for class_id in sample.class_ids)
    return {
        "digest": dataset.digest,
        "splits": {split: items[split] for split in SPLITS},
        "label_counts": [[labels[class_id, split] for split in SPLITS] for class_id in range(len(dataset.classes))],
        "groups": _group_table(groups),
        "examples": _examples(dataset) if isinstance(dataset, Dataset) else [],
        "problems": _problem_table(read_problems(dataset.folder)),
        "leak": _leak(dataset) if isinstance(dataset, Dataset) else dataset.info["leak"],
        "hidden": _hidden(dataset),
    }


def _hidden(dataset: DatasetVersion) -> str:
    """Return what was hidden in the images before they were stored, in words; empty when nothing was to be."""
    parts: list[dict[str, Any]] = list(dataset.info.get("anonymization", {}).values())
    if not parts:
        return ""
    regions, images = (sum(part[name] for part in parts) for name in ("region_count", "image_count"))
    return (
        f"Anonymized before it was stored ({parts[0]['method']}): {regions} regions in {images} images, classes "
        f"{', '.join(parts[0]['classes'])}, found by {parts[0]['model']} from confidence {parts[0]['confidence']:g} on."
    )


def _leak(dataset: Dataset) -> dict[str, Any] | None:
    """Return the leak certificate, its pairs with their pictures; None where the version has none."""
    leak = dataset.info.get("leak")
    if not leak:
        return None
    sides = [pair[side] for pair in leak["examples"] for side in ("first", "second")]
    keys = {side["key"] for side in sides}
    samples = {sample.key: sample for split in SPLITS for sample in dataset.samples(split) if sample.key in keys}
    ordered = [samples[key] for key in sorted(samples)]
    pictures = dict(zip(sorted(samples), thumbnails(dataset, ordered, budget_bytes=_PAIRS_BUDGET_BYTES), strict=True))
    examples = [
        {**pair, **{side: {**pair[side], "picture": pictures.get(pair[side]["key"])} for side in ("first", "second")}}
        for pair in leak["examples"]
    ]
    return {**leak, "examples": examples}


def _group_table(groups: dict[str, Counter[str]]) -> dict[str, Any]:
    """Return the groups of each split, largest first, and those that stand in two splits."""
    rows = {
        split: sorted(((counts[split], name) for name, counts in groups.items() if counts[split]), key=_large_first)
        for split in SPLITS
    }
    return {
        "is_one_an_item": all(counts.total() == 1 for counts in groups.values()),
        "counts": {split: len(rows[split]) for split in SPLITS},
        "largest": {split: [[name, count] for count, name in rows[split][:_LISTED_GROUPS]] for split in SPLITS},
        "straddling": sorted(name for name, counts in groups.items() if len(+counts) > 1)[:_LISTED_GROUPS],
        "straddling_count": sum(len(+counts) > 1 for counts in groups.values()),
    }


def _large_first(row: tuple[int, str]) -> tuple[int, str]:
    return -row[0], row[1]


def _examples(dataset: Dataset) -> list[dict[str, Any]]:
    """Return training images spread evenly over the split's keys, so over its clips and classes too."""
    count = dataset.count("train")
    positions = np.unique(np.linspace(0, max(count - 1, 0), min(count, _EXAMPLE_COUNT)).round().astype(int))
    samples = [dataset.sample("train", int(position)) for position in positions]
    pictures = thumbnails(dataset, samples, budget_bytes=_EXAMPLES_BUDGET_BYTES)
    return [{**described(sample), "picture": picture} for sample, picture in zip(samples, pictures, strict=True)]


def described(sample: Sample) -> dict[str, Any]:
    """Return an image and its label as plain values; boxes as `[class id, left, top, right, bottom]`."""
    return {
        "key": sample.key,
        "group": sample.group,
        "source": sample.source,
        "timestamp_s": sample.timestamp_s,
        "width": sample.width,
        "height": sample.height,
        "class_ids": sample.class_ids.tolist(),
        "boxes": sample.xyxy.round(1).tolist(),
    }


def _problem_table(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the problems by code, the most frequent first."""
    by_code = groupby(sorted(problems, key=lambda problem: problem.code), key=lambda problem: problem.code)
    table = [(code, list(found)) for code, found in by_code]
    return [
        {
            "code": code,
            "count": len(found),
            "listed": [
                {"file": one.file, "item": one.item, "message": one.message} for one in found[:_LISTED_PROBLEMS]
            ],
        }
        for code, found in sorted(table, key=lambda row: (-len(row[1]), row[0]))
    ]
