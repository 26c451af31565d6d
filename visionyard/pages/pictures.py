"""Pictures small enough to stand inside a page, as data URIs."""

import base64
import io
from collections.abc import Iterable

from PIL import Image

# Long sides tried from the largest on, until all pictures together fit.
_SIDES_PX = (480, 360, 280, 200, 140)
_JPEG_QUALITY = 80


def data_uris(images: Iterable[Image.Image], *, budget_bytes: int) -> list[str]:
    """Return one data URI an image, all of the same longest side, the largest that fits the budget.

    Args:
        images: RGB or grey; taken one at a time, and made smaller in place.
        budget_bytes: Of all data URIs together; passed only when the smallest side is still too large.
    """
    pictures = [_shrunk(image, _SIDES_PX[0]) for image in images]
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
