"""Odd rows on which an exported model of a table has to agree with the trained one."""

from collections.abc import Iterator

from visionyard.data.tables.schema import TableSchema
from visionyard.transforms import Row

_HUGE, _TINY = 1.7e308, 5e-324
_UNSEEN = "a category that no table has \u2013 \u00e9"


def odd_rows(schema: TableSchema, row: Row) -> Iterator[tuple[str, Row]]:
    """Yield kinds and odd forms of a real row.

    `missing`: no value at all; `unseen`: categories that training never saw; `huge`, `negative`, `tiny`: the largest,
    the least and the smallest numbers there are; `text`: all values as a CSV has them.

    Args:
        schema: Of the table.
        row: A real one; None where a value is missing.
    """
    numeric = [column.name for column in schema.features if column.type == "numeric"]
    categories = [column.name for column in schema.features if column.type == "categorical"]
    yield "missing", dict.fromkeys(row)
    if categories:
        yield "unseen", {**row, **dict.fromkeys(categories, _UNSEEN)}
    if numeric:
        yield "huge", {**row, **dict.fromkeys(numeric, _HUGE)}
        yield "negative", {**row, **dict.fromkeys(numeric, -_HUGE)}
        yield "tiny", {**row, **dict.fromkeys(numeric, _TINY)}
    yield "text", {name: _text(value) for name, value in row.items()}


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
