"""One annotation of COCO: its box and its mask."""

from typing import Any

from visionyard.data.box_checks import text_of_box
from visionyard.data.formats.coco_categories import Categories
from visionyard.data.formats.json_reading import numbers_of
from visionyard.data.formats.reading import RawBox
from visionyard.data.formats.shapes import around_points, hardly_overlap
from visionyard.data.items import Problems
from visionyard.errors import ShapeError
from visionyard.geometry import Mask, Xyxy


def read_box(values: dict[str, Any], item: str, file: str, categories: Categories, problems: Problems) -> RawBox | None:
    """Return the box of an annotation; None when it has none that can be used, which is noted.

    Args:
        values: The annotation.
        item: What messages call it.
        file: Its file, for messages.
        categories: The file's classes.
        problems: Where to note.
    """
    class_name = categories.name_of(values["category_id"])
    if class_name is None:
        message = f"category_id {str(values['category_id'])[:40]!r} is not in categories; dropped"
        problems.add("unknown_class", file, message, item)
        return None
    polygons, mask, fault = _segmentation(values.get("segmentation"))
    if fault:
        problems.add("malformed_mask", file, f"{fault}; left out", item)
    drawn = mask.xyxy() if mask else around_points([each for polygon in polygons for each in polygon])
    boxed = _corners(values.get("bbox"))
    xyxy = boxed or drawn
    if xyxy is None:
        shown = str(values.get("bbox"))[:60]
        problems.add("malformed_box", file, f"expected bbox as [left, top, width, height], got {shown}; dropped", item)
        return None
    if boxed and drawn and hardly_overlap(boxed, drawn):
        message = f"the box {text_of_box(boxed)} and its mask over {text_of_box(drawn)} hardly overlap; both kept"
        problems.add("box_differs_from_mask", file, message, item)
    return RawBox(class_name, xyxy, item, polygons, mask, is_crowd=values.get("iscrowd") in (1, True))


def _corners(bbox: Any) -> Xyxy | None:
    numbers = numbers_of(bbox)
    if numbers is None or len(numbers) != 4:
        return None
    left, top, width, height = numbers
    return left, top, left + width, top + height


def _segmentation(value: Any) -> tuple[tuple[tuple[float, ...], ...], Mask | None, str]:
    """Return outlines or a mask, and what is wrong with it; all empty where an annotation has a box only."""
    if isinstance(value, dict):
        return (), *_run_lengths(value)
    if not value:
        return (), None, ""
    if not isinstance(value, list):
        return (), None, f"segmentation is {str(value)[:40]!r}, expected outlines or run lengths"
    # Some tools leave out the list around a single outline.
    outlines = value if isinstance(value[0], list) else [value]
    polygons = [numbers_of(outline) for outline in outlines if outline != []]
    usable = tuple(each for each in polygons if each is not None and len(each) >= 6 and len(each) % 2 == 0)
    count = len(polygons) - len(usable)
    fault = f"{count} of {len(polygons)} outlines are not x, y of three points or more" if count else ""
    return usable, None, fault


def _run_lengths(value: dict[str, Any]) -> tuple[Mask | None, str]:
    size, counts = value.get("size"), value.get("counts")
    if not value:
        return None, ""
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        return None, f"a mask's size is {str(size)[:40]}, expected [height, width]"
    try:
        if isinstance(counts, list):
            return Mask.from_runs(counts, (size[0], size[1])), ""
        if isinstance(counts, str):
            return Mask.from_json({"size": size, "counts": counts}), ""
    except (ShapeError, OverflowError) as error:
        return None, str(error)
    return None, f"a mask's counts are {str(counts)[:40]!r}, expected a list or a text"
