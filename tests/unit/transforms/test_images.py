"""Decoding: every kind of image becomes what a viewer shows, and nothing else than MediaError comes of bad bytes."""

import contextlib
import io
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin

from visionyard.errors import MediaError
from visionyard.transforms import decode_image, load_image
from visionyard.transforms.images import IMAGE_MEDIA_TYPES, MAX_PIXEL_COUNT, open_image, open_thumbnail, read_levels

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def with_orientation(image_format: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    return encode(Image.fromarray(PIXELS), image_format, exif=exif, **options)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(Image.fromarray(PIXELS), image_format, **options)
    found = decode_image(data)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, PIXELS)
    assert open_image(data).format == image_format


def test_jpeg_agrees_with_opencv() -> None:
    import cv2

    smooth = np.asarray(Image.fromarray(PIXELS).resize((90, 60), Image.Resampling.BICUBIC))
    data = encode(Image.fromarray(smooth), "JPEG", quality=95)
    expected = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]
    assert np.abs(decode_image(data).astype(int) - expected).max() <= 3


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(image_format: str, orientation: int) -> None:
    data = with_orientation(image_format, orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), expected)


def test_orientation_six_is_a_quarter_turn() -> None:
    np.testing.assert_array_equal(decode_image(with_orientation("PNG", 6)), np.rot90(PIXELS, -1))


def test_an_impossible_orientation_changes_nothing() -> None:
    np.testing.assert_array_equal(decode_image(with_orientation("PNG", 9)), PIXELS)


def palette_with_transparency() -> tuple[bytes, np.ndarray]:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    return encode(image, "PNG", transparency=1), np.array([[[10, 20, 30], [255, 255, 255]]])


def sixteen_bit() -> tuple[bytes, np.ndarray]:
    grey = np.array([[0, 256, 257, 32896, 65535]], dtype=np.uint16)
    return encode(Image.fromarray(grey), "PNG"), np.repeat(np.array([[[0], [0], [1], [128], [255]]]), 3, axis=2)


def grey_with_alpha() -> tuple[bytes, np.ndarray]:
    grey = np.array([[[100, 255], [100, 0], [0, 51]]], dtype=np.uint8)
    # Over white: level * alpha + 255 * (1 - alpha), alpha 1, 0 and 0.2.
    return encode(Image.fromarray(grey, "LA"), "PNG"), np.repeat(np.array([[[100], [255], [204]]]), 3, axis=2)


def colour_with_alpha() -> tuple[bytes, np.ndarray]:
    colour = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [255, 0, 0, 51]]], dtype=np.uint8)
    return encode(Image.fromarray(colour), "PNG"), np.array([[[255, 0, 0], [255, 255, 255], [255, 204, 204]]])


def cmyk() -> tuple[bytes, np.ndarray]:
    # No ink is white, full black ink is black, full cyan takes the red away.
    inks = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 0]]], dtype=np.uint8)
    return encode(Image.fromarray(inks, "CMYK"), "TIFF"), np.array([[[255, 255, 255], [0, 0, 0], [0, 255, 255]]])


def one_bit() -> tuple[bytes, np.ndarray]:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    return encode(image, "PNG"), np.array([[[0, 0, 0], [255, 255, 255]]])


def grey() -> tuple[bytes, np.ndarray]:
    return encode(Image.fromarray(np.array([[7, 200]], dtype=np.uint8)), "PNG"), np.array([[[7] * 3, [200] * 3]])


def animation() -> tuple[bytes, np.ndarray]:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), np.full((2, 3, 3), (255, 0, 0))


@pytest.mark.parametrize(
    "make",
    [palette_with_transparency, sixteen_bit, grey_with_alpha, colour_with_alpha, cmyk, one_bit, grey, animation],
    ids=lambda make: make.__name__,
)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_every_pixel_type_becomes_what_a_viewer_shows(make: Callable[[], tuple[bytes, np.ndarray]]) -> None:
    data, expected = make()
    found = decode_image(data)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert found.dtype == np.uint8


