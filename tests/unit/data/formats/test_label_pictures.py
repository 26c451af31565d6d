"""Pictures of labels of every pixel type, and what a class map makes of them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.data.formats.label_pictures import ClassMap, LabelPicture
from visionyard.errors import MediaError

GREY = np.array([[0, 1, 2], [3, 254, 255]], np.uint8)
COLOURS = np.array([[[0, 0, 0], [128, 64, 0]], [[7, 7, 7], [0, 0, 0]]], np.uint8)
ROAD_SKY = ClassMap(("road", "sky"), {}, {(0, 0, 0): 0, (128, 64, 0): 1})


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def small_png(rows: list[bytes], width: int, bit_depth: int) -> bytes:
    """Return a grey PNG of few bits a pixel, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bit_depth, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def indexed(indices: np.ndarray, palette: list[int]) -> Image.Image:
    image = Image.fromarray(indices, "L").convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette)
    return image


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(Image.fromarray(GREY)), GREY, id="grey"),
        pytest.param(encoded(Image.fromarray(GREY).convert("LA")), GREY, id="grey with transparency"),
        pytest.param(encoded(Image.fromarray(GREY.astype(np.uint16) * 100)), GREY.astype(int) * 100, id="16 bits"),
        pytest.param(encoded(Image.fromarray(GREY > 1)), GREY > 1, id="one bit"),
        pytest.param(small_png([bytes([0b00011011])], 4, 2), np.array([[0, 1, 2, 3]]), id="two bits"),
        pytest.param(small_png([b"\x0f\x51"], 4, 4), np.array([[0, 15, 5, 1]]), id="four bits"),
        pytest.param(encoded(indexed(GREY, [9, 9, 9] * 256)), GREY, id="indexed"),
        pytest.param(encoded(Image.fromarray(GREY), "BMP"), GREY, id="BMP"),
        pytest.param(encoded(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), GREY, id="TIFF"),
        pytest.param(encoded(Image.fromarray(COLOURS)), COLOURS, id="colour"),
        pytest.param(encoded(Image.fromarray(COLOURS).convert("RGBA")), COLOURS, id="colour with transparency"),
    ],
)
def test_numbers_come_back_as_they_were_written(data: bytes, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(LabelPicture.decode(data).levels, expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(encoded(Image.fromarray(GREY), "JPEG"), "labels as JPEG, which may change pixels", id="JPEG"),
        pytest.param(encoded(Image.fromarray(COLOURS), "WEBP", lossless=True), "labels as WEBP", id="WebP"),
        pytest.param(encoded(Image.fromarray(GREY), "TIFF", compression="jpeg"), "labels as TIFF", id="JPEG in TIFF"),
        pytest.param(encoded(Image.fromarray(COLOURS).convert("CMYK"), "TIFF"), "its pixels are CMYK", id="CMYK"),
        pytest.param(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "its pixels are F", id="floats"),
        pytest.param(encoded(Image.fromarray(GREY.astype(np.int32) - 5), "TIFF"), r"lie in \[-5, 250\]", id="negative"),
        pytest.param(encoded(Image.fromarray(np.resize(GREY, (90, 90))))[:60], "it may be truncated", id="cut short"),
        pytest.param(b"id,name", "not an image of a known format", id="text"),
    ],
)
def test_pictures_that_hold_no_labels_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        LabelPicture.decode(data)


def picture(levels: Any, palette: Any = None) -> LabelPicture:
    return LabelPicture(np.array(levels, np.uint8), None if palette is None else np.array(palette, np.uint8))


@pytest.mark.parametrize(
    ("class_map", "labels", "expected", "unknown"),
    [
        pytest.param(ClassMap(("a", "b"), {7: 0, 3: 1}, {}), picture([[7, 3, 255]]), [[0, 1, 255]], "", id="numbers"),
        pytest.param(
            ClassMap(("a",), {7: 0}, {}), picture([[7, 3, 3, 9]]), [[0, 255, 255, 255]],
            "3 on 2 pixels, 9 on 1 pixels", id="unknown numbers",
        ),
        pytest.param(
            ClassMap(("a",), {70: 0}, {}), picture([range(7)]), [[255] * 7],
            ", ".join(f"{n} on 1 pixels" for n in range(5)) + " and other values", id="many unknown numbers",
        ),
        pytest.param(ClassMap(("a", "b"), {0: 0, 255: 1}, {}), picture([[0, 255]]), [[0, 1]], "", id="255 is a class"),
        pytest.param(ClassMap(("a",), {7: 0}, {}), picture([[[7, 7, 7]]]), [[0]], "", id="grey saved as colour"),
        pytest.param(
            ROAD_SKY, LabelPicture(COLOURS), [[0, 1], [255, 0]], "7,7,7 on 1 pixels", id="colours, one unknown"
        ),
        pytest.param(
            ROAD_SKY, picture([[1, 0, 255]], [[128, 64, 0], [0, 0, 0]]), [[0, 1, 255]], "", id="colours of a palette"
        ),
        pytest.param(
            ClassMap(("a", "b"), {0: 0, 1: 1}, {(1, 2, 3): 0, (4, 5, 6): 1}),
            picture([[0, 1]], [[9, 9, 9], [8, 8, 8]]), [[0, 1]], "", id="numbers where the palette means nothing",
        ),
    ],
)  # fmt: skip
def test_class_ids(class_map: ClassMap, labels: LabelPicture, expected: list[list[int]], unknown: str) -> None:
    ids, text = class_map.class_ids(labels)
    assert (ids.tolist(), ids.dtype, text) == (expected, np.uint8, unknown)


def test_colours_without_a_map_are_refused() -> None:
    with pytest.raises(MediaError, match="it is in colour, and no class map says what its colours are"):
        ClassMap(("a",), {0: 0}, {}).class_ids(LabelPicture(COLOURS))
