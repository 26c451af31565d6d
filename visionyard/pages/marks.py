"""Marks on images: boxes, masks and names, in a colour for each class."""

import colorsys
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import ImageDraw, ImageFont

_GOLDEN_ANGLE = 0.381966
Colour = tuple[int, int, int]


def class_colour(class_id: int) -> Colour:
    """Return the RGB colour of a class: neighbours far apart in hue, every third one lighter or darker."""
    hue = (0.58 + class_id * _GOLDEN_ANGLE) % 1.0
    lightness = (0.50, 0.38, 0.62)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def tint(image: np.ndarray, pixels: np.ndarray, colour: Colour, corner_xy: tuple[int, int] = (0, 0)) -> None:
    """Lay a colour over some pixels of an image, half transparent, in place.

    Args:
        image: (H, W, 3) uint8 RGB.
        pixels: (h, w) bool, of the part that begins at `corner_xy`.
        colour: RGB.
        corner_xy: Left and top.
    """
    left, top = corner_xy
    part = image[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    part[pixels] = (part[pixels] + np.array(colour, np.uint16)) // 2


def draw_box(draw: ImageDraw.ImageDraw, xyxy: Sequence[float], text: str, class_id: int) -> None:
    """Draw a box with a text, where there is one, at its upper left corner; lines and letters grow with the image."""
    left, top, right, bottom = xyxy
    colour = class_colour(class_id)
    thickness = line_px(draw.im.size)
    draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=thickness)
    if text:
        _draw_label(draw, text, (left, top), colour, _font(_letter_px(draw.im.size)))


def draw_caption(draw: ImageDraw.ImageDraw, text: str, class_id: int) -> None:
    """Write a text of the whole image into its upper left corner."""
    _draw_label(draw, text, (0.0, 0.0), class_colour(class_id), _font(round(_letter_px(draw.im.size) * 1.4)))


def line_px(size_wh: tuple[int, int]) -> int:
    """Return how thick a line is on an image of a size."""
    return max(1, round(sum(size_wh) / 2 * 0.004))


def _draw_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner_xy: tuple[float, float],
    colour: Colour,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    """Write on a filled strip above the corner, or inside the image where there is no room above."""
    image_width, image_height = draw.im.size
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2, round((bottom - top) * 0.25))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0.0, corner_xy[0]), max(0.0, image_width - width))
    y = corner_xy[1] - height
    if y < 0:
        y = min(max(0.0, corner_xy[1]), max(0.0, image_height - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, font=font, fill=_letters_on(colour))


def _letters_on(colour: Colour) -> Colour:
    red, green, blue = colour
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 150
    return (20, 20, 20) if is_light else (255, 255, 255)


def _letter_px(size_wh: tuple[int, int]) -> int:
    return max(10, round(sum(size_wh) / 2 * 0.022))


@cache
def _font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size_px)
