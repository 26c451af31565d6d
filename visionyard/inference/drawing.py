"""Draw predictions on images, so that a person sees at a glance what was found."""

import colorsys
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visionyard.transforms import Classification, Detections, Prediction

_GOLDEN_ANGLE = 0.381966
# Points below it are those that the model believes hidden or outside.
_LEAST_KEYPOINT_CONFIDENCE = 0.5
_Colour = tuple[int, int, int]


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class: neighbours far apart in hue, every third one lighter or darker."""
    hue = (0.58 + class_id * _GOLDEN_ANGLE) % 1.0
    lightness = (0.50, 0.38, 0.62)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_prediction(image: np.ndarray, prediction: Prediction, classes: Sequence[str]) -> np.ndarray:
    """Return a copy of an image with a prediction drawn on it.

    Lines and letters grow with the image. Less confident boxes are drawn first, so that the best lie on top.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: Boxes in its pixels, with masks and keypoints where there are some, or its class.
        classes: Class names in the order of their ids.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = Image.fromarray(_with_masks(image, prediction)).copy()
    draw = ImageDraw.Draw(canvas)
    if isinstance(prediction, Detections):
        _draw_boxes(draw, prediction, classes, canvas.size)
    else:
        _draw_class(draw, prediction, classes, canvas.size)
    return np.asarray(canvas)


def _with_masks(image: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Return the image with each object's mask laid over it, half transparent; the image itself where there is none."""
    if not isinstance(prediction, Detections) or not prediction.masks:
        return image
    tinted = image.copy()
    for position in reversed(range(len(prediction))):
        crop, (left, top) = prediction.masks[position].to_crop()
        part = tinted[top : top + crop.shape[0], left : left + crop.shape[1]]
        colour = np.array(class_colour(int(prediction.class_ids[position])), np.uint16)
        part[crop] = (part[crop] + colour) // 2
    return tinted


def _draw_keypoints(draw: ImageDraw.ImageDraw, points: np.ndarray, colour: _Colour, radius_px: float) -> None:
    for x, y, confidence in points.tolist():
        if confidence >= _LEAST_KEYPOINT_CONFIDENCE:
            draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=colour)


def _draw_boxes(
    draw: ImageDraw.ImageDraw, prediction: Detections, classes: Sequence[str], size_wh: tuple[int, int]
) -> None:
    thickness = max(1, round(sum(size_wh) / 2 * 0.004))
    font = _font(_letter_px(size_wh))
    for position in reversed(range(len(prediction))):
        class_id = int(prediction.class_ids[position])
        left, top, right, bottom = (float(value) for value in prediction.xyxy[position])
        colour = class_colour(class_id)
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=thickness)
        if prediction.keypoints is not None:
            _draw_keypoints(draw, prediction.keypoints[position], colour, 1.5 * thickness)
        text = f"{classes[class_id]} {prediction.confidence[position]:.0%}"
        _draw_label(draw, text, (left, top), colour, font, size_wh)


def _draw_class(
    draw: ImageDraw.ImageDraw, prediction: Classification, classes: Sequence[str], size_wh: tuple[int, int]
) -> None:
    text = f"{classes[prediction.class_id]} {prediction.confidence:.0%}"
    font = _font(round(_letter_px(size_wh) * 1.4))
    _draw_label(draw, text, (0.0, 0.0), class_colour(prediction.class_id), font, size_wh)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner_xy: tuple[float, float],
    colour: _Colour,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    size_wh: tuple[int, int],
) -> None:
    """Write on a filled strip above the corner, or inside the image where there is no room above."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2, round((bottom - top) * 0.25))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0.0, corner_xy[0]), max(0.0, size_wh[0] - width))
    y = corner_xy[1] - height
    if y < 0:
        y = min(max(0.0, corner_xy[1]), max(0.0, size_wh[1] - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, font=font, fill=_letters_on(colour))


def _letters_on(colour: _Colour) -> _Colour:
    red, green, blue = colour
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 150
    return (20, 20, 20) if is_light else (255, 255, 255)


def _letter_px(size_wh: tuple[int, int]) -> int:
    return max(10, round(sum(size_wh) / 2 * 0.022))


@cache
def _font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size_px)
