"""Texts inside XML."""

import re
from xml.sax.saxutils import escape, quoteattr

from visionyard.errors import DataError

# What XML 1.0 cannot hold, not even as a character reference (section 2.2).
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element_text(text: str) -> str:
    """Return a text as it stands between tags.

    Raises:
        DataError: It holds a character that XML cannot hold.
    """
    return escape(_checked(text), {"\r": "&#13;"})


def attribute(text: str) -> str:
    """Return a text as an attribute's value, in quotation marks.

    Raises:
        DataError: It holds a character that XML cannot hold.
    """
    return quoteattr(_checked(text))


def number(value: float) -> str:
    """Return a number with every digit it has."""
    return repr(float(value)).removesuffix(".0")


def _checked(text: str) -> str:
    if _NOT_IN_XML.search(text):
        raise DataError(f"{text!r} holds a character that XML cannot hold; rename it, or write another format")
    return text
