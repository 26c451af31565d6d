"""Brush masks of Label Studio: the colours of an image, red green blue alpha, packed bit by bit.

A head says how many values follow, how many bits one has, and four lengths; then come runs, each of one value many
times over or of values one by one. What the brush touched has an alpha.

Source: `decode` of rle-pack in thi-ng/umbrella, and `decode_rle` in label_studio_converter/brush.py of
HumanSignal/label-studio-converter.
"""

from typing import Any

import numpy as np

from visionyard.errors import ShapeError
from visionyard.geometry import Mask
from visionyard.transforms.images import MAX_PIXEL_COUNT

_CHANNELS = 4
_ALPHA = 3


def brush_mask(rle: Any, size_wh: tuple[int, int]) -> Mask:
    """Return the pixels that a brush touched.

    Args:
        rle: Bytes, as a list of numbers from 0 to 255.
        size_wh: Width and height of the image, pixels.

    Raises:
        ShapeError: It is no such list, breaks off, or is of another size.
    """
    width, height = size_wh
    if width * height > MAX_PIXEL_COUNT:
        raise ShapeError(f"an image of {width}x{height} px is larger than any that is read")
    try:
        bits = _Bits(bytes(rle) if isinstance(rle, list) else b"")
    except (TypeError, ValueError):
        raise ShapeError("rle holds more than the numbers from 0 to 255") from None
    value_count, word_bits = bits.read(32), bits.read(5) + 1
    length_bits = [bits.read(4) + 1 for _ in range(4)]
    if value_count != width * height * _CHANNELS:
        raise ShapeError(f"rle holds {value_count} values, expected {width * height * _CHANNELS} for {width}x{height}")
    is_inside = np.zeros(width * height, np.bool_)
    at = 0
    while at < value_count:
        is_run = bits.read(1)
        stop = at + 1 + bits.read(length_bits[bits.read(2)])
        if stop > value_count:
            raise ShapeError("a run of rle goes on behind its end")
        if is_run:
            # Value 4k + 3 is the alpha of pixel k.
            is_inside[at // _CHANNELS : stop // _CHANNELS] = bits.read(word_bits) != 0
        else:
            values = bits.read_many(stop - at, word_bits)[(_ALPHA - at) % _CHANNELS :: _CHANNELS]
            is_inside[at // _CHANNELS : at // _CHANNELS + len(values)] = values
        at = stop
    return Mask.from_array(is_inside.reshape(height, width))


class _Bits:
    """Bits of a text, the highest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, count: int) -> int:
        """Return the next bits, 32 at most, as a number."""
        start, self._at = self._at, self._at + count
        return int.from_bytes(self._bytes(start, self._at), "big") >> -self._at % 8 & (1 << count) - 1

    def read_many(self, count: int, word_bits: int) -> np.ndarray:
        """Return whether each of the next words is other than 0, (count,) bool."""
        start, self._at = self._at, self._at + count * word_bits
        bits = np.unpackbits(np.frombuffer(self._bytes(start, self._at), np.uint8))
        words = bits[start % 8 :][: count * word_bits].reshape(count, word_bits)
        return np.asarray(words.any(axis=1))

    def _bytes(self, start: int, stop: int) -> bytes:
        if stop > 8 * len(self._data):
            raise ShapeError("rle breaks off")
        return self._data[start // 8 : (stop + 7) // 8]
