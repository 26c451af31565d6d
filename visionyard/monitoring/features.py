"""What is measured of one picture and the model's answer: the same numbers for the reference and while serving.

Of a picture whose longer side exceeds 256 px, pixels at even distances are looked at, as many as a picture of 256 px
has; so an image costs about a third of a millisecond, whatever its size.

| feature | meaning |
| --- | --- |
| width_px, height_px | size of the upright picture |
| brightness | mean luminance, 0 to 1 |
| contrast | standard deviation of the luminance, 0 to 0.5 |
| sharpness | log10 of the variance of the Laplacian over that of the luminance: low when blurred, in any light |
| saturation | mean of the largest minus the smallest channel, 0 to 1 |
| red_blue, green_magenta | mean of red minus blue, of green minus the mean of both, -1 to 1: tint and white balance |
| embedding_distance | Mahalanobis distance of the descriptor from the reference's mean |
| confidence | of the class; of detections the mean over the boxes, missing when there are none |
| object_count | boxes found |

The descriptor stands in for an embedding, since a bundle's outputs hold none: the layout of light and colour and the
directions of edges, 32 numbers. It is fixed, needs no second model, and tells scenes and cameras apart; it does not
know what the things in a picture are.

Sources: variance of the Laplacian as focus measure: J. Pech-Pacheco et al., Diatom autofocusing in brightfield
microscopy, ICPR 2000; layout by a small grid: A. Oliva, A. Torralba, Modeling the Shape of the Scene, IJCV 42, 2001
(there with Gabor filters); histogram of oriented gradients: N. Dalal, B. Triggs, CVPR 2005; luminance: ITU-R BT.601.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from visionyard.transforms import Classification, Prediction

PICTURE_FEATURES = (
    "width_px",
    "height_px",
    "brightness",
    "contrast",
    "sharpness",
    "saturation",
    "red_blue",
    "green_magenta",
)
PREDICTION_FEATURES = ("confidence", "object_count")
EMBEDDING_FEATURE = "embedding_distance"
CLASS_MIX = "class_mix"

MEASURED_PX = 256
# Features are rounded, so that a value read back from JSON equals the one measured.
DIGITS = 6
_LIGHT_GRID = 4
_COLOUR_GRID = 2
_DIRECTION_COUNT = 8
_DIRECTION_PX = 64
DESCRIPTOR_SIZE = _LIGHT_GRID**2 + 2 * _COLOUR_GRID**2 + _DIRECTION_COUNT
# One grey level squared: keeps the logarithm finite, and lies below any picture's noise.
_FLOOR = 1.0
# Gradients weaker than this, in grey levels, are noise and have no direction worth counting.
_MIN_GRADIENT = 4.0


@dataclass(frozen=True)
class PictureFeatures:
    """What one picture shows.

    Attributes:
        values: (8,) float64 in the order of `PICTURE_FEATURES`.
        descriptor: (32,) float64.
    """

    values: np.ndarray
    descriptor: np.ndarray


@dataclass(frozen=True)
class PredictionFeatures:
    """What the model's answer shows.

    Attributes:
        values: (2,) float64 in the order of `PREDICTION_FEATURES`; NaN where there is none.
        class_ids: (N,) int64, of each object; the one class of a classification.
    """

    values: np.ndarray
    class_ids: np.ndarray


def picture_features(image: np.ndarray) -> PictureFeatures:
    """Measure a picture.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
    """
    small = _small(image)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    deviation = float(cv2.meanStdDev(grey)[1][0, 0])
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S, ksize=1))
    sharpness = np.log10((float(edges[0, 0]) ** 2 + _FLOOR) / (deviation**2 + _FLOOR))
    red, green, blue = cv2.split(small)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    reds, greens, blues, _ = (value / 255 for value in cv2.mean(small))
    values = np.array(
        [
            image.shape[1],
            image.shape[0],
            0.299 * reds + 0.587 * greens + 0.114 * blues,
            deviation / 255,
            sharpness,
            cv2.mean(spread)[0] / 255,
            reds - blues,
            greens - (reds + blues) / 2,
        ]
    )
    return PictureFeatures(values.round(DIGITS), _descriptor(small, grey))


def prediction_features(prediction: Prediction, *, confidence_threshold: float) -> PredictionFeatures:
    """Measure an answer.

    Args:
        prediction: Of one picture.
        confidence_threshold: Detections below it do not count: the bundle's own, in [0, 1].
    """
    if isinstance(prediction, Classification):
        values = np.array([prediction.confidence, np.nan])
        return PredictionFeatures(values.round(DIGITS), np.array([prediction.class_id], dtype=np.int64))
    is_counted = prediction.confidence >= confidence_threshold
    found = prediction.confidence[is_counted]
    values = np.array([found.mean(dtype=np.float64) if found.size else np.nan, found.size])
    return PredictionFeatures(values.round(DIGITS), prediction.class_ids[is_counted].astype(np.int64))


def confidence_threshold_of(postprocessing: Any) -> float:
    """Return the threshold that a bundle's postprocessing applies by itself; 0 where it has none."""
    return float(getattr(postprocessing, "confidence_threshold", 0.0))


def _small(image: np.ndarray) -> np.ndarray:
    # Single pixels, not means over areas: those cost ten times as much (0.5 ms at 450 px, 10 ms at 12 megapixels), and
    # fine texture, which blur takes away first, would be lost in them.
    height, width = image.shape[:2]
    scale = MEASURED_PX / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))


def _descriptor(small: np.ndarray, grey: np.ndarray) -> np.ndarray:
    light = cv2.resize(grey, (_LIGHT_GRID, _LIGHT_GRID), interpolation=cv2.INTER_AREA).astype(np.float64).ravel() / 255
    colour = cv2.resize(small, (_COLOUR_GRID, _COLOUR_GRID), interpolation=cv2.INTER_AREA).astype(np.float64) / 255
    red, green, blue = colour[..., 0].ravel(), colour[..., 1].ravel(), colour[..., 2].ravel()
    return np.concatenate([light, red - blue, green - (red + blue) / 2, _directions(grey)])


def _directions(grey: np.ndarray) -> np.ndarray:
    """Return which part of all edges, weighed by strength, runs in each of eight directions; zeros without edges."""
    if max(grey.shape) > _DIRECTION_PX:
        scale = _DIRECTION_PX / max(grey.shape)
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.25)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.25)
    strength, angle = cv2.cartToPolar(across, down)
    strength[strength < _MIN_GRADIENT] = 0
    places = (angle * (_DIRECTION_COUNT / np.pi)).astype(np.int64).ravel() % _DIRECTION_COUNT
    weights = np.bincount(places, weights=strength.ravel(), minlength=_DIRECTION_COUNT)
    total = weights.sum()
    return np.asarray(weights / total if total > 0 else weights, dtype=np.float64)
