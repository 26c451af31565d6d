"""JSON from outside: read value by value, so that a label file of any length needs the memory of its longest entry.

Of the outermost object or list, only one value, or one entry of a list that is a value, is in memory at a time. Where
each stood is told, so that it can be read again by itself.
"""

import json
import math
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from visionyard.errors import DataError

# The longest entry met in real sets is a brush mask of Label Studio, below 5 MB.
MAX_VALUE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 18
# A number at the end of what was read may go on: the longest that is no number yet is the e+1 of 1e+1.
_LOOKAHEAD = 3
_BYTE_ORDER_MARK = "\u00ef\u00bb\u00bf"
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class JsonValue:
    """A value of the outermost object, or one entry of a list there; an empty list is a value.

    Attributes:
        key: Its name in the outermost object; empty when that is a list.
        value: As `json.loads` has it.
        start: Its first byte in the file.
        stop: The byte behind it.
        is_entry: Whether it is an entry of a list rather than the named value itself.
    """

    key: str
    value: Any
    start: int
    stop: int
    is_entry: bool


def json_values(path: Path, name: str, *, max_value_bytes: int = MAX_VALUE_BYTES) -> Generator[JsonValue, None, None]:
    """Yield what stands in the outermost object or list of a JSON file, in order, as it is read.

    Args:
        path: The file.
        name: Its path within the source, for messages.
        max_value_bytes: The longest value taken.

    Raises:
        DataError: It is not JSON, its outermost value is neither an object nor a list, or a value is too long or too
            deeply nested.
    """
    with path.open("rb") as stream:
        text = _Text(stream, name, max_value_bytes)
        opening = text.begin()
        if opening == "[":
            yield from _entries(text, "")
        else:
            yield from _named_values(text)
        text.finish()


def read_value(stream: BinaryIO, start: int, stop: int) -> Any:
    """Return the value that `json_values` saw between two bytes of a file."""
    stream.seek(start)
    return json.loads(stream.read(stop - start))


def numbers_of(values: Any) -> tuple[float, ...] | None:
    """Return a list of numbers as floats, NaN and infinity included; None when it is not one."""
    if not isinstance(values, list):
        return None
    try:
        # A bool is an int to Python, and no number that a label file means.
        numbers = tuple(float(each) for each in values if type(each) in {int, float})
    except OverflowError:  # an integer beyond any float
        return (math.inf,) * len(values)
    return numbers if len(numbers) == len(values) else None


def _named_values(text: "_Text") -> Generator[JsonValue, None, None]:
    if text.peek() == "}":
        text.take("}")
        return
    while True:
        key = text.value().value
        if not isinstance(key, str):
            raise text.malformed("expected a name in quotation marks")
        text.take(":")
        if text.peek() == "[":
            start = text.place
            text.take("[")
            if text.peek() == "]":
                yield JsonValue(key, [], start, text.place + 1, is_entry=False)
            yield from _entries(text, key)
        else:
            found = text.value()
            yield JsonValue(key, found.value, found.start, found.stop, is_entry=False)
        if text.take(",}") == "}":
            return


def _entries(text: "_Text", key: str) -> Generator[JsonValue, None, None]:
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        found = text.value()
        yield JsonValue(key, found.value, found.start, found.stop, is_entry=True)
        if text.take(",]") == "]":
            return


class _Text:
    """A window on the file.

    The structure is found in its bytes as they are (Latin-1): quotation marks, brackets and digits are the same bytes
    in UTF-8, and so places in the text are places in the file. A value with other letters is decoded again.
    """

    def __init__(self, stream: BinaryIO, name: str, max_value_bytes: int) -> None:
        self._stream, self._name, self._max_value_bytes = stream, name, max_value_bytes
        self._window = ""
        self._at = 0
        self._window_start = 0
        self._is_whole = False

    @property
    def place(self) -> int:
        """The next byte in the file."""
        return self._window_start + self._at

    def begin(self) -> str:
        """Take the opening of the outermost value."""
        self._read(_CHUNK_BYTES)
        if self._window.startswith(_BYTE_ORDER_MARK):
            self._at = len(_BYTE_ORDER_MARK)
        if self.peek() not in {"{", "["}:
            raise self.malformed("expected an object or a list")
        return self.take("{[")

    def finish(self) -> None:
        """Refuse what stands behind the outermost value."""
        if self.peek():
            raise self.malformed("expected the end of the file")

    def peek(self) -> str:
        """Return the next character that is no whitespace, without taking it; empty at the end of the file."""
        while True:
            self._at = _end_of_whitespace(self._window, self._at)
            if self._at < len(self._window) or self._is_whole:
                return self._window[self._at : self._at + 1]
            self._read(_CHUNK_BYTES)

    def take(self, expected: str) -> str:
        """Take one of the characters."""
        found = self.peek()
        if not found or found not in expected:
            raise self.malformed(f"expected {' or '.join(expected)}")
        self._at += 1
        return found

    def value(self) -> JsonValue:
        """Take one whole value."""
        self.peek()
        more = _CHUNK_BYTES
        while True:
            try:
                value, stop = _DECODER.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                if self._is_whole:
                    raise self.malformed(error.msg, error.pos) from None
            except RecursionError:
                raise self.malformed("it is nested too deeply") from None
            except ValueError as error:  # an integer of thousands of digits
                raise self.malformed(str(error)) from None
            else:
                if stop + _LOOKAHEAD <= len(self._window) or self._is_whole:
                    return self._taken(value, stop)
            if len(self._window) - self._at > self._max_value_bytes:
                raise self.malformed(f"it is longer than the {self._max_value_bytes} bytes that are taken")
            # Twice as much each time: what was looked at in vain is never more than what is looked at in the end.
            self._read(more)
            more *= 2

    def malformed(self, reason: str, at: int | None = None) -> DataError:
        """Return the error that tells where the file stops being usable."""
        at = self._at if at is None else at
        found = self._window[at : at + 20] or "its end"
        return DataError(
            f"{self._name}: not usable JSON at byte {self._window_start + at}: {reason}, found {found!r}; write or "
            "export the file again"
        )

    def _taken(self, value: Any, stop: int) -> JsonValue:
        start, text = self._at, self._window[self._at : stop]
        self._at = stop
        if not text.isascii():
            try:
                value = json.loads(text.encode("latin-1").decode())
            except UnicodeDecodeError:
                raise self.malformed("it is not UTF-8 text", start) from None
        return JsonValue("", value, self._window_start + start, self._window_start + stop, is_entry=False)

    def _read(self, byte_count: int) -> None:
        read = self._stream.read(byte_count)
        self._is_whole = len(read) < byte_count
        self._window_start += self._at
        self._window = self._window[self._at :] + read.decode("latin-1")
        self._at = 0


def _end_of_whitespace(text: str, at: int) -> int:
    found = _WHITESPACE.match(text, at)
    return found.end() if found else at
