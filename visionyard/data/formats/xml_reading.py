"""XML from outside: read piece by piece, without document types, entities or anything fetched."""

import math
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from visionyard.errors import DataError

# What the parser raises on what is no XML; the last two on encodings that are wrong or that nobody knows.
XML_ERRORS = (ParseError, ValueError, LookupError)


def xml_events(path: Path, name: str) -> Generator[tuple[str, Element], None, None]:
    """Yield ("start", element) and ("end", element) of an XML file as it is read.

    Args:
        path: The file.
        name: Its path within the source, for messages.

    Raises:
        DataError: It declares a document type or entities, which label files never need and attacks do.
        ParseError: It is not well-formed XML.
    """
    try:
        with path.open("rb") as stream:
            yield from iterparse(stream, events=("start", "end"), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(
            f"{name}: refused, since it declares a document type or entities ({type(error).__name__}), which could "
            "read files or fill the memory; export the labels again, or remove the <!DOCTYPE ...> part"
        ) from None


def root_tag(path: Path, name: str) -> str:
    """Return the name of an XML file's outermost element; empty when it is not XML.

    Raises:
        DataError: As in `xml_events`.
    """
    try:
        with closing(xml_events(path, name)) as events:
            return next((element.tag for _, element in events), "")
    except XML_ERRORS:
        return ""


def text_of(element: Element, path: str) -> str:
    """Return the stripped text of a descendant; empty when there is none."""
    return (element.findtext(path) or "").strip()


def size_of(width: str | None, height: str | None) -> tuple[int, int] | None:
    """Return an image size as written; None when it is none: tools that do not know it write 0."""
    sides = [number_of(width), number_of(height)]
    whole = [int(side) for side in sides if side is not None and math.isfinite(side) and side >= 1]
    return (whole[0], whole[1]) if len(whole) == 2 else None


def number_of(text: str | None) -> float | None:
    """Return the number that a text holds, NaN and infinity included; None when it holds none."""
    try:
        return float(text or "")
    except ValueError:
        return None
