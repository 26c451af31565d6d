"""Draw predictions on images, so that a person sees at a glance what was found."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from visionyard.pages.marks import Colour, class_colour, draw_box, draw_caption, line_px, tint
from visionyard.transforms import Detections, Prediction

# Points below it are those that the model believes hidden or outside.
_LEAST_KEYPOINT_CONFIDENCE = 0.5


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
        _draw_boxes(draw, prediction, classes)
    else:
        draw_caption(draw, f"{classes[prediction.class_id]} {prediction.confidence:.0%}", prediction.class_id)
    return np.asarray(canvas)


def _with_masks(image: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Return the image with each object's mask laid over it, half transparent; the image itself where there is none."""
    if not isinstance(prediction, Detections) or not prediction.masks:
        return image
    tinted = image.copy()
    for position in reversed(range(len(prediction))):
        crop, corner_xy = prediction.masks[position].to_crop()
        tint(tinted, crop, class_colour(int(prediction.class_ids[position])), corner_xy)
    return tinted


def _draw_boxes(draw: ImageDraw.ImageDraw, prediction: Detections, classes: Sequence[str]) -> None:
    for position in reversed(range(len(prediction))):
        class_id = int(prediction.class_ids[position])
        text = f"{classes[class_id]} {prediction.confidence[position]:.0%}"
        draw_box(draw, prediction.xyxy[position].tolist(), text, class_id)
        if prediction.keypoints is not None:
            radius_px = 1.5 * line_px(draw.im.size)
            _draw_keypoints(draw, prediction.keypoints[position], class_colour(class_id), radius_px)


def _draw_keypoints(draw: ImageDraw.ImageDraw, points: np.ndarray, colour: Colour, radius_px: float) -> None:
    for x, y, confidence in points.tolist():
        if confidence >= _LEAST_KEYPOINT_CONFIDENCE:
            draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=colour)
