"""Rows of a table as every protocol sends them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionyard.client.answers import ClassifiedRow, to_score
from visionyard.errors import ConfigError, RequestError, VisionyardError

# The server takes 10,000 by default, in a body of 20 MiB.
MAX_ROWS = 1000


@dataclass(frozen=True)
class RowCall:
    """One request for predictions of rows.

    Attributes:
        model: Its name on the server; empty: the only one there is.
        rows: At least one; values as JSON has them, None where one is not known.
        parameters: `top_k`, where it was given.
        first: Place of its first row among those that the caller gave.
    """

    model: str
    rows: list[dict[str, Any]]
    parameters: Mapping[str, int] = field(default_factory=dict)
    first: int = 0

    def place(self, error: RequestError) -> RequestError:
        """Return what the server says of a row, with where it counts from."""
        return type(error)(f"{error} (counted from row {self.first})") if self.first else error


def to_row_calls(rows: Iterable[Mapping[str, Any]], *, model: str, top_k: int | None) -> list[RowCall]:
    """Divide rows into calls that the server's limits allow.

    Args:
        rows: In order; see `Client.predict_rows`.
        model: Its name on the server.
        top_k: Most classes a row.

    Raises:
        ConfigError: A row is no mapping of names to values, or a value is of a kind that no table has.
    """
    plain = [_plain(row, place) for place, row in enumerate(rows)]
    parameters = {} if top_k is None else {"top_k": top_k}
    return [RowCall(model, plain[at : at + MAX_ROWS], parameters, at) for at in range(0, len(plain), MAX_ROWS)]


def to_row_result(values: Mapping[str, Any]) -> ClassifiedRow:
    """Turn the server's answer about one row into a result.

    Raises:
        VisionyardError: The answer has another form.
    """
    try:
        return ClassifiedRow(tuple(to_score(one) for one in values["top"]))
    except (KeyError, TypeError, ValueError) as error:
        raise VisionyardError(
            f"the server's answer {str(dict(values))[:120]!r}: expected top ({type(error).__name__}: {error}); is the "
            "model one of a table, and the server of this version?"
        ) from None


def to_columns(call: RowCall) -> dict[str, list[str]]:
    """Return the text of every value by column, empty where it is not known, as v2 tensors take them.

    Raises:
        ConfigError: A row has other columns than the first one.
    """
    names = list(call.rows[0])
    for place, row in enumerate(call.rows):
        if row.keys() != call.rows[0].keys():
            odd = sorted(row.keys() ^ call.rows[0].keys())
            raise ConfigError(
                f"row {call.first + place}: its columns are not those of row {call.first}, as for {odd[0]!r}; expected "
                "the same in all"
            )
    return {name: [_text(row[name]) for row in call.rows] for name in names}


def _plain(row: Any, place: int) -> dict[str, Any]:
    if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
        raise ConfigError(f"row {place}: expected a mapping of column names to values, got {str(row)[:80]!r}")
    return {name: _value(value, place, name) for name, value in row.items()}


def _value(value: Any, place: int, name: str) -> str | float | bool | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no NaN, and a table none but missing values
    raise ConfigError(
        f"row {place}, column {name!r}: expected a text, a number, true, false or None, got {type(value).__name__} "
        f"{str(value)[:60]!r}; convert it as the table was written that the model was trained on"
    )


def _text(value: str | float | bool | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
