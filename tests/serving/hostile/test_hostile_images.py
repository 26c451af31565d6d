"""Images that are none, or that unfold: truncated, giant, bombs, the wrong kind."""

import io
import struct
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

PREDICT = "/predict?model=boxes"


def send(http: httpx.Client, data: bytes, kind: str = "image/png") -> httpx.Response:
    return http.post(PREDICT, content=data, headers={"content-type": kind})


@pytest.mark.parametrize(
    ("data", "named"),
    [
        pytest.param(b"", "empty", id="zero bytes"),
        pytest.param(b"\0", "image 0", id="one byte"),
        pytest.param(b"hello", "image 0", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "image 0", id="svg"),
        pytest.param(b"%PDF-1.7\n%%EOF", "image 0", id="pdf"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image 0", id="postscript"),
        pytest.param(b"PK\x03\x04" + bytes(100), "image 0", id="zip"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "image 0", id="png head only"),
        pytest.param(b"\xff\xd8\xff\xe0" + bytes(64), "image 0", id="jpeg head only"),
        pytest.param(b"GIF89a" + b"\xff" * 64, "image 0", id="gif of nonsense"),
        pytest.param(b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(64), "image 0", id="webp of nonsense"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 200, "image 0", id="tiff with 65,535 tags"),
        pytest.param(b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "image 0", id="tiff that points at itself"),
        pytest.param(b"BM" + b"\xff" * 60, "image 0", id="bmp of nonsense"),
        pytest.param(b"II+\0\x08\0\0\0" + b"\xff" * 64, "image 0", id="bigtiff of nonsense"),
    ],
)
def test_what_is_no_image_is_refused(http: httpx.Client, hostile: SimpleNamespace, data: bytes, named: str) -> None:
    assert named in hostile.refused(send(http, data), 400)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "16-bit", "cmyk", "exif-rotated"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, images: dict[str, bytes], kind: str, share: float
) -> None:
    data = images[kind]
    hostile.refused(send(http, data[: int(len(data) * share)]), 400)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp"])
def test_an_image_with_changed_bytes_is_answered_or_refused(
    http: httpx.Client, hostile: SimpleNamespace, images: dict[str, bytes], kind: str
) -> None:
    random = np.random.default_rng(11)
    for _ in range(30):
        data = bytearray(images[kind])
        for place in random.integers(0, len(data), 5):
            data[place] = random.integers(256)
        answer = send(http, bytes(data))
        if answer.status_code != 200:
            hostile.refused(answer, 400, 413)


def bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHI IiiHHIIiiII", b"BM", 154, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(
        100
    )


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, height), (279, 4, 100)]  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHI", b"II", 42, 108) + bytes(100) + struct.pack("<H", len(tags)) + rows + bytes(4)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda png: png(100_000, 100_000, b""), id="png 100k x 100k"),
        pytest.param(lambda png: png(2**31 - 1, 2**31 - 1, b""), id="png 2G x 2G"),
        pytest.param(lambda png: bmp(100_000, 100_000), id="bmp 100k x 100k"),
        pytest.param(lambda png: tiff(100_000, 100_000), id="tiff 100k x 100k"),
        pytest.param(
            lambda png: b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x02\0;", id="gif 64k x 64k"
        ),
        pytest.param(
            lambda png: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\x00\xff\xff\x00", id="webp 64k x 64k"
        ),
    ],
)
def test_an_image_that_says_it_is_giant_is_refused_unopened(
    http: httpx.Client, server: Any, hostile: SimpleNamespace, make: Callable[[Any], bytes]
) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    answer = send(http, make(hostile.png))
    hostile.refused(answer, 400, 413)
    assert process.memory_info().rss - before < 50 * 2**20


def test_the_refusal_of_a_giant_image_names_size_and_limit(http: httpx.Client, hostile: SimpleNamespace) -> None:
    message = hostile.refused(send(http, hostile.png(100_000, 100_000, b"")), 413)
    assert "100000x100000" in message
    assert "50000000" in message


def test_a_bomb_within_the_pixel_limit_is_answered_and_its_memory_given_back(
    http: httpx.Client, hostile: SimpleNamespace
) -> None:
    """7,000 x 7,000 px of nothing are 48 kB as PNG and 147 MB as pixels."""
    row = bytes(7001)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(row) for _ in range(7000)) + packer.flush()
    data = hostile.png(7000, 7000, b"")
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    body = b"IDAT" + rows
    data = data[:start] + struct.pack(">I", len(rows)) + body + struct.pack(">I", zlib.crc32(body)) + data[end:]
    assert len(data) < 100_000
    answer = send(http, data)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["width"] == 7000


def test_a_png_whose_texts_unfold_is_answered_or_refused(
    http: httpx.Client, server: Any, hostile: SimpleNamespace
) -> None:
    """A zTXt chunk of 64 MB in 64 kB."""
    plain = hostile.png(8, 8)
    text = b"zTXt" + b"c\0\0" + zlib.compress(bytes(64 * 2**20), 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    answer = send(http, plain[:33] + chunk + plain[33:])
    if answer.status_code != 200:
        hostile.refused(answer, 400, 413)
    assert process.memory_info().rss - before < 50 * 2**20


def test_a_gif_of_a_thousand_frames_costs_one(http: httpx.Client) -> None:
    frames = [Image.new("L", (64, 64), number % 256) for number in range(1000)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    answer = send(http, buffer.getvalue(), "image/gif")
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)], ids=["1x1", "1x4000", "4000x1"])
def test_an_image_of_an_odd_shape_is_answered(
    http: httpx.Client, hostile: SimpleNamespace, size: tuple[int, int]
) -> None:
    answer = send(http, hostile.png(*size))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("kind", ["text/html", "video/mp4", "application/xml", "application/x-protobuf", "x/y" * 5000])
def test_a_wrong_media_type_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, images: dict[str, bytes], kind: str
) -> None:
    assert "Content-Type" in hostile.refused(send(http, images["png"], kind), 400, 415)


def test_too_many_images_are_refused_before_any_is_decoded(http: httpx.Client, hostile: SimpleNamespace) -> None:
    body = {"images": [{"b64": hostile.b64(hostile.png(8, 8))}] * 5000}
    assert "at most 16" in hostile.refused(http.post(PREDICT, json=body), 413)
