"""What CVAT's two XML formats, for images and for video, have in common.

Source: CVAT documentation, XML annotation format, version 1.1.
"""

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np

from visionyard.data.formats.reading import RawBox
from visionyard.data.formats.shapes import around_ellipse, around_points, around_turned_box
from visionyard.data.formats.source_tree import SourceTree
from visionyard.data.formats.xml_reading import XML_ERRORS, number_of, text_of, xml_events
from visionyard.data.items import Problems
from visionyard.errors import DataError, ShapeError
from visionyard.geometry import Mask, Xyxy
from visionyard.transforms.images import MAX_PIXEL_COUNT

# Shapes with an inside, hence a box; of the last two only the box is taken.
BOXED_SHAPES = {"box", "polygon", "mask", "ellipse", "cuboid"}
OTHER_SHAPES = {"polyline", "points", "skeleton"}
_LOOKED_AT = 20
_MODES: dict[str, Literal["images", "video"]] = {"annotation": "images", "interpolation": "video"}


def mode_of(tree: SourceTree, name: str) -> Literal["images", "video"] | None:
    """Return which of the two formats a file is of, by its first image or track, else by what its head says."""
    root = mode = ""
    try:
        with closing(xml_events(tree.path(name), name)) as parsed:
            for event, element in parsed:
                root = root or element.tag
                if root != "annotations":
                    return None
                if element.tag in {"image", "track"}:
                    return "images" if element.tag == "image" else "video"
                if event == "end" and element.tag == "mode":
                    mode = (element.text or "").strip()
    except XML_ERRORS:
        # Cut short, or worse; as far as it goes it is CVAT's, and its reader tells what is wrong.
        pass
    return _MODES.get(mode, "video") if root == "annotations" else None


def first_of_mode(tree: SourceTree, mode: str) -> str:
    """Return the first of a source's XML files that is of one of the two formats; empty when none is."""
    files = tree.with_extension(".xml")[:_LOOKED_AT]
    return next((file.name for file in files if mode_of(tree, file.name) == mode), "")


@dataclass(frozen=True)
class Labels:
    """The labels that a file declares; none: any is taken."""

    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, meta: Element) -> "Labels":
        """Take them from a file's head, without the points of skeletons."""
        labels = [node for node in meta.iter("label") if not text_of(node, "parent")]
        return cls(frozenset(text_of(node, "name") for node in labels) - {""})

    def checked(self, element: Element, item: str, file: str, problems: Problems) -> str | None:
        """Return the label of a track, shape or tag; None when the file does not declare it, which is noted."""
        label = (element.get("label") or "").strip()
        if label and (not self.names or label in self.names):
            return label
        shown = ", ".join(name[:80] for name in sorted(self.names)[:10])
        message = f"label {label[:80]!r} is none of {shown}; dropped"
        problems.add("unknown_class", file, message, item)
        return None


def read_shape(
    element: Element, class_name: str, item: str, file: str, size_wh: tuple[int, int] | None, problems: Problems
) -> RawBox | None:
    """Return the box of a shape, with its pixels where it has them; None when it cannot be used, which is noted.

    Args:
        element: One of `BOXED_SHAPES`.
        class_name: Its class.
        item: What messages call it.
        file: Its file, for messages.
        size_wh: The image's, which a mask needs.
        problems: Where to note.
    """
    try:
        xyxy, polygons, mask = _extents(element, size_wh)
        rotation = _rotation(element)
    except (ShapeError, OverflowError) as error:
        problems.add("malformed_box", file, f"<{element.tag}>: {error}; dropped", item)
        return None
    if element.tag in {"ellipse", "cuboid"}:
        problems.add("shape_as_box", file, f"<{element.tag}>: the upright box around it is taken", item)
    elif rotation:
        xyxy = around_turned_box(xyxy, rotation)
        problems.add("rotated_box", file, f"turned by {rotation:g} degrees; the upright box around it is taken", item)
    crowd = (each.text for each in element.iter("attribute") if each.get("name") == "is_crowd")
    return RawBox(class_name, xyxy, item, polygons, mask, is_crowd="true" in crowd)


