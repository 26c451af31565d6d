"""The images on which an exported model has to agree with the trained one: real ones, and odd ones made from one."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from visionyard.data.dataset import Dataset
from visionyard.errors import DataError
from visionyard.transforms import decode_image

REAL_IMAGE_COUNT = 64
_EXIF_ORIENTATION = 0x0112
_TURNED_RIGHT = 6


@dataclass(frozen=True)
class Case:
    """One image to compare on.

    Attributes:
        name: The image's key.
        kind: `real`, `tall`, `grey`, `exif`, `tiny`, `wide`.
        image: (H, W, 3) uint8 RGB.
    """

    name: str
    kind: str
    image: np.ndarray


def cases(dataset: Dataset, real_count: int = REAL_IMAGE_COUNT) -> Iterator[Case]:
    """Yield odd images made from the first test image, then real test images spread evenly; one at a time.

    Args:
        dataset: Its test split is used.
        real_count: Most real images.

    Raises:
        DataError: The test split is empty, or an image cannot be decoded.
    """
    count = dataset.count("test")
    if not count:
        raise DataError(
            f"{dataset.folder}: the test split is empty; an export is certified on it; raise data.test_fraction"
        )
    first = dataset.sample("test", 0)
    yield from odd_cases(first.key, dataset.image(first))
    for position in np.unique(np.linspace(0, count - 1, min(count, real_count)).round().astype(int)):
        sample = dataset.sample("test", int(position))
        yield Case(sample.key, "real", dataset.image(sample))


def odd_cases(name: str, image: np.ndarray) -> list[Case]:
    """Return the odd forms of a real image: upright, grey, turned by its EXIF tag, 8x8, 2000x20.

    Args:
        name: The image's key.
        image: (H, W, 3) uint8 RGB.
    """
    picture = Image.fromarray(image)
    width, height = picture.size
    upright = picture.crop((0, 0, max(1, min(width, height) // 3), height))
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _TURNED_RIGHT
    return [
        Case(name, "tall", np.asarray(upright)),
        Case(name, "grey", decode_image(_encoded(picture.convert("L"), "PNG"))),
        Case(name, "exif", decode_image(_encoded(picture, "JPEG", quality=95, exif=exif))),
        Case(name, "tiny", np.asarray(picture.resize((8, 8), Image.Resampling.BILINEAR))),
        Case(name, "wide", np.asarray(picture.resize((2000, 20), Image.Resampling.BILINEAR))),
    ]


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
