"""The preprocessing spec of tables: how rows become a model's input, written into the bundle and run by every consumer.

A row is a mapping from the names of all columns to their values: numbers, texts, true or false, None where a value is
missing. Values are read as the table was when it was brought in, so that `"181"` is a number, `" Biscoe"` a category
and `"NA"` a missing value. Of N rows with n numeric and c other columns the input is (N, 2n + c) float32:

| columns of the input | meaning |
| --- | --- |
| n | numbers, standardised as in training and held within `limit`; 0 where missing |
| n | 1 where the number is missing, else 0 |
| c | ids of the categories: 0 missing, 1 not seen in training, then as `values` lists them |

What is fitted (means, scales, categories) comes from the train split alone, see visionyard.data.tables.fitting.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from visionyard.errors import DataError
from visionyard.transforms.preprocessing import Placement

Row = Mapping[str, Any]

# Also RE2, which Arrow uses, takes time linear in the text.
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "t", "y"), ("false", "no", "f", "n")
MISSING_ID, UNSEEN_ID, FIRST_ID = 0, 1, 2
# A row lies nowhere in its input, as an image does.
_NOWHERE = Placement((1.0, 1.0), (0.0, 0.0), (1, 1), (1, 1))
_IS_NUMBER = re.compile(NUMBER, re.ASCII)
_WORDS = {**dict.fromkeys((*TRUE_WORDS, "1"), True), **dict.fromkeys((*FALSE_WORDS, "0"), False)}
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 30, 40


class _Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)


class NumericColumn(_Column):
    """Numbers; `minimum` and `maximum` are the schema file's bounds: what lies outside counts as missing."""

    type: Literal["numeric"] = "numeric"
    mean: float
    scale: float = Field(gt=0)
    minimum: float | None = None
    maximum: float | None = None

    def read(self, values: Sequence[Any], missing: frozenset[str]) -> np.ndarray:
        """Return (N,) float64, NaN where a value is missing or infinite; errors as `TablePreprocessing.apply_all`."""
        if not set(map(type, values)) <= {float, int, type(None)}:
            values = [self._number(value, missing, place) for place, value in enumerate(values)]
        try:
            numbers = np.array(values, np.float64)
        except OverflowError:  # a whole number that no double holds
            numbers = np.array([_double(value) for value in values], np.float64)
        numbers[~np.isfinite(numbers)] = np.nan
        least, greatest = self.minimum, self.maximum
        if least is not None:
            numbers[numbers < least] = np.nan
        if greatest is not None:
            numbers[numbers > greatest] = np.nan
        return numbers

    def _number(self, value: Any, missing: frozenset[str], place: int) -> float | None:
        if value is None:
            return None
        if isinstance(value, str):
            text = value.strip()
            if not text or text in missing:
                return None
            if _IS_NUMBER.match(text):
                return float(text)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return _double(value)
        raise _wrong(place, self.name, "a number", value)


class CategoryColumn(_Column):
    """Texts out of few; a number stands for its text, whole ones without a point."""

    type: Literal["categorical"] = "categorical"
    values: list[str]

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if len(set(self.values)) < len(self.values):
            raise ValueError("a value is listed twice")
        return self

    @property
    def id_count(self) -> int:
        """Ids that a value may get."""
        return FIRST_ID + len(self.values)

    def ids(self, values: Sequence[Any], missing: frozenset[str]) -> list[int]:
        """Return the id of each value; errors as `TablePreprocessing.apply_all`."""
        known = {text: number for number, text in enumerate(self.values, start=FIRST_ID)}
        return [self._id(value, known, missing, place) for place, value in enumerate(values)]

    def _id(self, value: Any, known: Mapping[str, int], missing: frozenset[str], place: int) -> int:
        if isinstance(value, str):
            text = value.strip()
        elif value is None or (isinstance(value, float) and not math.isfinite(value)):
            return MISSING_ID
        elif isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, int | float):
            text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        else:
            raise _wrong(place, self.name, "a text", value)
        return MISSING_ID if text in missing else known.get(text, UNSEEN_ID)


class BooleanColumn(_Column):
    """True or false; also as the words and digits that a CSV has for them."""

    type: Literal["boolean"] = "boolean"

    @property
    def id_count(self) -> int:
        """Ids that a value may get; that of a value not seen in training is never given."""
        return FIRST_ID + 2

    def ids(self, values: Sequence[Any], missing: frozenset[str]) -> list[int]:
        """Return the id of each value; errors as `TablePreprocessing.apply_all`."""
        return [self._id(value, missing, place) for place, value in enumerate(values)]

    def _id(self, value: Any, missing: frozenset[str], place: int) -> int:
        if isinstance(value, float):  # pandas has 1.0, 0.0 and NaN where some are missing
            value = int(value) if value.is_integer() else value if math.isfinite(value) else None
        if value is None:
            return MISSING_ID
        text = str(value).strip()
        if isinstance(value, str) and (not text or text in missing):
            return MISSING_ID
        found = _WORDS.get(text.lower()) if isinstance(value, str | bool | int) else None
        if found is None:
            raise _wrong(place, self.name, "true or false", value)
        return FIRST_ID + int(found)