def by_pillow(data: bytes) -> np.ndarray | None:
    """Return what Pillow alone makes of an upright file; None: it refuses it."""
    try:
        # Not Image.open, which ultralytics replaces by one that installs packages for what it does not know.
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError):
        return None


@pytest.mark.parametrize("side_wh", [(1, 1), (7, 13), (17, 33), (200, 120)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 5},
        {"quality": 100},
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2, "progressive": True},
        {"keep_rgb": True},
        {"restart_marker_blocks": 2},
        {"optimize": True, "comment": b"a comment", "icc_profile": bytes(200)},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(
    side_wh: tuple[int, int], options: dict[str, Any], mode: str
) -> None:
    image = Image.fromarray(PIXELS).resize(side_wh, Image.Resampling.BICUBIC).convert(mode)
    data = encode(image, "JPEG", **options)
    found = decode_image(data)
    np.testing.assert_array_equal(found, by_pillow(data))
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_a_damaged_jpeg_is_read_or_refused_as_by_pillow() -> None:
    image = Image.fromarray(PIXELS).resize((90, 60), Image.Resampling.BICUBIC)
    data = encode(image, "JPEG", quality=80)
    random = np.random.default_rng(1)
    damaged = [data[:size] for size in range(2, len(data), 37)]
    for _ in range(150):
        altered = bytearray(data)
        for place in random.integers(2, len(data), 3):
            altered[place] = random.integers(256)
        damaged.append(bytes(altered))
    refused = 0
    for one in damaged:
        expected = by_pillow(one)
        try:
            found = decode_image(one)
        except MediaError:
            refused += 1
            assert expected is None
        else:
            np.testing.assert_array_equal(found, expected)
    assert 50 < refused < len(damaged) - 50


def test_cmyk_jpeg_is_read_as_printed() -> None:
    paper = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert decode_image(encode(paper, "JPEG", quality=95)).min() >= 250


def test_stereo_jpeg_gives_its_first_picture() -> None:
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 200, 0))
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert open_image(data).format == "MPO"
    assert np.abs(decode_image(data).astype(int) - (200, 0, 0)).max() <= 3
    assert IMAGE_MEDIA_TYPES["MPO"] == "image/jpeg"


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "known format .* it is empty", id="empty"),
        pytest.param(b"<html></html>", "begins with b'<html></'", id="a web page"),
        pytest.param(b"\x00\x00\x00\x20ftypisom", "not an image of a known format", id="a video"),
        pytest.param(b"%PDF-1.7", "begins with b'%PDF-1.7'", id="a format we do not read"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "cannot be decoded", id="only a signature"),
        pytest.param(png_claiming(50_000, 50_000), "50000x50000 px; at most 178956970 pixels", id="a bomb"),
        pytest.param(png_claiming(100, 100), "cannot be decoded: .* may be truncated", id="too few pixels"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        decode_image(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_truncated_image_is_refused(image_format: str) -> None:
    data = encode(Image.fromarray(PIXELS), image_format)
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_image(data[: len(data) * 2 // 3])


def test_the_size_limit_can_be_lowered_and_is_inclusive() -> None:
    data = encode(Image.fromarray(PIXELS), "PNG")
    assert decode_image(data, max_pixel_count=600).shape == (20, 30, 3)
    with pytest.raises(MediaError, match="30x20 px; at most 599 pixels"):
        decode_image(data, max_pixel_count=599)
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXEL_COUNT == Image.MAX_IMAGE_PIXELS * 2


def test_floating_point_pixels_are_refused() -> None:
    data = encode(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF")
    with pytest.raises(MediaError, match="floating-point numbers of unknown range"):
        decode_image(data)


def test_grey_levels_beyond_16_bits_are_refused() -> None:
    data = encode(Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)), "TIFF")
    with pytest.raises(MediaError, match=r"grey levels lie in \[70000, 70000\]"):
        decode_image(data)


def test_altered_files_decode_or_are_refused() -> None:
    rng = np.random.default_rng(1)
    originals = [with_orientation(name, 6) for name in ("JPEG", "PNG", "WEBP")]
    originals += [encode(Image.fromarray(PIXELS), name) for name in ("BMP", "GIF")]
    originals.append(encode(Image.fromarray(PIXELS).convert("P"), "PNG", transparency=3))
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in originals * 150:
            altered = bytearray(data)
            for place in rng.integers(0, min(len(data), 400), 3):
                altered[place] = rng.integers(0, 256)
            try:
                assert decode_image(bytes(altered)).shape[2] == 3
            except MediaError:
                refused += 1
    assert 0 < refused < 900


def test_a_patched_image_open_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # ultralytics replaces Image.open by one that installs a package when a file is no known image.
    def patched(*_: object, **__: object) -> None:
        raise AssertionError("Image.open was called")

    monkeypatch.setattr(Image, "open", patched)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(PIXELS), "PNG")), PIXELS)
    with pytest.raises(MediaError, match="not an image"):
        decode_image(b"no image at all")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_thumbnail_is_the_grey_image_upright(image_format: str, tmp_path: Path) -> None:
    large = Image.fromarray(PIXELS).resize((900, 600), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(large, image_format, exif=exif)
    small = open_thumbnail(data, 64)
    assert small.mode == "L"
    assert min(small.size) >= 64
    assert small.height > small.width  # the picture is upright
    assert (image_format == "JPEG") == (small.width < 600)
    expected = np.asarray(Image.fromarray(decode_image(data)).convert("L").resize((6, 9), Image.Resampling.BOX), int)
    assert np.abs(np.asarray(small.resize((6, 9), Image.Resampling.BOX), int) - expected).max() <= 4


def test_load_image_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"nothing")
    with pytest.raises(MediaError, match=r"broken\.png: not an image of a known format"):
        load_image(path)
    with pytest.raises(MediaError, match=r"absent\.png: cannot be read: No such file"):
        load_image(tmp_path / "absent.png")
    path.write_bytes(encode(Image.fromarray(PIXELS), "PNG"))
    np.testing.assert_array_equal(load_image(path), PIXELS)


