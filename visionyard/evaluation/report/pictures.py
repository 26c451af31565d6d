"""Pictures small enough to stand inside the page, as data URIs."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from visionyard.data.dataset import Dataset, Sample

# Long sides tried from the largest on, until all pictures together fit.
_SIDES_PX = (480, 360, 280, 200, 140)
_JPEG_QUALITY = 80


def thumbnails(dataset: Dataset, samples: Sequence[Sample], *, budget_bytes: int) -> list[str]:
    """Return one picture a sample as data URI, all of the same longest side, the largest that fits the budget.

    Args:
        dataset: Where the images lie.
        samples: Which; each is decoded once, one at a time.
        budget_bytes: Of all data URIs together; passed only when the smallest side is still too large.

    Raises:
        DataError: An image cannot be decoded.
    """
    pictures = [_shrunk(Image.fromarray(dataset.image(sample)), _SIDES_PX[0]) for sample in samples]
    for side in _SIDES_PX[1:]:
        if sum(map(len, pictures)) * 4 / 3 <= budget_bytes:
            break
        pictures = [_shrunk(Image.open(io.BytesIO(picture)), side) for picture in pictures]
    return [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in pictures]


def _shrunk(image: Image.Image, side_px: int) -> bytes:
    image.thumbnail((side_px, side_px), reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
