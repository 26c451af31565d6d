"""Images of which little can be learnt: black, of one colour, blurred."""

from collections.abc import Iterator, Sequence

import numpy as np

from visionyard import events
from visionyard.data.dataset import Dataset, Sample
from visionyard.data.inspection.looks import Look, look_of, small_grey
from visionyard.data.leaks.sketches import Sketches
from visionyard.data.quality.robust import OUTLIER_Z, robust_z
from visionyard.data.quality.suspects import Suspect
from visionyard.data.threads import in_threads
from visionyard.errors import MediaError

# Black of video in limited range (ITU-R BT.601, BT.709).
_BLACK_LEVEL = 16.0
# Grey levels of noise and compression on one colour.
_FLAT_LEVELS = 4.0
# Edges half as strong, a quarter of the variance: less is hard to see.
_MIN_SHARPNESS_LOSS = float(np.log10(4))


def measure_images(dataset: Dataset, samples: Sequence[Sample], sketches: Sketches | None) -> np.ndarray:
    """Return brightness, contrast and sharpness of each image, read once.

    Args:
        dataset: The version.
        samples: The images.
        sketches: Gets a sketch of each, by its place among the samples.

    Returns:
        (N, 3) float64; see `Look`.

    Raises:
        MediaError: An image cannot be decoded; names it.
    """

    def look(position: int) -> Look:
        sample = samples[position]
        try:
            grey = small_grey(dataset.image_bytes(sample))
        except MediaError as error:
            raise MediaError(f"{sample.source} ({sample.key}): {error}") from None
        if sketches is not None:
            sketches.add(position, grey)
        return look_of(grey)

    looks = np.zeros((len(samples), 3))
    for position, found in enumerate(in_threads(look, range(len(samples)))):
        looks[position] = found
        events.progress(position + 1, len(samples), unit="image", label="looking")
    return looks


def poor_images(samples: Sequence[Sample], looks: np.ndarray) -> Iterator[Suspect]:
    """Yield images that are black, of one colour, or far less sharp than the others.

    Args:
        samples: The images.
        looks: (N, 3), from `measure_images`.
    """
    brightness, contrast, sharp = looks.T
    is_black = brightness < _BLACK_LEVEL
    is_flat = ~is_black & (contrast < _FLAT_LEVELS)
    usual = sharp[~is_black & ~is_flat]
    scores = robust_z(sharp, usual)
    loss = np.median(usual) - sharp if len(usual) else np.zeros(len(sharp))
    is_blurred = ~is_black & ~is_flat & (scores < -OUTLIER_Z) & (loss >= _MIN_SHARPNESS_LOSS)
    for kind, found, message, score in (
        ("black_image", is_black, "mean grey level {value:.1f} of 255", -brightness),
        ("flat_image", is_flat, "grey levels vary by {value:.1f} of 255 only", -contrast),
        ("blurred_image", is_blurred, "sharpness {value:.2f} (log10), usual is {median:.2f}", -scores),
    ):
        values = {"black_image": brightness, "flat_image": contrast, "blurred_image": sharp}[kind]
        median = float(np.median(usual)) if len(usual) else 0.0
        for position in np.flatnonzero(found).tolist():
            sample = samples[position]
            told = message.format(value=values[position], median=median)
            yield Suspect(kind, sample.key, sample.source, sample.split, told, round(float(score[position]), 3))
