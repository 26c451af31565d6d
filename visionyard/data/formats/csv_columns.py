"""Which column of a CSV holds the image, the label, the split and the box: by the header's names, else by content."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visionyard.data.formats.reading import split_of_folder
from visionyard.data.formats.xml_reading import number_of

_NOT_IN_NAME = re.compile(r"[^a-z0-9]+")
# In the order of preference, where a table has several. Names are compared without case, spaces and underscores.
_PATH_NAMES = (
    *("path", "filepath", "imagepath", "imgpath", "filename", "imagename", "imgname", "imagefile", "file", "image"),
    *("img", "imageid", "imgid", "idcode"),
)
_LABEL_NAMES = ("classname", "labelname", "categoryname", "class", "label", "category", "target", "labels")
_SPLIT_NAMES = ("split", "subset", "partition", "set", "usage")
_BOX_NAMES = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("bboxx1", "bboxy1", "bboxx2", "bboxy2"),
)
_SIZE_NAMES = (("width", "height"), ("imagewidth", "imageheight"), ("imgwidth", "imgheight"))
# A column is the one of images when at least half of its cells name one: lists often hold a few files that are gone.
_PATH_SHARE = 0.5


@dataclass(frozen=True)
class Columns:
    """Places in a row, from 0.

    Attributes:
        path: The image.
        label: Its class; None when the table has none.
        split: Its split; None when the table has none.
        box: xmin, ymin, xmax, ymax; empty when the table has none.
        size: Width and height of the image; empty when the table has none.
        has_header: Whether the first row names the columns.
    """

    path: int
    label: int | None
    split: int | None
    box: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    has_header: bool = True


def columns_of_header(row: Sequence[str]) -> Columns | None:
    """Return the columns that a header names; None when it names no image or neither a label nor a box."""
    names = [_NOT_IN_NAME.sub("", cell.lower()) for cell in row]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    path = _first(places, _PATH_NAMES)
    label = _first(places, _LABEL_NAMES)
    box = next((tuple(places[name] for name in four) for four in _BOX_NAMES if places.keys() >= set(four)), ())
    if path is None or (label is None and not box):
        return None
    size = next((tuple(places[name] for name in two) for two in _SIZE_NAMES if places.keys() >= set(two)), ())
    return Columns(path, label, _first(places, _SPLIT_NAMES), box, size)


def columns_of_content(rows: Sequence[Sequence[str]], is_image: Callable[[str], bool]) -> Columns | None:
    """Return the columns that the cells show, of a table without a header that we know.

    The image is the column that names most images, the split one of split names only, a box four columns of numbers
    side by side; the label is what remains, and has to be one column.

    Args:
        rows: The first rows, the very first perhaps a header.
        is_image: Whether a cell names an image of the source.
    """
    if not rows:
        return None
    width = len(rows[0])
    body = [row for row in rows[1:] or rows if len(row) == width]
    shares = [sum(is_image(row[place]) for row in body) / max(1, len(body)) for place in range(width)]
    path = max(range(width), key=lambda place: shares[place])
    if shares[path] < _PATH_SHARE:
        return None
    rest = [place for place in range(width) if place != path]
    split = next((place for place in rest if all(split_of_folder(row[place]) for row in body)), None)
    rest = [place for place in rest if place != split]
    box = next((tuple(range(at, at + 4)) for at in rest if _is_box(body, rest, at)), ())
    labels = [place for place in rest if place not in box]
    if len(labels) != 1:
        return None
    return Columns(path, labels[0], split, box, has_header=not is_image(rows[0][path]))


def _is_box(body: Sequence[Sequence[str]], rest: Sequence[int], at: int) -> bool:
    """Return whether four columns hold boxes: numbers, or nothing in all four, and some numbers."""
    four = range(at, at + 4)
    if not set(four) <= set(rest) or len(rest) < 5:
        return False
    cells = [[row[place] for place in four] for row in body]
    filled = [row for row in cells if any(row)]
    return bool(filled) and all(_is_finite(cell) for row in filled for cell in row)


def _is_finite(cell: str) -> bool:
    value = number_of(cell)
    return value is not None and math.isfinite(value)


def _first(places: dict[str, int], names: Sequence[str]) -> int | None:
    return next((places[name] for name in names if name in places), None)
