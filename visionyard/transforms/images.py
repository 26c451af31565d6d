"""Decode an image the one way that training, validation, export, benchmark and serving share."""

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from visionyard.errors import MediaError

# Pillow's own limit: larger than any camera's picture (the largest digital back has 151 MP), decoded into 540 MB.
MAX_PIXEL_COUNT = 178_956_970
# What is decoded: formats with a safe, maintained decoder in Pillow. Names as Pillow gives them; MPO, the pictures of a
# stereo camera, is what its JPEG opener makes of some JPEG files.
IMAGE_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
}
_PLUGINS = (JpegImagePlugin, PngImagePlugin, BmpImagePlugin, WebPImagePlugin, TiffImagePlugin, GifImagePlugin)
_OPENED_FORMATS = tuple(name for name in IMAGE_MEDIA_TYPES if name != "MPO")
# What Pillow's decoders raise on bytes that are not what they seem; found by feeding them altered files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    TypeError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
# EXIF tag 274 to what makes the pixels upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
_ORIENTATION_TAG = 0x0112
_PILLOW_MODULES = r"PIL\."
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(_PILLOW_MODULES), 0)


def load_image(path: Path) -> np.ndarray:
    """Read and decode an image file; see `decode_image`.

    Raises:
        MediaError: The file cannot be read or decoded; names the file.
    """
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from None


def open_image(data: bytes, *, max_pixel_count: int = MAX_PIXEL_COUNT) -> Image.Image:
    """Open an encoded image by what its bytes are, without decoding its pixels.

    Args:
        data: The encoded file.
        max_pixel_count: Refuse larger images (decompression bombs).

    Returns:
        A Pillow image whose `format` is a key of `IMAGE_MEDIA_TYPES`; its pixels are not read yet, its EXIF orientation
        is not applied.

    Raises:
        MediaError: Not an image, cut short, of a format we do not read, or larger than `max_pixel_count`.
    """
    # Not Image.open: once ultralytics (8.4) is imported, that one answers an unknown file by installing a package.
    for name in _OPENED_FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16]) is not True:
            continue
        with _decoding():
            image = factory(io.BytesIO(data), "")
        if image.width * image.height > max_pixel_count:
            raise MediaError(
                f"the image is {image.width}x{image.height} px; at most {max_pixel_count} pixels are decoded; "
                "scale it down first"
            )
        return image
    known = "JPEG, PNG, WebP, BMP, TIFF, GIF"
    raise MediaError(f"not an image of a known format ({known}): {_beginning(data)}; convert it first")


def decode_image(data: bytes, *, max_pixel_count: int = MAX_PIXEL_COUNT) -> np.ndarray:
    """Decode an encoded image into RGB as a person would see it.

    EXIF orientation is applied; grey, palette and CMYK become RGB; transparency is laid over white, as viewers and
    browsers show it; 16-bit grey is divided by 257 to 8 bits; of an animation the first frame is taken.

    Args:
        data: The encoded file.
        max_pixel_count: Refuse larger images before decoding them (decompression bombs).

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        MediaError: Not an image, truncated, of a format or pixel type we do not read, or larger than `max_pixel_count`.
    """
    return read_pixels(data, open_image(data, max_pixel_count=max_pixel_count))


def read_pixels(data: bytes, image: Image.Image) -> np.ndarray:
    """Decode an image that `open_image` opened; see `decode_image`.

    Args:
        data: The encoded file.
        image: What `open_image` made of it; its pixels may be read or not.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        MediaError: It is truncated, or of a pixel type we do not read.
    """
    with _decoding():
        pixels = _read_jpeg(data, image)
        return _upright(_to_rgb(image) if pixels is None else pixels, image)


def read_levels(image: Image.Image) -> np.ndarray:
    """Decode the numbers that an image stores, as of a picture of labels: no palette, orientation or range is applied.

    Args:
        image: As `open_image` gave it.

    Returns:
        (H, W) uint8, uint16 or int32 grey levels or palette indices, or (H, W, C) uint8 channels.

    Raises:
        MediaError: It is truncated, or its pixels are no whole numbers.
    """
    with _decoding():
        levels = np.array(image)
        if levels.dtype == np.bool_:
            return levels.astype(np.uint8)
        if levels.dtype.kind not in "iu":
            raise ValueError(f"its pixels are {levels.dtype} numbers, expected whole ones")
        return levels


def open_thumbnail(data: bytes, size_px: int) -> Image.Image:
    """Open an image as a person would see it, in grey and, where its format allows, smaller and so faster to decode.

    Args:
        data: The encoded file.
        size_px: The sides stay at least this long, unless the image is smaller. A JPEG is read at down to 1/8.

    Returns:
        A decoded Pillow image of mode `L`.

    Raises:
        MediaError: As in `decode_image`.
    """
    image = open_image(data)
    with _decoding():
        image.draft("L", (size_px, size_px))
        return Image.fromarray(_upright(_to_rgb(image), image)).convert("L")


@contextmanager
def _decoding() -> Iterator[None]:
    _keep_pillow_quiet()
    try:
        yield
    except _DECODE_ERRORS as error:
        raise MediaError(f"the image cannot be decoded: {error}; it may be truncated") from None


def _keep_pillow_quiet() -> None:
    """Have one filter, in front of all others, that drops what Pillow warns of: odd metadata, which touches no pixels.

    Not `warnings.catch_warnings` around each decoding: it swaps the process's filters, and threads that leave it in
    another order than they came put back each other's. A filter that stays is the same for all threads; it is put back
    where it was dropped or another came before it, as between tests.
    """
    if warnings.filters[:1] != [_PILLOW_FILTER]:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)


def _read_jpeg(data: bytes, image: Image.Image) -> np.ndarray | None:
    """Decode a JPEG of colours or greys into (H, W, 3) uint8 RGB; None: Pillow has to, or has to say what is wrong.

    The same library as Pillow's with the same settings, so the same pixels (of 1,232 files found in the wild, every
    one), but straight into the array and without Python's lock: a file of 640x480 px takes 1.0 ms in place of 1.7, and
    two threads decode twice as many a second. Of a damaged file nothing is taken, however little is wrong with it.
    """
    if image.format not in {"JPEG", "MPO"} or image.mode not in {"RGB", "L"}:
        return None
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    return pixels if turn is None else turn(pixels)


def _beginning(data: bytes) -> str:
    return f"it begins with {data[:8]!r}" if data else "it is empty"


def _to_rgb(image: Image.Image) -> np.ndarray:
    image.load()  # reads the metadata behind the pixels too; of a TIFF it already turns the picture
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"its grey levels lie in [{grey.min()}, {grey.max()}], expected [0, 65535]")
        return np.repeat((grey // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    if image.mode != "RGB":
        image = image.convert("RGB")  # of an RGB image it would be one copy more, a seventh of the decoding
    return np.array(image)  # a copy: torch refuses arrays it may not write to
