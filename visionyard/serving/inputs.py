"""From what a caller sent to pixels: the same decoding as in training, within the limits of the server."""

import numpy as np

from visionyard.config.serving_config import LimitsConfig
from visionyard.errors import MediaError, RequestError, TooLargeError
from visionyard.transforms.images import open_image, read_pixels

# An encoded file (JPEG, PNG, WebP, BMP, TIFF, GIF), or (H, W, 3) uint8 RGB.
ImageInput = bytes | bytearray | memoryview | np.ndarray
_NO_LIMIT = 2**62


def read_image(given: ImageInput, limits: LimitsConfig, *, index: int = 0) -> np.ndarray:
    """Return the pixels of one image of a request, upright.

    The size is looked at before any pixel is decoded, so a small file that unfolds into gigabytes costs nothing.

    Args:
        given: An encoded file, or pixels.
        limits: `max_image_pixels` of them.
        index: Its place in the request, for messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        TooLargeError: It has more pixels than allowed.
        RequestError: It is no image, cut short, of a format that is not read, or not (H, W, 3) uint8.
    """
    if isinstance(given, np.ndarray):
        return _checked_pixels(given, limits, index)
    try:
        data = bytes(given)
        image = open_image(data, max_pixel_count=_NO_LIMIT)
        _check_size(image.width, image.height, limits, index)
        return read_pixels(data, image)
    except MediaError as error:
        raise RequestError(f"image {index}: {error}") from None


def _checked_pixels(given: np.ndarray, limits: LimitsConfig, index: int) -> np.ndarray:
    if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8 or not given.size:
        raise RequestError(
            f"image {index}: expected pixels as (H, W, 3) uint8 RGB, got {given.shape} {given.dtype}; send the encoded "
            "file, or convert it first"
        )
    _check_size(given.shape[1], given.shape[0], limits, index)
    return given


def _check_size(width: int, height: int, limits: LimitsConfig, index: int) -> None:
    if width * height > limits.max_image_pixels:
        raise TooLargeError(
            f"image {index} is {width}x{height} px; at most {limits.max_image_pixels} pixels are taken; scale it down "
            "first"
        )


def check_tensor(batch: np.ndarray, shape: list[int]) -> np.ndarray:
    """Return a preprocessed batch as the model takes it.

    Args:
        batch: What a caller sent.
        shape: Of the model's input with the batch first; -1 where any size goes.

    Returns:
        The same values, C-contiguous float32.

    Raises:
        RequestError: Another dtype or shape, no row, or a value that is not finite.
    """
    expected = ", ".join("N" if place == 0 else "any" if size < 0 else str(size) for place, size in enumerate(shape))
    if batch.dtype != np.float32:
        raise RequestError(f"the model's input: expected float32 (FP32) of shape ({expected}), got {batch.dtype}")
    fits = batch.ndim == len(shape) and all(
        size < 0 or size == got for size, got in zip(shape[1:], batch.shape[1:], strict=True)
    )
    if not fits or not batch.size:
        raise RequestError(f"the model's input: expected float32 of shape ({expected}), got {batch.shape}")
    # NaN and infinity survive both; a mask of all values would take four times as long.
    if not (np.isfinite(batch.min()) and np.isfinite(batch.max())):
        raise RequestError("the model's input: it holds NaN or infinity, expected finite numbers")
    return np.ascontiguousarray(batch)
