"""From what a caller sent to pixels: decoded as in training, within limits, errors that are the caller's."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.config.serving_config import LimitsConfig
from visionyard.errors import RequestError, TooLargeError
from visionyard.serving.inputs import check_tensor, read_image
from visionyard.transforms import decode_image

LIMITS = LimitsConfig(max_image_pixels=10_000)


def encode(form: str, mode: str = "RGB", **options: Any) -> bytes:
    rng = np.random.default_rng(3)
    kind = np.uint16 if mode == "I;16" else np.uint8
    channels = {"L": (), "I;16": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}[mode]
    pixels = rng.integers(0, np.iinfo(kind).max, (20, 30, *channels)).astype(kind)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels) if mode == "I;16" else Image.frombytes(mode, (30, 20), pixels.tobytes())
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode("JPEG", exif=exif)


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode("JPEG"), id="JPEG"),
        pytest.param(turned(), id="turned by EXIF"),
        pytest.param(encode("JPEG", "L"), id="grey"),
        pytest.param(encode("JPEG", "CMYK"), id="CMYK"),
        pytest.param(encode("PNG", "RGBA"), id="alpha"),
        pytest.param(encode("PNG", "LA"), id="grey with alpha"),
        pytest.param(encode("PNG", "I;16"), id="16 bit"),
        pytest.param(encode("WEBP", lossless=True), id="WebP"),
        pytest.param(encode("BMP"), id="BMP"),
        pytest.param(encode("TIFF"), id="TIFF"),
        pytest.param(encode("GIF", "L"), id="GIF"),
    ],
)
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_files_are_decoded_as_in_training(data: bytes, form: type) -> None:
    assert np.array_equal(read_image(form(data), LIMITS), decode_image(data))


def test_pixels_are_taken_as_they_are() -> None:
    pixels = np.zeros((5, 7, 3), np.uint8)
    assert read_image(pixels, LIMITS) is pixels


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param(b"", RequestError, "image 2: not an image of a known format.*it is empty", id="nothing"),
        pytest.param(b"hello", RequestError, "image 2: not an image of a known format", id="text"),
        pytest.param(encode("PNG")[:200], RequestError, "image 2: .*truncated", id="cut short"),
        pytest.param(bomb(), TooLargeError, "image 2 is 200000x200000 px; at most 10000 pixels", id="bomb"),
        pytest.param(np.zeros((5, 7), np.uint8), RequestError, r"got \(5, 7\) uint8", id="no channels"),
        pytest.param(np.zeros((5, 7, 4), np.uint8), RequestError, r"got \(5, 7, 4\) uint8", id="four channels"),
        pytest.param(np.zeros((5, 7, 3)), RequestError, r"got \(5, 7, 3\) float64", id="floats"),
        pytest.param(np.zeros((0, 7, 3), np.uint8), RequestError, r"got \(0, 7, 3\) uint8", id="no pixels"),
        pytest.param(np.zeros((101, 100, 3), np.uint8), TooLargeError, "image 2 is 100x101 px", id="too many pixels"),
    ],
)
def test_what_cannot_be_read_is_the_callers_fault(given: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        read_image(given, LIMITS, index=2)
    assert type(caught.value) is error


SHAPE = [-1, 3, 4, 5]


def test_a_tensor_that_fits() -> None:
    batch = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    assert check_tensor(batch, SHAPE) is batch
    turned_batch = np.ascontiguousarray(batch.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    taken = check_tensor(turned_batch, SHAPE)
    assert taken.flags.c_contiguous
    assert np.array_equal(taken, batch)
    assert check_tensor(np.zeros((1, 3, 9, 9), np.float32), [-1, 3, -1, -1]).shape == (1, 3, 9, 9)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        pytest.param(np.zeros((2, 3, 4, 5)), r"float32 \(FP32\) of shape \(N, 3, 4, 5\), got float64", id="type"),
        pytest.param(np.zeros((3, 4, 5), np.float32), r"of shape \(N, 3, 4, 5\), got \(3, 4, 5\)", id="no batch"),
        pytest.param(np.zeros((1, 3, 5, 4), np.float32), r"got \(1, 3, 5, 4\)", id="other size"),
        pytest.param(np.zeros((0, 3, 4, 5), np.float32), r"got \(0, 3, 4, 5\)", id="no row"),
        pytest.param(np.full((1, 3, 4, 5), np.nan, np.float32), "holds NaN or infinity", id="NaN"),
        pytest.param(np.full((1, 3, 4, 5), -np.inf, np.float32), "holds NaN or infinity", id="infinity"),
    ],
)
def test_a_tensor_that_does_not_fit(batch: np.ndarray, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_tensor(batch, SHAPE)


def test_one_bad_value_among_many_is_found() -> None:
    for value in (np.nan, np.inf):
        batch = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
        batch[1, 2, 3, 3] = value
        with pytest.raises(RequestError, match="holds NaN"):
            check_tensor(batch, SHAPE)
