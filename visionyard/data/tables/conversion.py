"""Columns of a batch in one of three Arrow types (string, double, boolean), null where a value is missing."""

import math
from collections.abc import Sequence
from typing import Any

from visionyard.data.tables.schema import ColumnType
from visionyard.transforms.rows import FALSE_WORDS, NUMBER, TRUE_WORDS


def as_plain(values: Any, missing: Sequence[str]) -> Any | None:
    """Return a column as strings, doubles or booleans; None for a type that no cell of a CSV could have.

    Args:
        values: An Arrow array.
        missing: Texts that stand for a missing value; NaN always does.
    """
    import pyarrow as pa
    from pyarrow import compute as pc

    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_boolean(kind):
        return values
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    if pa.types.is_temporal(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        try:
            values, kind = values.cast(pa.string()), pa.string()
        except pa.ArrowNotImplementedError:  # durations and half of the clock types
            return None
    if not pa.types.is_string(kind):
        return None
    stripped = pc.utf8_trim_whitespace(values)
    is_missing = pc.is_in(stripped, value_set=pa.array(list(missing), pa.string()))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), stripped)


def as_type(values: Any, wanted: ColumnType) -> Any:
    """Return a plain column as doubles (numeric), booleans (boolean) or strings; null where it does not fit.

    Args:
        values: As `as_plain` gave it.
        wanted: Its type.
    """
    import pyarrow as pa
    from pyarrow import compute as pc

    if wanted in {"categorical", "text"}:
        return values if pa.types.is_string(values.type) else _texts(values)
    if wanted == "numeric":
        if not pa.types.is_string(values.type):
            return values.cast(pa.int8()).cast(pa.float64()) if pa.types.is_boolean(values.type) else _finite(values)
        is_number = pc.match_substring_regex(values, NUMBER)
        return _finite(pc.if_else(is_number, values, pa.scalar(None, pa.string())).cast(pa.float64()))
    if pa.types.is_boolean(values.type):
        return values
    words = pc.utf8_lower(as_type(values, "text"))
    is_true = pc.is_in(words, value_set=pa.array([*TRUE_WORDS, "1"]))
    is_known = pc.or_(is_true, pc.is_in(words, value_set=pa.array([*FALSE_WORDS, "0"])))
    return pc.if_else(is_known, is_true, pa.scalar(None, pa.bool_()))


def _finite(numbers: Any) -> Any:
    """Return doubles with null in place of the infinite, such as 1e999: no mean, digest or model could take them."""
    import pyarrow as pa
    from pyarrow import compute as pc

    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _texts(values: Any) -> Any:
    """Return numbers and booleans as texts, whole numbers without a point: classes are called 1 and 2, not 1.0."""
    import pyarrow as pa

    def text(value: float | bool | None) -> str | None:
        if value is None or isinstance(value, bool):
            return None if value is None else str(value).lower()
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)

    return pa.array([text(value) for value in values.to_pylist()], pa.string())