def test_decoding_needs_no_torch() -> None:
    import subprocess

    code = "import sys, visionyard.transforms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_that_decode_leave_the_warning_filters_alone() -> None:
    odd = bytearray(encode(Image.fromarray(PIXELS), "TIFF"))
    odd[8:10] = (9999).to_bytes(2, "little")  # more tags than there are: Pillow warns of the metadata
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(MediaError):
            decode_image(bytes(odd))  # puts our filter in front
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(decode_image, [encode(Image.fromarray(PIXELS), "PNG")] * 200))
        assert warnings.filters == before
        warnings.simplefilter("error")
        with contextlib.suppress(MediaError):
            decode_image(bytes(odd))
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn("ours", stacklevel=1)


LEVELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def palette_image() -> Image.Image:
    image = Image.frombytes("P", (4, 3), LEVELS.tobytes())
    image.putpalette([200, 100, 50] * 256)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(Image.fromarray(LEVELS), LEVELS, id="grey"),
        pytest.param(palette_image(), LEVELS, id="palette"),
        pytest.param(Image.fromarray(LEVELS.astype(np.uint16) * 5000), LEVELS.astype(np.uint16) * 5000, id="16 bits"),
        pytest.param(Image.fromarray(LEVELS > 5), (LEVELS > 5).astype(np.uint8), id="one bit"),
        pytest.param(Image.fromarray(PIXELS), PIXELS, id="colour"),
    ],
)
def test_levels_are_the_numbers_that_are_stored(image: Image.Image, expected: np.ndarray) -> None:
    found = read_levels(open_image(encode(image, "PNG")))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.kind in "iu"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(encode(Image.fromarray(LEVELS.astype(np.float32)), "TIFF"), "float32 numbers", id="floats"),
        pytest.param(encode(Image.fromarray(PIXELS), "PNG")[:200], "it may be truncated", id="cut short"),
    ],
)
def test_levels_of_other_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        read_levels(open_image(data))
