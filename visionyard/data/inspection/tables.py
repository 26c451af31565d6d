"""What a table holds: its columns, their values, and how the target is spread over the splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.inspection.checking import CheckReport
from visionyard.data.items import Problem, Problems
from visionyard.data.tables.checks import check_leaks, check_rows
from visionyard.data.tables.dataset import TableDataset
from visionyard.data.tables.ingest import SPLIT, TABLE
from visionyard.data.tables.rows import batches, read_rows
from visionyard.data.tables.schema import MANIFEST_KEY, Column, TableSchema

_NO_SPLIT = "none"
_LISTED_VALUES = 20


@dataclass(frozen=True)
class OpenTable:
    """A table with what is known of it.

    Attributes:
        label: What messages call it.
        path: `table.parquet`.
        schema: Its columns.
        problems: What was found wrong on the way here.
    """

    label: str
    path: Path
    schema: TableSchema
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class ColumnSummary:
    """What one column holds.

    Attributes:
        column: Its name, type, role, and how many values are missing.
        lowest: Of a numeric column; None when it is none, or has no value. So are the next two.
        mean: Of its values.
        highest: Of its values.
        values: Of a categorical or boolean column, the 20 most frequent values and how often each occurs.
    """

    column: Column
    lowest: float | None
    mean: float | None
    highest: float | None
    values: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.column.name,
            "type": self.column.type,
            "role": self.column.role,
            "missing_count": self.column.missing_count,
            "lowest": self.lowest,
            "mean": self.mean,
            "highest": self.highest,
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class TableInspection:
    """What a table holds.

    Attributes:
        label: What it is called.
        task: What is learnt of the target: classification or regression.
        target: The column to be learnt.
        rows: By split (`none` where there is none), rows.
        classes: By class of the target, rows by split; empty for a regression.
        columns: In the order of the header.
    """

    label: str
    task: str
    target: str
    rows: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    columns: tuple[ColumnSummary, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "label": self.label,
            "task": self.task,
            "target": self.target,
            "rows": dict(self.rows),
            "classes": {name: dict(counts) for name, counts in self.classes.items()},
            "columns": [column.to_json() for column in self.columns],
        }


def open_table_version(folder: Path) -> OpenTable:
    """Return the table of a dataset version.

    Raises:
        ArtifactError: It is incomplete, of an unknown version, or no table.
    """
    return OpenTable(str(folder), folder / TABLE, TableDataset(folder).schema, tuple(read_problems(folder)))


def open_ingested_table(sources: Path, *, label: str) -> OpenTable:
    """Return the table that ingest made of raw input.

    Raises:
        ArtifactError: The folder is incomplete or of an unknown version.
    """
    schema = TableSchema.from_json(read_manifest(sources, "sources")[MANIFEST_KEY])
    return OpenTable(label, sources / TABLE, schema, tuple(read_problems(sources)))


def inspect_table(table: OpenTable) -> TableInspection:
    """Count what a table holds, batch by batch; memory follows the columns and their categories."""
    tallies = [_ColumnTally(column) for column in table.schema.columns]
    target = table.schema.target.name
    rows: Counter[str] = Counter()
    classes: Counter[tuple[str, str]] = Counter()
    for batch in batches(table.path):
        splits = [split or _NO_SPLIT for split in batch.column(SPLIT).to_pylist()]
        rows.update(splits)
        if table.schema.task == "classification":
            labels = batch.column(target).to_pylist()
            classes.update((str(label), split) for label, split in zip(labels, splits, strict=True))
        for tally in tallies:
            tally.add(batch.column(tally.column.name))
    return TableInspection(
        label=table.label,
        task=table.schema.task,
        target=target,
        rows=dict(rows),
        classes={
            name: {split: classes[name, split] for split in rows}
            for name in sorted({name for name, _ in classes}, key=_in_order(table.schema.target.values))
        },
        columns=tuple(tally.summary() for tally in tallies),
    )


def _in_order(names: Sequence[str]) -> Any:
    places = {name: place for place, name in enumerate(names)}
    return lambda name: (places.get(name, len(places)), name)


class _ColumnTally:
    """One column's values, in the counting."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._lowest, self._highest = float("inf"), float("-inf")
        self._sum, self._count = 0.0, 0
        self._values: Counter[str] = Counter()

    def add(self, values: Any) -> None:
        """Count a batch of values."""
        from pyarrow import compute as pc

        if self.column.type == "numeric":
            count = len(values) - values.null_count
            if count:
                ends = pc.min_max(values).as_py()
                self._lowest, self._highest = min(self._lowest, ends["min"]), max(self._highest, ends["max"])
                self._sum, self._count = self._sum + pc.sum(values).as_py(), self._count + count
        elif self.column.type in {"categorical", "boolean"}:
            for pair in pc.value_counts(values.drop_null()).to_pylist():
                self._values[str(pair["values"])] += pair["counts"]

    def summary(self) -> ColumnSummary:
        """Return what was counted."""
        order = sorted(self._values.items(), key=lambda pair: (-pair[1], pair[0]))
        has_numbers = self._count > 0
        return ColumnSummary(
            column=self.column,
            lowest=self._lowest if has_numbers else None,
            mean=self._sum / self._count if has_numbers else None,
            highest=self._highest if has_numbers else None,
            values=dict(order[:_LISTED_VALUES]),
        )


def check_table(table: OpenTable) -> CheckReport:
    """Check the rows of a table as prepare_dataset does; what was found before comes first."""
    problems = Problems(list(table.problems))
    rows = read_rows(table.path, table.schema, SPLIT)
    known = {problem.code for problem in problems.found}
    found = Problems()
    check_rows(rows, table.schema, found)
    check_leaks(table.path, rows, table.schema, found)
    # A version's own list has them already.
    problems.found += [problem for problem in found.found if problem.code not in known]
    return CheckReport(len(rows.targets), len(rows.targets), tuple(problems.found))
