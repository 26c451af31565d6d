"""Media types from first bytes, and the form in which images are stored."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from visionyard.data.media import extension_differs, is_clip_type, sniff_media_type, stored_image
from visionyard.errors import MediaError
from visionyard.transforms import decode_image

TAR = bytes(257) + b"ustar\x0000" + bytes(300)
TS = (b"\x47" + bytes(187)) * 5
M2TS = (bytes(4) + b"\x47" + bytes(187)) * 5


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\0", "image/png"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<I", 40), "image/bmp"),
        (b"BMW is a car maker, and this is a text", None),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"MM\0*\0\0\0\x08", "image/tiff"),
        (b"GIF89a", "image/gif"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypavif", "image/avif"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/mp4"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video/quicktime"),
        (b"RIFF\x10\0\0\0AVI LIST", "video/x-msvideo"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska", "video/x-matroska"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
        (TS, "video/mp2t"),
        (M2TS, "video/mp2t"),
        (b"GGGGGG", None),
        (b"\0\0\x01\xba", "video/mpeg"),
        (b"FLV\x01", "video/x-flv"),
        (b"PK\x03\x04", "application/zip"),
        (b"PK\x05\x06" + bytes(18), "application/zip"),
        (TAR, "application/x-tar"),
        (b"\x1f\x8b\x08", "application/gzip"),
        (b"BZh9", "application/x-bzip2"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>", "application/xml"),
        (b"<annotation>", "application/xml"),
        (b"<!DOCTYPE x>", "application/xml"),
        (b"<html>", None),
        (b"%PDF-1.4", "application/pdf"),
        (b"0 0.5 0.5 0.1 0.1\n", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_types_by_first_bytes(head: bytes, media_type: str | None) -> None:
    assert sniff_media_type(head) == media_type


@pytest.mark.parametrize(
    ("file", "media_type", "differs"),
    [
        ("a.JPG", "image/jpeg", False),
        ("a.jpeg", "image/jpeg", False),
        ("a.png", "image/jpeg", True),
        ("a", "image/jpeg", False),
        ("a.mov", "video/mp4", False),
        ("a.mp4", "video/x-msvideo", True),
        ("a.webm", "video/x-matroska", False),
    ],
)
def test_names_that_claim_another_type(file: str, media_type: str, differs: bool) -> None:
    assert extension_differs(file, media_type) == differs


def test_an_animation_is_a_clip_and_audio_is_not() -> None:
    assert is_clip_type("image/gif")
    assert not is_clip_type("image/png")
    assert not is_clip_type("audio/wav")
    assert not is_clip_type(None)


def picture(mode: str, side: int = 24) -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side // 2, channels), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "P":
        return Image.fromarray(pixels[..., 0]).convert("P")
    return Image.fromarray(pixels.squeeze(), "L" if mode == "L" else mode)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize(
    ("make", "kept_as"),
    [
        pytest.param(lambda: encoded(picture("RGB"), "JPEG"), ".jpg", id="JPEG"),
        pytest.param(lambda: encoded(picture("RGB"), "JPEG", progressive=True), ".jpg", id="progressive JPEG"),
        pytest.param(lambda: encoded(picture("L"), "JPEG"), ".jpg", id="grey JPEG"),
        pytest.param(lambda: encoded(picture("RGB"), "PNG"), ".png", id="PNG"),
        pytest.param(lambda: encoded(picture("L"), "PNG"), ".png", id="grey PNG"),
        pytest.param(lambda: encoded(picture("RGB"), "JPEG", exif=with_orientation(1)), ".jpg", id="upright by EXIF"),
        pytest.param(lambda: encoded(picture("RGB"), "JPEG", exif=with_orientation(6)), None, id="turned by EXIF"),
        pytest.param(lambda: encoded(picture("RGB"), "PNG", exif=with_orientation(3)), None, id="turned PNG"),
        pytest.param(lambda: encoded(picture("CMYK"), "JPEG"), None, id="CMYK"),
        pytest.param(lambda: encoded(picture("I;16"), "PNG"), None, id="16 bits"),
        pytest.param(lambda: encoded(picture("L").convert("1"), "PNG"), None, id="1 bit"),
        pytest.param(lambda: encoded(picture("P"), "PNG", bits=4), None, id="palette"),
        pytest.param(lambda: encoded(picture("RGBA"), "PNG"), None, id="transparent"),
        pytest.param(lambda: encoded(picture("RGB"), "PNG", transparency=(1, 2, 3)), None, id="a colour transparent"),
        pytest.param(
            lambda: encoded(picture("RGB"), "PNG", save_all=True, append_images=[picture("RGB").rotate(180)]),
            None,
            id="animated PNG",
        ),
        pytest.param(lambda: encoded(picture("RGB"), "WEBP"), None, id="WebP"),
        pytest.param(lambda: encoded(picture("RGB"), "BMP"), None, id="BMP"),
        pytest.param(lambda: encoded(picture("RGB"), "TIFF"), None, id="TIFF"),
        pytest.param(lambda: encoded(picture("RGB"), "GIF"), None, id="GIF"),
    ],
)
def test_plain_images_are_kept_and_others_become_rgb_png(make: Callable[[], bytes], kept_as: str | None) -> None:
    data = make()
    stored = stored_image(data)
    expected = decode_image(data)
    assert (stored.height, stored.width) == expected.shape[:2]
    np.testing.assert_array_equal(decode_image(stored.data), expected)
    assert (stored.extension, stored.is_reencoded) == (kept_as or ".png", kept_as is None)
    assert (stored.data == data) == (kept_as is not None)
    if stored.is_reencoded:
        with Image.open(io.BytesIO(stored.data)) as image:
            assert (image.format, image.mode, dict(image.getexif())) == ("PNG", "RGB", {})


def raw_png(width: int, height: int, bit_depth: int, colour_type: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_a_4_bit_grey_png_is_not_plain() -> None:
    stored = stored_image(raw_png(4, 1, 4, 0, b"\x00\x0f\x80"))
    assert stored.is_reencoded
    assert decode_image(stored.data)[0, :, 0].tolist() == [0, 255, 136, 0]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        pytest.param(raw_png(60_000, 60_000, 8, 2, bytes(1000)), "60000x60000 px; at most", id="bomb"),
        pytest.param(encoded(picture("RGB", 200), "JPEG")[:3000], "truncated", id="truncated"),
        pytest.param(b"\xff\xd8\xff" + bytes(100), "cannot be decoded", id="header only"),
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"hello", "not an image of a known format", id="text"),
    ],
)
def test_images_that_cannot_be_used(data: bytes, match: str) -> None:
    with pytest.raises(MediaError, match=match):
        stored_image(data)
