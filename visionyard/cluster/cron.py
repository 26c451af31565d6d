"""Cron: the usual five fields, checked, and turned into the six that Kubeflow Pipelines reads.

Its scheduler reads seconds first. Five fields are accepted there and mean something else: `0 2 * * *` fires at minute 2
of every hour. It also knows the days of the week as 0 to 6 only.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from visionyard.errors import ConfigError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")


@dataclass(frozen=True)
class _Field:
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.lower() in self.words:
            return self.words.index(text.lower()) + self.first
        value = int(text) if text.isdecimal() else -1
        if not self.first <= value <= self.last:
            words = f" or {self.words[0]} to {self.words[-1]}" if self.words else ""
            raise ValueError(f"{self.name} = {text!r}: expected {self.first} to {self.last}{words}")
        return value

    def values(self, text: str) -> set[int]:
        """Return every value that a field's text names."""
        found: set[int] = set()
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if not match or (match[1] == "*" and match[2]):
                raise ValueError(f"{self.name} = {part!r}: expected *, a number, a range such as 1-5, or */15")
            first, last = self._range(match[1], match[2])
            if match[3] and match[1] != "*" and not match[2]:
                raise ValueError(f"{self.name} = {part!r}: a step needs a range, such as */{match[3]}")
            step = int(match[3] or 1)
            if step < 1 or step > self.last:
                raise ValueError(f"{self.name} = {part!r}: the step must be 1 to {self.last}")
            if last < first:
                raise ValueError(f"{self.name} = {part!r}: the range runs backwards")
            found |= set(range(first, last + 1, step))
        return found

    def _range(self, first: str, last: str | None) -> tuple[int, int]:
        if first == "*":
            return self.first, self.last
        low = self.number(first)
        return low, low if last is None else self.number(last)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


def kfp_cron(text: str) -> str:
    """Return five fields as the six of Kubeflow Pipelines: `30 2 * * 7` becomes `0 30 2 * * 0`.

    Args:
        text: Minute, hour, day of month, month, day of week (0 and 7 are Sunday). When both days are given, either
            will do, as in cron.

    Raises:
        ConfigError: It is no such text, or it names a day that never comes; lists all mistakes.
    """
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ConfigError(
            f"cron = {text!r}: expected five fields (minute, hour, day of month, month, day of week), got {len(parts)}"
        )
    problems, values = [], []
    for field, part in zip(_FIELDS, parts, strict=True):
        try:
            values.append(field.values(part))
        except ValueError as error:
            problems.append(f"cron = {text!r}: {error}")
            values.append(set())
    if not problems and parts[4] == "*" and all(min(values[2]) > _MONTH_DAYS[month - 1] for month in values[3]):
        problems.append(f"cron = {text!r}: no such month has a day {min(values[2])}, it would never start")
    if problems:
        raise ConfigError(problems)
    days = parts[4] if parts[4] == "*" else _numbers(day % 7 for day in values[4])
    months = parts[3] if parts[3] == "*" else _numbers(values[3])
    return " ".join(["0", *parts[:3], months, days])


def _numbers(values: Iterable[int]) -> str:
    return ",".join(str(value) for value in sorted(set(values)))
