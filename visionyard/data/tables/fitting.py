"""What the preprocessing of a table's rows has to know of the data: fitted on the train split, and on it alone."""

from typing import Any

import numpy as np

from visionyard.data.tables.dataset import TableDataset
from visionyard.data.tables.rows import column_groups
from visionyard.data.tables.schema import Column
from visionyard.errors import DataError
from visionyard.transforms.rows import BooleanColumn, CategoryColumn, NumericColumn, TablePreprocessing

# Further ones count as not seen: they are rare by then, and half precision still tells ids up to 2048 apart.
MOST_CATEGORIES = 2000
# Sums of floats differ in their last bits from processor to processor.
_DIGITS = 9


def fit_preprocessing(dataset: TableDataset) -> TablePreprocessing:
    """Return the preprocessing of a table's rows, with some columns in memory at a time.

    Raises:
        DataError: The table has no column that a model could learn from.
    """
    features = dataset.schema.features
    if not features:
        raise DataError(
            f"{dataset.folder}: no column of the table is a feature; only numbers, categories, booleans are"
        )
    columns = []
    for group in column_groups(features, dataset.count("train")):
        batches = list(dataset.batches("train", columns=[column.name for column in group]))
        columns += [_fitted(column, [batch.column(column.name) for batch in batches]) for column in group]
    return TablePreprocessing(columns=columns, missing=sorted(dataset.schema.missing))


def _fitted(column: Column, parts: list[Any]) -> NumericColumn | CategoryColumn | BooleanColumn:
    if column.type == "boolean":
        return BooleanColumn(name=column.name)
    if column.type == "categorical":
        return CategoryColumn(name=column.name, values=_categories(parts))
    mean, scale = _mean_and_scale([part.drop_null().to_numpy(zero_copy_only=False) for part in parts])
    return NumericColumn(name=column.name, mean=mean, scale=scale, minimum=column.minimum, maximum=column.maximum)


def _categories(parts: list[Any]) -> list[str]:
    """Return the values that occur, sorted; of more than `MOST_CATEGORIES` the most frequent."""
    counts: dict[str, int] = {}
    for part in parts:
        for each in part.drop_null().value_counts().to_pylist():
            counts[each["values"]] = counts.get(each["values"], 0) + each["counts"]
    return sorted(sorted(counts, key=lambda value: (-counts[value], value))[:MOST_CATEGORIES])


def _mean_and_scale(parts: list[np.ndarray]) -> tuple[float, float]:
    """Return mean and standard deviation, 0 and 1 where there is nothing to tell; sums do not overflow."""
    numbers = np.concatenate(parts) if parts else np.empty(0)
    size = float(np.abs(numbers).max(initial=0.0))
    if size == 0:
        return 0.0, 1.0
    shares = numbers / size
    mean, deviation = _rounded(shares.mean() * size), _rounded(shares.std() * size)
    # A column of one value: how far another one is from it, nobody can tell; its own size is as good a measure as any.
    return mean, deviation or _rounded(size) or 1.0


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