Column = Annotated[NumericColumn | CategoryColumn | BooleanColumn, Field(discriminator="type")]


class TablePreprocessing(BaseModel):
    """How rows of a table become the model's input.

    Attributes:
        columns: What a row has to have, in the order of the table.
        missing: Texts that stand for a missing value, as the table's schema says.
        limit: Standardised numbers are held within it on both sides: one far outlier must not drown all other columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    item: ClassVar[str] = "row"
    input_name: ClassVar[str] = "rows"

    kind: Literal["table"] = "table"
    columns: list[Column] = Field(min_length=1)
    missing: list[str] = Field(default_factory=list)
    limit: float = Field(10.0, gt=0)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [column.name for column in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"columns: the name {twice[0]!r} stands there twice")
        return self

    @property
    def numeric(self) -> list[NumericColumn]:
        """The columns of numbers, in order."""
        return [column for column in self.columns if isinstance(column, NumericColumn)]

    @property
    def others(self) -> list[CategoryColumn | BooleanColumn]:
        """The columns of ids, in order."""
        return [column for column in self.columns if not isinstance(column, NumericColumn)]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the model's input without the batch."""
        return (2 * len(self.numeric) + len(self.others),)

    def apply(self, row: Row) -> tuple[np.ndarray, Placement]:
        """Turn a row into (F,) float32; errors as in `apply_all`."""
        batch, (placement,) = self.apply_all([row])
        return batch[0], placement

    def apply_all(self, rows: Sequence[Row]) -> tuple[np.ndarray, list[Placement]]:
        """Turn rows into one batch, (N, F) float32.

        Args:
            rows: Each with a value or None for every column, and nothing else.

        Raises:
            DataError: A row lacks a column, has one that is not known, or a value of another kind; names row (from 0),
                column and value.
        """
        self._check_names(rows)
        missing = frozenset(self.missing)
        numeric, others = self.numeric, self.others
        batch = np.zeros((len(rows), *self.input_shape), np.float32)
        for place, number in enumerate(numeric):
            values = number.read([row[number.name] for row in rows], missing)
            is_missing = np.isnan(values)
            with np.errstate(over="ignore"):  # the infinite are held within the limit too
                standard = (values - number.mean) / number.scale
            batch[:, place] = np.where(is_missing, 0.0, np.clip(standard, -self.limit, self.limit))
            batch[:, len(numeric) + place] = is_missing
        for place, other in enumerate(others, start=2 * len(numeric)):
            batch[:, place] = other.ids([row[other.name] for row in rows], missing)
        return batch, [_NOWHERE] * len(rows)

    def decode(self, data: bytes) -> Row:
        """Return the row of a JSON text.

        Raises:
            DataError: It is no JSON object.
        """
        try:
            row = json.loads(data)
        except ValueError as error:
            raise DataError(f"expected a row as JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"expected a row as a JSON object, got {type(row).__name__}")
        return row

    def neutral(self) -> Row:
        """Return the row without any value."""
        return {column.name: None for column in self.columns}

    def _check_names(self, rows: Sequence[Row]) -> None:
        names = {column.name: None for column in self.columns}.keys()
        for place, row in enumerate(rows):
            if row.keys() == names:
                continue
            lacking = [name for name in names if name not in row]
            if lacking:
                way_out = "give null where its value is not known"
                raise DataError(f"row {place}: the column {_short(lacking[0])} is missing; {way_out}")
            unknown = next(name for name in row if name not in names)
            known = shown_columns(list(names))
            raise DataError(f"row {place}: there is no column {_short(unknown)}; the columns are {known}")


def shown_columns(names: Sequence[str]) -> str:
    """Return the names as a message lists them: of a table of thousands the first ones."""
    return ", ".join(names[:_SHOWN_COLUMNS]) + (", ..." if len(names) > _SHOWN_COLUMNS else "")


def _double(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf


def _wrong(place: int, name: str, expected: str, value: Any) -> DataError:
    return DataError(f"row {place}: column {_short(name)}: expected {expected}, got {_short(value)}")


def _short(value: Any) -> str:
    if not isinstance(value, str | int | float | type(None)):
        return f"a {type(value).__name__}"  # its text may be as long and as deep as a request
    text = repr(value[: _SHOWN_CHARACTERS + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
