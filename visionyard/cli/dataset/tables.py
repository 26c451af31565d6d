"""What `visionyard dataset inspect` prints of a table."""

import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from visionyard.cli.dataset.printing import columns, counted, print_problems

if TYPE_CHECKING:
    from visionyard.data.inspection.tables import ColumnSummary, OpenTable

output = Console(highlight=False)
_SHOWN_VALUES = 5


def tell_table(table: "OpenTable", *, is_json: bool) -> None:
    """Print what a table holds."""
    from visionyard.data.inspection.tables import inspect_table

    inspection = inspect_table(table)
    if is_json:
        typer.echo(json.dumps(inspection.to_json(), indent=1, ensure_ascii=False))
        return
    rows = counted(sum(inspection.rows.values()), "row")
    output.print(
        f"{inspection.label}: {inspection.task} of {inspection.target}, {rows}, "
        f"{counted(len(inspection.columns), 'column')}",
        markup=False,
        soft_wrap=True,
    )
    told = columns("Column", "Type", "Role", "Missing", "Lowest", "Mean", "Highest", "", title="\nColumns")
    for each in inspection.columns:
        numbers = ("" if value is None else f"{value:.4g}" for value in (each.lowest, each.mean, each.highest))
        column = each.column
        told.add_row(
            escape(column.name), column.type, column.role, f"{column.missing_count:,}", *numbers, _values(each)
        )
    output.print(told)
    if inspection.classes:
        by_class = columns("Class", *inspection.rows, title="\nRows by class of the target and split")
        for name, counts in inspection.classes.items():
            by_class.add_row(escape(name), *(f"{counts[split]:,}" for split in inspection.rows))
        output.print(by_class)
    print_problems(output, table.problems, title="Problems found on the way here")


def _values(summary: "ColumnSummary") -> str:
    shown = [f"{name} ({count:,})" for name, count in list(summary.values.items())[:_SHOWN_VALUES]]
    more = len(summary.column.values) - _SHOWN_VALUES
    return escape(", ".join(shown) + (f" and {more:,} more" if more > 0 else ""))
