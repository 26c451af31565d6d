"""Pictures with their labels drawn: some that are spread over all, and those that stand at the ends of a scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from visionyard.data.class_masks import decode_class_mask, ids_present
from visionyard.data.inspection.statistics import Extreme, Inspection
from visionyard.data.items import Item
from visionyard.data.labelled import LabelledImage, LabelledSet
from visionyard.errors import DataError
from visionyard.pages.marks import class_colour, draw_box, draw_caption, tint

SIDE_PX = 480
_SPREAD_COUNT = 24
# A name is about so wide.
_NAMED_SIDE_PX = 40
# Source and key: a loose image and a frame of a clip may have the same key.
Address = tuple[str, str]
# Classes that none of these shows get an image of their own, up to so many.
_MOST_ADDED = 24


@dataclass(frozen=True)
class Example:
    """An image with its label drawn.

    Attributes:
        item: Its facts.
        is_labelled: Whether anyone said what it shows.
        picture: At most `SIDE_PX` on its longer side.
    """

    item: Item
    is_labelled: bool
    picture: Image.Image


def address_of(image: Item | Extreme) -> Address:
    """Return what no other image has."""
    return image.source, image.key


def choose_examples(labelled: LabelledSet, inspection: Inspection) -> tuple[list[Example], dict[Address, Example]]:
    """Return drawn images: 24 spread evenly, more for classes that these do not show, and the extremes.

    Args:
        labelled: The images, gone through once.
        inspection: What was counted of them.
    """
    looks = inspection.looks
    extreme = {address_of(one) for one in (*looks.darkest, *looks.brightest, *looks.blurriest)}
    last = max(labelled.item_count - 1, 0)
    spread = set(np.linspace(0, last, min(labelled.item_count, _SPREAD_COUNT)).round().astype(int).tolist())
    colours = {one.name: class_id for class_id, one in enumerate(inspection.classes)}
    missing = {one.name for one in inspection.classes}
    examples: list[Example] = []
    extremes: dict[Address, Example] = {}
    for position, image in enumerate(labelled.images()):
        shown = _names(image.item)
        is_added = bool(missing & shown) and len(examples) < _SPREAD_COUNT + _MOST_ADDED
        is_chosen = position in spread or is_added
        if not is_chosen and address_of(image.item) not in extreme:
            continue
        try:
            example = Example(image.item, image.is_labelled, draw_label(image, colours, labelled.classes))
        except DataError:
            continue  # counted as unreadable by the inspection
        if is_chosen:
            missing -= shown
            examples.append(example)
        if address_of(image.item) in extreme:
            extremes[address_of(image.item)] = example
    return examples, extremes


def _names(item: Item) -> set[str]:
    names = {box.class_name for box in item.boxes or ()}
    return names | {item.class_name} if item.class_name is not None else names


def draw_label(image: LabelledImage, colours: Mapping[str, int], classes: Sequence[str]) -> Image.Image:
    """Return an image, made small, with its label drawn.

    Args:
        image: The image.
        colours: The number of each class's colour.
        classes: Names in the order of the ids in semantic masks.

    Raises:
        DataError: It cannot be decoded.
    """
    pixels, item = image.pixels(), image.item
    if item.mask_blob is not None:
        _tint_classes(pixels, decode_class_mask(image.mask_bytes()), [colours[name] for name in classes])
    # The last one lies on top: small objects after those around them.
    boxes = sorted(item.boxes or (), key=lambda box: -_area(box.xyxy))
    for box in boxes:
        if box.mask is not None:
            crop, corner_xy = box.mask.to_crop()
            tint(pixels, crop, class_colour(colours[box.class_name]), corner_xy)
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE_PX, SIDE_PX), reducing_gap=3.0)
    draw = ImageDraw.Draw(picture)
    scale_x, scale_y = picture.width / item.width, picture.height / item.height
    for box in boxes:
        left, top, right, bottom = box.xyxy
        place = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
        text = f"{box.class_name} (crowd)" if box.is_crowd else box.class_name
        if max(place[2] - place[0], place[3] - place[1]) < _NAMED_SIDE_PX:
            text = ""  # the name would hide the object; the colour tells the class
        draw_box(draw, place, text, colours[box.class_name])
    if item.class_name is not None:
        draw_caption(draw, item.class_name, colours[item.class_name])
    return picture


def _area(xyxy: Sequence[float]) -> float:
    return (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1])


def _tint_classes(pixels: np.ndarray, class_ids: np.ndarray, colours: Sequence[int]) -> None:
    for class_id in ids_present(class_ids):
        if class_id < len(colours):
            tint(pixels, class_ids == class_id, class_colour(colours[class_id]))
