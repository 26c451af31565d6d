"""What a column holds, gathered in one pass over the batches of a table, and the type that it shows."""

from dataclasses import dataclass, field
from typing import Any

from visionyard.data.tables.schema import ColumnType
from visionyard.transforms.rows import FALSE_WORDS, NUMBER, TRUE_WORDS

_LEADING_ZERO = r"^[+-]?0\d"
_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_BOOLEAN_PAIRS = tuple({true, false} for true, false in zip(TRUE_WORDS, FALSE_WORDS))
# A column of numbers may hold a few texts, as of a broken sensor; more of them, and it is no column of numbers.
_NUMBER_SHARE = 0.95
# Beyond so many categories a model has too few rows of each; texts of more are names, comments, identifiers.
_MOST_CATEGORIES = 1000
_CATEGORY_SHARE = 0.5
_FEW_CATEGORIES = 20
MOST_DISTINCT = 10_000
_SHOWN_CATEGORIES = 5


@dataclass
class Profile:
    """What one column holds.

    Attributes:
        name: Of the column.
        count: Rows.
        missing_count: Rows without a value.
        number_count: Values that are numbers.
        infinite_count: Those of them that no double holds, such as 1e999.
        comma_count: Values that would be numbers with a decimal comma.
        has_leading_zeros: Whether a value is a digit string such as 00123, which is a code.
        is_whole: Whether all numbers are whole.
        minimum: Least number.
        maximum: Greatest number.
        distinct: Values that occur, at most 10,000 of them, as texts.
        has_more_distinct: Whether there are more.
        stray: The first value that is no number; empty when there is none.
        fixed_type: The type that the file itself gives, as Parquet does.
    """

    name: str
    count: int = 0
    missing_count: int = 0
    number_count: int = 0
    infinite_count: int = 0
    comma_count: int = 0
    has_leading_zeros: bool = False
    is_whole: bool = True
    minimum: float = float("inf")
    maximum: float = float("-inf")
    distinct: set[str] = field(default_factory=set)
    has_more_distinct: bool = False
    stray: str = ""
    fixed_type: ColumnType | None = None

    @property
    def value_count(self) -> int:
        """Rows with a value."""
        return self.count - self.missing_count

    def add(self, values: Any) -> None:
        """Take in a batch of the column: an Arrow array of strings, doubles or booleans, null where missing."""
        import pyarrow as pa
        from pyarrow import compute as pc

        self.count += len(values)
        self.missing_count += values.null_count
        present = values.drop_null()
        if pa.types.is_string(values.type):
            self._add_texts(present)
            numbers = pc.filter(present, pc.match_substring_regex(present, NUMBER)).cast(pa.float64())
        else:
            is_boolean = pa.types.is_boolean(values.type)
            self.fixed_type = "boolean" if is_boolean else "numeric"
            numbers = present.cast(pa.int8() if is_boolean else pa.float64()).cast(pa.float64())
        self.number_count += len(numbers)
        finite = numbers.filter(pc.is_finite(numbers))
        self.infinite_count += len(numbers) - len(finite)
        if len(finite):
            bounds = pc.min_max(finite).as_py()
            self.minimum, self.maximum = min(self.minimum, bounds["min"]), max(self.maximum, bounds["max"])
            self.is_whole = self.is_whole and bool(pc.all(pc.equal(pc.floor(finite), finite)).as_py())
        if not self.has_more_distinct:
            self.distinct.update(map(str, present.unique().to_pylist()))
            self.has_more_distinct = len(self.distinct) > MOST_DISTINCT

    def _add_texts(self, present: Any) -> None:
        from pyarrow import compute as pc

        is_number = pc.match_substring_regex(present, NUMBER)
        self.comma_count += pc.sum(pc.match_substring_regex(present, _DECIMAL_COMMA)).as_py() or 0
        self.has_leading_zeros |= pc.any(pc.match_substring_regex(present, _LEADING_ZERO)).as_py() or False
        strays = pc.filter(present, pc.invert(is_number))
        if not self.stray and len(strays):
            self.stray = str(strays[0].as_py())

    def shown_type(self) -> tuple[ColumnType, str]:
        """Return the type that the values show, and what shows it."""
        if self.fixed_type is not None:
            return self.fixed_type, "the file says so"
        if not self.value_count:
            return "text", "it has no value at all"
        if self._are_booleans():
            return "boolean", f"its values are {', '.join(sorted(self.distinct))}"
        if self.has_leading_zeros:
            return self._category_or_text("numbers with leading zeros are codes")
        if self.number_count >= _NUMBER_SHARE * self.value_count:
            kind = "whole numbers" if self.is_whole else "numbers"
            return "numeric", f"{self.number_count} of {self.value_count} values are {kind}"
        some = f", {self.number_count} of {self.value_count} numbers" if self.number_count else ""
        return self._category_or_text(f"texts{some}")

    def _are_booleans(self) -> bool:
        words = {value.lower() for value in self.distinct}
        return not self.has_more_distinct and any(words == pair for pair in _BOOLEAN_PAIRS)

    def _category_or_text(self, why: str) -> tuple[ColumnType, str]:
        distinct = len(self.distinct)
        is_few = distinct <= _FEW_CATEGORIES or distinct <= _CATEGORY_SHARE * self.value_count
        if is_few and distinct <= _MOST_CATEGORIES:
            shown = ", ".join(sorted(self.distinct)[:_SHOWN_CATEGORIES])
            more = ", ..." if distinct > _SHOWN_CATEGORIES else ""
            return "categorical", f"{why}; {distinct} different ones: {shown}{more}"
        than = f"more than {MOST_DISTINCT}" if self.has_more_distinct else str(distinct)
        return "text", f"{why}; {than} different ones among {self.value_count}"

    def is_constant(self) -> bool:
        """Return whether it holds one value only, or none; a missing value beside one counts as another."""
        return len(self.distinct) + bool(self.missing_count) <= 1

    def is_like_an_id(self) -> bool:
        """Return whether each row has a value of its own: texts, or whole numbers without a gap."""
        is_unique = len(self.distinct) >= min(self.value_count, MOST_DISTINCT) and self.value_count > _FEW_CATEGORIES
        if not is_unique or self.fixed_type == "boolean":
            return False
        is_text = self.number_count < _NUMBER_SHARE * self.value_count or self.has_leading_zeros
        return is_text or (self.is_whole and self.maximum - self.minimum == self.value_count - 1)
