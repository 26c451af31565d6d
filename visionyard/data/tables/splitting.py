"""Divide the rows of a table into train, val and test: whole groups, like rows together, stratified by the target.

A classification is stratified by class, a regression by tenths of the target. Every class has to be in all three
splits, or folds, so it needs as many groups; where no group column is named, a row is its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionyard.data.items import SPLITS, Problems
from visionyard.data.split import Splitting
from visionyard.data.stratification import divide_groups, missing_parts
from visionyard.data.tables.rows import NO_SPLIT, Rows
from visionyard.data.tables.schema import TableSchema
from visionyard.errors import SplitError

# Tenths of the target, fewer where a tenth would have fewer groups than splits need.
_MOST_STRATA = 10
_UNITS_A_STRATUM = 10
_TRAIN = SPLITS.index("train")


def split_rows(rows: Rows, schema: TableSchema, splitting: Splitting, problems: Problems) -> np.ndarray:
    """Return (N,) int64, the place of each row's split in `SPLITS`.

    Raises:
        SplitError: The groups cannot be divided so; names the classes, what is needed and the way out.
    """
    if splitting.mode == "published":
        return _published(rows, problems)
    shares, split_of_part = _parts(splitting)
    units = rows.units()
    unit_count = int(units.max()) + 1
    if unit_count < len(shares):
        raise SplitError(
            f"{_named(splitting)} need {len(shares)} groups of rows at least, found {unit_count}; add rows"
        )
    strata = _strata(rows.targets, schema, unit_count)
    counts = np.zeros((unit_count, int(strata.max()) + 2), dtype=np.int64)
    np.add.at(counts, (units, strata), 1)
    counts[:, -1] = counts[:, :-1].sum(axis=1)
    required = np.zeros((counts.shape[1], len(shares)), dtype=bool)
    required[-1] = True
    if schema.task == "classification":
        _require_classes(counts, schema, splitting, len(shares))
        required[:-1] = True
    parts = divide_groups(counts, shares, required, seed=splitting.seed)
    lacking = missing_parts(counts, parts, required)[:-1].any(axis=1)
    if lacking.any():
        missing = ", ".join(repr(schema.target.values[int(row)]) for row in np.flatnonzero(lacking))
        raise SplitError(
            f"not all of {_named(splitting)} have rows of {missing}: groups hold several classes; name a finer group"
        )
    return np.asarray(split_of_part[parts[units]])


def _parts(splitting: Splitting) -> tuple[list[float], np.ndarray]:
    """Return the share of each part that is drawn, and its place in `SPLITS`; folds are equal parts, as of images."""
    if not splitting.folds:
        fractions = splitting.fractions()
        return [fractions[split] for split in SPLITS], np.arange(len(SPLITS))
    places = np.full(splitting.folds, _TRAIN)
    places[splitting.fold] = SPLITS.index("test")
    places[(splitting.fold + 1) % splitting.folds] = SPLITS.index("val")
    return [1 / splitting.folds] * splitting.folds, places


def _named(splitting: Splitting) -> str:
    return f"{splitting.folds} folds" if splitting.folds else "train, val and test"


def certificate(rows: Rows, splits: np.ndarray) -> dict[str, Any]:
    """Return what the splits have in common: groups, and rows whose features are all alike."""
    group_overlap = int(_straddling(rows.group_ids, splits).sum())
    _, kinds = np.unique(rows.features, return_inverse=True)
    identical = int(_straddling(kinds, splits).sum())
    return {
        "group_overlap": group_overlap,
        "identical_rows": identical,
        "is_leaky": bool(group_overlap or identical),
        "groups": [rows.group(int(each)) for each in np.flatnonzero(_straddling(rows.group_ids, splits))[:20]],
    }


def _straddling(ids: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Return (G,) bool, which ids stand in two splits or more."""
    is_in = np.zeros((int(ids.max()) + 1, len(SPLITS)), dtype=bool)
    is_in[ids, splits] = True
    return np.asarray(is_in.sum(axis=1) > 1)


def _strata(targets: np.ndarray, schema: TableSchema, unit_count: int) -> np.ndarray:
    if schema.task == "classification":
        return targets
    count = max(1, min(_MOST_STRATA, unit_count // _UNITS_A_STRATUM))
    edges = np.quantile(targets, np.arange(1, count) / count)
    return np.searchsorted(edges, targets, side="right").astype(np.int64)


def _require_classes(counts: np.ndarray, schema: TableSchema, splitting: Splitting, part_count: int) -> None:
    names: Sequence[str] = schema.target.values
    if len(names) < 2:
        raise SplitError(
            f"the target {schema.target.name!r} has one class, {names[0]!r}; there is nothing to tell apart"
        )
    group_counts = (counts[:, :-1] > 0).sum(axis=0)
    few = [f"{name!r} has {count}" for name, count in zip(names, group_counts) if count < part_count]
    if few:
        raise SplitError(
            f"each class must be in {_named(splitting)}, so it needs {part_count} groups of rows at least: "
            f"{', '.join(few)}; add rows, or leave out those of the class"
        )


def _published(rows: Rows, problems: Problems) -> np.ndarray:
    given = {SPLITS[place] for place in np.unique(rows.published) if place != NO_SPLIT}
    lacking = [split for split in SPLITS if split not in given]
    if lacking:
        raise SplitError(
            f"data.split_mode = published: no row is of {', '.join(lacking)}; name a split column in the schema file, "
            "or use data.split_mode = group"
        )
    without = int((rows.published == NO_SPLIT).sum())
    if without:
        problems.add("item_without_published_split", "", f"{without} rows have no split; put into train")
    return np.where(rows.published == NO_SPLIT, _TRAIN, rows.published).astype(np.int64)
