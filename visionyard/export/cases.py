"""What an exported model has to agree with the trained one on: real images or rows, and odd ones made from one."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from visionyard.data.dataset import DatasetVersion
from visionyard.data.tables import TableDataset
from visionyard.errors import DataError
from visionyard.export.row_cases import odd_rows
from visionyard.transforms import Content, decode_image

REAL_IMAGE_COUNT = 64
_EXIF_ORIENTATION = 0x0112
_TURNED_RIGHT = 6


@dataclass(frozen=True)
class Case:
    """One image, or row, to compare on.

    Attributes:
        name: Its key.
        kind: `real`; of images `tall`, `grey`, `exif`, `tiny`, `wide`; of rows as `odd_rows` names them.
        content: (H, W, 3) uint8 RGB, or a row.
    """

    name: str
    kind: str
    content: Content


def cases(dataset: DatasetVersion, real_count: int = REAL_IMAGE_COUNT) -> Iterator[Case]:
    """Yield odd images made from the first test image, then real test images spread evenly; one at a time.

    Of a table likewise rows.

    Args:
        dataset: Its test split is used.
        real_count: Most real ones.

    Raises:
        DataError: The test split is empty, or an image cannot be decoded.
    """
    count = dataset.count("test")
    if not count:
        raise DataError(
            f"{dataset.folder}: the test split is empty; an export is certified on it; raise data.test_fraction"
        )
    first = dataset.sample("test", 0)
    if isinstance(dataset, TableDataset):
        yield from (Case(first.key, kind, row) for kind, row in odd_rows(dataset.schema, first.row))
    else:
        yield from odd_cases(first.key, dataset.content(first))
    for position in np.unique(np.linspace(0, count - 1, min(count, real_count)).round().astype(int)):
        sample = dataset.sample("test", int(position))
        yield Case(sample.key, "real", dataset.content(sample))


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
