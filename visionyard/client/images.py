"""Images on their way to the server: read, encoded, scaled down when asked."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from visionyard.errors import ConfigError, MediaError, ShapeError

ImageLike = str | PathLike[str] | bytes | np.ndarray
# A scaled image is a new one anyway; at 95 with colour at full resolution JPEG's own loss is below that of the scaling.
_JPEG_QUALITY = 95
# PNG at its fastest: a third larger than at its smallest, and ten times as fast to write.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class SentImage:
    """One image as it is sent.

    Attributes:
        name: What errors call it.
        data: The encoded file.
        source_wh: Size before it was scaled down, pixels; None when it was not.
    """

    name: str
    data: bytes
    source_wh: tuple[int, int] | None = None


def to_sent(image: ImageLike, *, position: int = 0, downsize_px: int | None = None) -> SentImage:
    """Read and encode one image.

    Args:
        image: A path, an encoded file's bytes (JPEG, PNG, WebP, BMP, TIFF, GIF), or (H, W, 3) uint8 RGB.
        position: Its place among the images of a call, for errors.
        downsize_px: Images whose longer side is longer are scaled to that; None sends them as they are.

    Raises:
        ConfigError: It is none of these, or `downsize_px` is below 16.
        MediaError: The file cannot be read, or is to be scaled and cannot be decoded.
        ShapeError: The array is not (H, W, 3) uint8 with pixels.
    """
    if downsize_px is not None and downsize_px < 16:
        raise ConfigError(f"downsize_px = {downsize_px}: expected at least 16 px for the longer side, or None")
    if isinstance(image, np.ndarray):
        return _sent_array(image, f"image {position}", downsize_px)
    if not isinstance(image, str | bytes | PathLike):
        raise ConfigError(
            f"image {position} is a {type(image).__name__}: expected a path, bytes of an encoded file, or an array; "
            "several images go to predict_many"
        )
    if isinstance(image, bytes):
        name, data = f"image {position}", image
    else:
        name = str(image)
        try:
            data = Path(image).read_bytes()
        except OSError as error:
            raise MediaError(f"{name}: cannot be read: {error.strerror or error}") from None
    if downsize_px is None:
        return SentImage(name, data)
    return _downsized(name, data, downsize_px)


def _sent_array(image: np.ndarray, name: str, downsize_px: int | None) -> SentImage:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ShapeError(f"{name}: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}; convert it first")
    if downsize_px is not None and max(image.shape[:2]) > downsize_px:
        return _scaled(name, image, downsize_px)
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=_PNG_LEVEL)
    return SentImage(name, stream.getvalue())


def _downsized(name: str, data: bytes, downsize_px: int) -> SentImage:
    # Only here: it needs OpenCV, which a client that scales nothing need not have.
    from visionyard.transforms.images import decode_image, open_image

    try:
        opened = open_image(data)
        if max(opened.width, opened.height) <= downsize_px:
            return SentImage(name, data)
        return _scaled(name, decode_image(data), downsize_px)
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from None


def _scaled(name: str, image: np.ndarray, downsize_px: int) -> SentImage:
    from PIL import Image

    height, width = image.shape[:2]
    ratio = downsize_px / max(width, height)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    stream = io.BytesIO()
    small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    small.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling="4:4:4")
    return SentImage(name, stream.getvalue(), (width, height))


def in_requests(images: Sequence[SentImage], *, max_images: int, max_bytes: int) -> list[list[SentImage]]:
    """Divide images, in order, into requests that stay within the server's limits.

    Args:
        images: All of them.
        max_images: Most images of a request.
        max_bytes: Most bytes of a request; an image larger than that goes alone, for the server to refuse or take.
    """
    requests: list[list[SentImage]] = []
    size = 0
    for image in images:
        if not requests or len(requests[-1]) == max_images or size + len(image.data) > max_bytes:
            requests.append([])
            size = 0
        requests[-1].append(image)
        size += len(image.data)
    return requests
