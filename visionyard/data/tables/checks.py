"""What is wrong with the rows of a table as a whole: the same row twice, and columns that give the target away."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionyard.data.items import Problems
from visionyard.data.tables.rows import Rows, batches, column_groups
from visionyard.data.tables.schema import Column, TableSchema

# A column tells the target when knowing it leaves next to nothing open, and without it much is.
_TOLD_SHARE = 0.995
_MOST_BASELINE = 0.95
_TOLD_VARIANCE = 0.999
_BINS = 100
# With fewer rows in a bin its own few values would tell the target by chance.
_ROWS_A_BIN = 5
_SAMPLED_ROWS = 100_000


def check_rows(rows: Rows, schema: TableSchema, problems: Problems) -> None:
    """Note rows that are the same in all columns, and those that are alike but for the target."""
    _, contents = np.unique(rows.contents, axis=0, return_inverse=True)
    twice = len(rows.targets) - int(contents.max()) - 1
    if twice:
        problems.add("duplicate_rows", "", f"{twice} rows are the same as another one in every column; kept together")
    _, kinds, sizes = np.unique(rows.features, return_inverse=True, return_counts=True)
    pairs = np.unique(np.stack([kinds.astype(np.float64), rows.targets.astype(np.float64)]), axis=1)
    target_counts = np.bincount(pairs[0].astype(np.int64), minlength=len(sizes))
    torn = int(sizes[target_counts > 1].sum())
    if torn:
        message = f"{torn} rows have the same features as another one and another {schema.target.name}"
        problems.add("conflicting_labels", "", f"{message}: no model can get both right; kept")


def check_leaks(path: Path, rows: Rows, schema: TableSchema, problems: Problems) -> None:
    """Note features that alone tell the target, as what is only known afterwards does.

    Looks at up to about 100,000 rows, chosen by their hashes.
    """
    step = np.uint64(max(1, -(-len(rows.targets) // _SAMPLED_ROWS)))
    is_sampled = rows.contents[:, 0] % step == 0
    targets = rows.targets[is_sampled]
    if not len(targets) or (schema.task == "classification" and _baseline(targets) > _MOST_BASELINE):
        return
    for column, sampled in _sampled(path, schema.features, is_sampled):
        values = _bins(column, sampled)
        share = _told_classes(values, targets) if schema.task == "classification" else _told_variance(values, targets)
        least = _TOLD_SHARE if schema.task == "classification" else _TOLD_VARIANCE
        if share is not None and share >= least:
            what = "of rows" if schema.task == "classification" else "of the variance"
            problems.add(
                "column_tells_target",
                "",
                f"it alone tells {schema.target.name} in {share:.1%} {what}; is it only known afterwards? If so, name "
                "it under ignore in the schema file",
                column.name,
            )


def _bins(column: Column, values: Any) -> np.ndarray:
    """Return the bin of each sampled row in a column, (N,) int64; a missing value has a bin of its own."""
    if column.type != "numeric":
        return np.asarray(values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)) + 1
    numbers = values.to_numpy(zero_copy_only=False)
    present = numbers[~np.isnan(numbers)]
    count = min(_BINS, max(1, len(present) // _ROWS_A_BIN))
    edges = np.unique(np.quantile(present, np.arange(1, count) / count)) if len(present) else np.empty(0)
    return np.asarray(np.where(np.isnan(numbers), 0, np.searchsorted(edges, numbers, side="right") + 1))


def _sampled(path: Path, columns: Sequence[Column], is_sampled: np.ndarray) -> Iterator[tuple[Column, Any]]:
    """Yield each column with its values in the sampled rows."""
    import pyarrow as pa

    for group in column_groups(columns, int(is_sampled.sum())):
        start, parts = 0, []
        for batch in batches(path, [column.name for column in group]):
            chosen = pa.array(is_sampled[start : start + batch.num_rows])
            start += batch.num_rows
            parts.append(batch.filter(chosen))
        for column in group:
            yield column, pa.concat_arrays([part.column(column.name) for part in parts])


def _baseline(targets: np.ndarray) -> float:
    return float(np.bincount(targets).max() / len(targets))


def _told_classes(bins: np.ndarray, targets: np.ndarray) -> float | None:
    """Return the share of rows that are of their bin's most frequent class; None when the bins are too small."""
    used, places = np.unique(bins, return_inverse=True)
    if len(targets) < _ROWS_A_BIN * len(used):
        return None
    table = np.zeros((len(used), int(targets.max()) + 1), dtype=np.int64)
    np.add.at(table, (places, targets), 1)
    return float(table.max(axis=1).sum() / len(targets))


def _told_variance(bins: np.ndarray, targets: np.ndarray) -> float | None:
    """Return the share of the target's variance that lies between bins; None when they are too small."""
    used, places = np.unique(bins, return_inverse=True)
    total = float(((targets - targets.mean()) ** 2).sum())
    if len(targets) < _ROWS_A_BIN * len(used) or total == 0:
        return None
    means = np.bincount(places, weights=targets) / np.bincount(places)
    return float(1.0 - ((targets - means[places]) ** 2).sum() / total)
