"""What a person drew on an image in Label Studio: regions in percent of the image, or classes of the whole image.

Source: Label Studio documentation, tags RectangleLabels, PolygonLabels, BrushLabels, EllipseLabels and Choices, and
its export formats JSON and JSON-MIN.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from visionyard.data.formats.json_reading import numbers_of
from visionyard.data.formats.label_studio_brush import brush_mask
from visionyard.data.formats.reading import RawBox
from visionyard.data.formats.shapes import around_ellipse, around_points, around_turned_box
from visionyard.data.items import Problems
from visionyard.errors import ShapeError
from visionyard.geometry import Mask, Xyxy

_LABEL_KEYS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
# Regions of which nothing is read. What is no region (texts, ratings, relations) says nothing of boxes and is passed
# over.
_OTHER_REGIONS = {"keypointlabels", "keypoint", "videorectangle", "vectorlabels", "vector", "bitmasklabels", "bitmask"}
Region = Mapping[str, Any]


def regions_of(results: list[Any]) -> Iterator[Region]:
    """Yield the regions of an annotation: each its geometry and its labels, which may come as two entries of one id."""
    entries = [each for each in results if isinstance(each, dict) and isinstance(each.get("value"), dict)]
    labels = {_id(each): each["value"][key] for each in entries for key in _LABEL_KEYS if each["value"].get(key)}
    seen = set()
    for each in entries:
        if not is_region(each["value"], each.get("type")) or _id(each) in seen:
            continue
        seen |= {_id(each)} - {""}
        sizes = {key: each[key] for key in ("original_width", "original_height", "image_rotation") if key in each}
        shared = {"labels": labels[_id(each)]} if _id(each) and _id(each) in labels else {}
        yield {"type": each.get("type"), **shared, **sizes, **each["value"]}


def _id(result: Region) -> str:
    return result["id"] if isinstance(result.get("id"), str) else ""


def is_region(value: Mapping[str, Any], kind: Any) -> bool:
    """Return whether a value says where something is."""
    return "rle" in value or "points" in value or "x" in value or str(kind) in _OTHER_REGIONS


def choices_of(value: Any) -> list[str]:
    """Return the classes of the whole image that were chosen."""
    chosen = value.get("choices") if isinstance(value, dict) else value
    return _texts([chosen] if isinstance(chosen, str) else chosen)


def _texts(values: Any) -> list[str]:
    texts = [each.strip() for each in values if isinstance(each, str)] if isinstance(values, list) else []
    return [text for text in texts if text]


def size_of(region: Region) -> tuple[int, int] | None:
    """Return the size of the image that a region was drawn on; None where it does not say."""
    width, height = region.get("original_width"), region.get("original_height")
    return (width, height) if type(width) is int and type(height) is int and min(width, height) > 0 else None


def read_region(region: Region, item: str, file: str, problems: Problems) -> RawBox | None:
    """Return the box of a region, in shares of the image; None when it cannot be used, which is noted.

    Args:
        region: As `regions_of` yields it.
        item: What messages call it.
        file: Its file, for messages.
        problems: Where to note.
    """
    if str(region.get("type")) in _OTHER_REGIONS:
        problems.add("shape_not_supported", file, f"{region['type']} has no inside that is read; dropped", item)
        return None
    labels = next((region[key] for key in _LABEL_KEYS if region.get(key)), None)
    names = _texts(labels)
    if not names:
        problems.add("unknown_class", file, "the region has no label; dropped", item)
        return None
    if len(names) > 1:
        problems.add("several_classes", file, f"it has the labels {', '.join(names[:5])}; the first is taken", item)
    try:
        xyxy, polygon, mask = _extents(region)
    except (ShapeError, OverflowError) as error:
        problems.add("malformed_box", file, f"{error}; dropped", item)
        return None
    if "radiusX" in region:
        problems.add("shape_as_box", file, "an ellipse: the upright box around it is taken", item)
    elif region.get("rotation") and mask is None and not polygon:
        degrees = region["rotation"]
        problems.add("rotated_box", file, f"turned by {degrees:g} degrees; the upright box around it is taken", item)
    return RawBox(names[0], xyxy, item, (polygon,) if polygon else (), mask)


def _extents(region: Region) -> tuple[Xyxy, tuple[float, ...], Mask | None]:
    """Return the box around a region and its outline, in shares of the image, and its mask."""
    if region.get("image_rotation"):
        raise ShapeError(f"drawn on the image turned by {str(region['image_rotation'])[:20]}, which is not read")
    if "rle" in region:
        return _brush(region)
    if "points" in region:
        points = region["points"]
        pairs = [numbers_of(point) for point in points] if isinstance(points, list) else []
        outline = tuple(value / 100 for pair in pairs for value in pair or ())
        around = around_points(outline)
        if around is None or len(pairs) < 3 or any(pair is None or len(pair) != 2 for pair in pairs):
            raise ShapeError(f"points are {str(points)[:40]}, expected three or more of [x, y]")
        return around, outline, None
    rotation = _numbers(region, "rotation")[0] if region.get("rotation") else 0.0
    if "radiusX" in region:
        x, y, radius_x, radius_y = _numbers(region, "x", "y", "radiusX", "radiusY")
        return (
            _turned((x - radius_x, y - radius_y, x + radius_x, y + radius_y), rotation, region, is_ellipse=True),
            (),
            None,
        )
    left, top, width, height = _numbers(region, "x", "y", "width", "height")
    return _turned((left, top, left + width, top + height), rotation, region, is_ellipse=False), (), None


def _brush(region: Region) -> tuple[Xyxy, tuple[float, ...], Mask]:
    size_wh = size_of(region)
    if size_wh is None:
        raise ShapeError("a brush mask needs original_width and original_height")
    mask = brush_mask(region["rle"], size_wh)
    around = mask.xyxy()
    if around is None:
        raise ShapeError("the brush mask has no pixels")
    left, top, right, bottom = around
    return (left / size_wh[0], top / size_wh[1], right / size_wh[0], bottom / size_wh[1]), (), mask


def _turned(percent: Xyxy, degrees: float, region: Region, *, is_ellipse: bool) -> Xyxy:
    """Return the upright box around a turned rectangle or ellipse, in shares of the image.

    Label Studio turns a rectangle clockwise about its upper left corner, an ellipse about its centre, in pixels.
    """
    left, top, right, bottom = (value / 100 for value in percent)
    if not degrees:
        return left, top, right, bottom
    size_wh = size_of(region)
    if size_wh is None:
        raise ShapeError("a turned shape needs original_width and original_height")
    width, height = size_wh
    left, top, right, bottom = left * width, top * height, right * width, bottom * height
    if is_ellipse:
        centre, radii = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
        box = around_ellipse(centre, radii, degrees)
    else:
        box = around_turned_box((left, top, right, bottom), degrees, pivot_xy=(left, top))
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _numbers(region: Region, *names: str) -> tuple[float, ...]:
    numbers = numbers_of([region.get(name) for name in names])
    if numbers is None or not all(math.isfinite(number) for number in numbers):
        shown = ", ".join(f"{name} {str(region.get(name))[:20]!r}" for name in names)
        raise ShapeError(f"expected numbers, got {shown}")
    return numbers