def _extents(
    element: Element, size_wh: tuple[int, int] | None
) -> tuple[Xyxy, tuple[tuple[float, ...], ...], Mask | None]:
    if element.tag == "box":
        left, top, right, bottom = _numbers(element, "xtl", "ytl", "xbr", "ybr")
        return (left, top, right, bottom), (), None
    if element.tag == "mask":
        mask = _mask(element, size_wh)
        xyxy = mask.xyxy()
        if xyxy is None:
            raise ShapeError("it has no pixels")
        return xyxy, (), mask
    if element.tag == "ellipse":
        return _around_ellipse(element), (), None
    if element.tag == "cuboid":
        points = _numbers(element, *(f"{axis}{corner}{face}" for face in "12" for corner in _CORNERS for axis in "xy"))
    else:
        points = _points(element.get("points") or "")
    xyxy = around_points(points)
    if xyxy is None:
        raise ShapeError("a point is not a number")
    return xyxy, (points,) if element.tag == "polygon" else (), None


_CORNERS = ("tl", "bl", "tr", "br")


def _numbers(element: Element, *names: str) -> tuple[float, ...]:
    values = [number_of(element.get(name)) for name in names]
    numbers = tuple(value for value in values if value is not None)
    if len(numbers) < len(names):
        missing = names[values.index(None)]
        raise ShapeError(f"{missing} is {element.get(missing, '')[:40]!r}, expected a number")
    return numbers


def _rotation(element: Element) -> float:
    (degrees,) = _numbers(element, "rotation") if "rotation" in element.attrib else (0.0,)
    if not math.isfinite(degrees):
        raise ShapeError(f"rotation is {degrees}, expected degrees")
    return degrees


def _points(text: str) -> tuple[float, ...]:
    pairs = [[number_of(value) for value in pair.split(",")] for pair in text.split(";")]
    points = tuple(value for pair in pairs for value in pair if len(pair) == 2 and value is not None)
    if len(points) < 2 * len(pairs) or len(pairs) < 3:
        raise ShapeError(f"points are {text[:40]!r}, expected x,y;x,y;x,y or more")
    return points


def _around_ellipse(element: Element) -> Xyxy:
    x, y, radius_x, radius_y = _numbers(element, "cx", "cy", "rx", "ry")
    return around_ellipse((x, y), (radius_x, radius_y), _rotation(element))


def _mask(element: Element, size_wh: tuple[int, int] | None) -> Mask:
    """Return a mask from its runs outside, inside ... row by row, in the rectangle from left and top."""
    left, top, width, height = (_whole(value) for value in _numbers(element, "left", "top", "width", "height"))
    if size_wh is None:
        raise ShapeError("a mask needs the width and height of its image")
    if not 0 < width * height <= size_wh[0] * size_wh[1] <= MAX_PIXEL_COUNT:
        raise ShapeError(f"its rectangle of {width}x{height} px does not fit the image of {size_wh} px")
    try:
        runs = [int(run) for run in (element.get("rle") or "").split(",")]
    except ValueError:
        raise ShapeError(f"rle is {(element.get('rle') or '')[:40]!r}, expected whole numbers") from None
    if min(runs) < 0 or sum(runs) != width * height:
        raise ShapeError(f"its runs cover {sum(runs)} pixels, expected {width * height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return Mask.from_crop(inside, (left, top), (size_wh[1], size_wh[0]))


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ShapeError(f"{value} is not a whole number of pixels")
    return int(value)


def refuse_mode(name: str, mode: str) -> DataError:
    """Return the error for a file of the other of the two formats."""
    found, wanted = ("tracks", "images") if mode == "video" else ("images", "video")
    return DataError(
        f"{name}: holds <{found[:-1]}> elements, the format CVAT for {mode}; export the task again as "
        f"'CVAT for {wanted} 1.1'"
    )
