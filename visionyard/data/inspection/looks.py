"""Brightness and sharpness of images, and which stand at the ends of both scales."""

from heapq import nsmallest
from math import log10
from typing import NamedTuple

import numpy as np

from visionyard.data.inspection.histogram import Bins
from visionyard.data.inspection.statistics import Extreme, Looks
from visionyard.data.labelled import LabelledImage
from visionyard.errors import MediaError
from visionyard.transforms.images import open_thumbnail
from visionyard.video.selection import sharpness

# Measured on small pictures of one size, so that sharpness does not follow the resolution.
_SIDE_PX = 256
_BRIGHTNESS_EDGES = tuple(range(0, 257, 4))
_SHARPNESS_EDGES = tuple(step / 10 for step in range(51))
_EXTREME_COUNT = 6


class Look(NamedTuple):
    """How one image looks.

    Attributes:
        brightness: Mean grey level, 0 to 255.
        contrast: Standard deviation of the grey levels.
        sharpness: log10 of 1 + the variance of the Laplacian, see `visionyard.video.selection.sharpness`.
    """

    brightness: float
    contrast: float
    sharpness: float


def small_grey(data: bytes) -> np.ndarray:
    """Decode an encoded image, small: (H, W) uint8, 256 px on the longer side unless it is smaller.

    Raises:
        MediaError: It cannot be decoded.
    """
    picture = open_thumbnail(data, _SIDE_PX)
    picture.thumbnail((_SIDE_PX, _SIDE_PX), reducing_gap=3.0)
    return np.asarray(picture)


def look_of(grey: np.ndarray) -> Look:
    """Measure what `small_grey` made of an image."""
    return Look(float(grey.mean()), float(grey.std()), log10(1 + sharpness(grey)))


class LooksTally:
    """Looks at images and keeps the distribution and the extremes."""

    def __init__(self) -> None:
        self._brightness, self._sharpness = Bins(_BRIGHTNESS_EDGES), Bins(_SHARPNESS_EDGES)
        self._measured_count = self._unreadable_count = 0
        self._extremes: dict[str, list[Extreme]] = {"darkest": [], "brightest": [], "blurriest": []}

    def add(self, image: LabelledImage) -> None:
        """Decode an image, small, and measure it."""
        self._measured_count += 1
        try:
            look = look_of(small_grey(image.image_bytes()))
        except MediaError:
            self._unreadable_count += 1
            return
        self._brightness.add([look.brightness])
        self._sharpness.add([look.sharpness])
        for name, value, order in (
            ("darkest", look.brightness, 1),
            ("brightest", look.brightness, -1),
            ("blurriest", look.sharpness, 1),
        ):
            self._keep(name, Extreme(image.item.key, image.item.source, round(value, 3)), order)

    def _keep(self, name: str, extreme: Extreme, order: int) -> None:
        kept = [*self._extremes[name], extreme]
        self._extremes[name] = nsmallest(_EXTREME_COUNT, kept, key=lambda one: (order * one.value, one.key))

    def finish(self) -> Looks:
        """Return what was measured."""
        return Looks(
            measured_count=self._measured_count,
            unreadable_count=self._unreadable_count,
            brightness=self._brightness.histogram(),
            sharpness=self._sharpness.histogram(),
            **{name: tuple(found) for name, found in self._extremes.items()},
        )
