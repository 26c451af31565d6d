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
# Zeros and ones are classes when nearly each row sets one: several in a row are attributes, which we do not train.
_ONE_CLASS_SHARE = 0.9


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
        flags: Place and name of each class that has a column of its own, of zeros and ones; empty when they have none.
    """

    path: int
    label: int | None
    split: int | None
    box: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    has_header: bool = True
    flags: tuple[tuple[int, str], ...] = ()

    def class_of(self, cells: Sequence[str]) -> str | None:
        """Return the class that a row gives, empty when it gives none; None when it sets several flags."""
        if not self.flags:
            return "" if self.label is None else cells[self.label]
        named = [name for place, name in self.flags if number_of(cells[place])]
        return None if len(named) > 1 else "".join(named)


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


def columns_of_flags(rows: Sequence[Sequence[str]]) -> Columns | None:
    """Return the columns of a table with a column of zeros and ones for each class, as Roboflow and contests write it.

    Args:
        rows: The first rows, the very first being the header.
    """
    header = rows[0] if rows else []
    names = [_NOT_IN_NAME.sub("", cell.lower()) for cell in header]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    path, split = _first(places, _PATH_NAMES), _first(places, _SPLIT_NAMES)
    rest = [place for place in range(len(header)) if place not in {path, split}]
    body = [row for row in rows[1:] if len(row) == len(header)]
    if path is None or len(rest) < 2 or not body:
        return None
    values = [[number_of(row[place]) for place in rest] for row in body]
    are_flags = all(value in {0.0, 1.0} for row in values for value in row)
    if not are_flags or sum(row.count(1.0) == 1 for row in values) < _ONE_CLASS_SHARE * len(values):
        return None
    return Columns(path, None, split, flags=tuple((place, header[place]) for place in rest))


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
