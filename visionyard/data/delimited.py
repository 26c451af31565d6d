"""CSV, TSV and their kin: encoding and delimiter by content, rows one at a time with their line numbers."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visionyard.errors import DataError

EXTENSIONS = (".csv", ".tsv", ".tab")
_DELIMITERS = (",", "\t", ";", "|")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_UNKNOWN_TO_WINDOWS = b"\x81\x8d\x8f\x90\x9d"
_CHUNK_BYTES = 1 << 20
_SAMPLE_LINES = 50
_SAMPLE_CHARACTERS = 1 << 18


@dataclass(frozen=True)
class TextLayout:
    """How a text of rows is written.

    Attributes:
        encoding: A Python name.
        delimiter: Between cells.
        is_encoding_guessed: Whether the bytes are no UTF-8 and nothing says what they are.
    """

    encoding: str
    delimiter: str
    is_encoding_guessed: bool = False


def text_layout(path: Path) -> TextLayout:
    """Return encoding and delimiter of a file, read once in pieces.

    The delimiter is the one that divides the first lines most evenly into more than one cell; a comma when none does.

    Raises:
        DataError: It is no text; without the file's name.
    """
    encoding = _encoding(path)
    guessed = encoding or _western(path)
    with path.open(encoding=guessed, errors="replace", newline="") as stream:
        sample = stream.read(_SAMPLE_CHARACTERS)
    lines = sample.splitlines(keepends=True)[:_SAMPLE_LINES]
    best = max(_DELIMITERS, key=lambda delimiter: _evenness(lines, delimiter))
    return TextLayout(guessed, best, is_encoding_guessed=encoding is None)


def read_rows(path: Path, layout: TextLayout) -> Iterator[tuple[int, list[str]]]:
    """Yield line number, from 1, and stripped cells of each row; rows without any text are passed over.

    Raises:
        DataError: A row cannot be read, as when a quote is never closed; names the line, without the file's name.
    """
    with path.open(encoding=layout.encoding, errors="replace", newline="") as stream:
        reader = csv.reader(stream, delimiter=layout.delimiter)
        try:
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any(stripped):
                    yield reader.line_num, stripped
        except csv.Error as error:
            raise DataError(f"line {reader.line_num}: {error}; is a quote before it never closed?") from None


def _encoding(path: Path) -> str | None:
    """Return the encoding that the bytes show; None when they are not UTF-8."""
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        marked = next((name for mark, name in _BOMS if head.startswith(mark)), None)
        decoder = codecs.getincrementaldecoder(marked or "utf-8")()
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                if b"\0" in chunk and marked != "utf-16":
                    raise DataError("holds zero bytes, so it is no text; expected CSV")
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            if marked is not None:
                raise DataError(f"its mark says {marked}, its bytes do not ({error.reason}); save it again") from None
            return None
    return marked or "utf-8"


def _western(path: Path) -> str:
    """Return Windows-1252, or Latin-1 where a byte stands that the former does not know."""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            if chunk.translate(None, _UNKNOWN_TO_WINDOWS) != chunk:
                return "latin-1"
    return "cp1252"


def _evenness(lines: list[str], delimiter: str) -> tuple[float, int]:
    """Return the share of rows with as many cells as the first has, 0 when that has one; and that number."""
    try:
        counts = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
    except csv.Error:
        return 0.0, 0
    if not counts or counts[0] < 2:
        return 0.0, 0
    return counts.count(counts[0]) / len(counts), counts[0]
