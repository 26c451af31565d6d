"""Forms and encodings: ten thousand parts, no boundary, nonsense, compressed bodies."""

import gzip
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

# Ordinarily milliseconds; loose, so that a busy machine makes no failure.
AWAKE_S = 3.0
PREDICT = "/predict?model=boxes"
FORM = "multipart/form-data; boundary=XX"


def part(content: bytes, name: str = "image", more: str = '; filename="a.png"') -> bytes:
    return f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def post(http: httpx.Client, body: bytes, kind: str = FORM) -> httpx.Response:
    return http.post(PREDICT, content=body, headers={"content-type": kind})


@pytest.mark.parametrize("more", ['; filename="a.png"', ""], ids=["files", "fields"])
def test_ten_thousand_parts_are_refused_soon(
    http: httpx.Client, hostile: SimpleNamespace, stays_awake: Callable[[], float], more: str
) -> None:
    body = b"".join(part(b"x", f"n{number}", more) for number in range(10_000)) + b"--XX--\r\n"
    answer = post(http, body)
    hostile.refused(answer, 400, 413)
    assert answer.elapsed.total_seconds() < 5
    assert stays_awake() < AWAKE_S


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param("multipart/form-data", part(b"x") + b"--XX--", id="no boundary"),
        pytest.param("multipart/form-data; boundary=", part(b"x"), id="empty boundary"),
        pytest.param("multipart/form-data; boundary=" + "y" * 5000, part(b"x"), id="long boundary"),
        pytest.param("multipart/form-data; boundary=\xff", part(b"x"), id="boundary not ASCII"),
        pytest.param(FORM, b"", id="empty"),
        pytest.param(FORM, b"hello", id="no part"),
        pytest.param(FORM, part(b"x"), id="no end"),
        pytest.param(FORM, b"--XX\r\n\r\nx\r\n--XX--\r\n", id="part without head"),
        pytest.param(FORM, b"--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--\r\n", id="part without name"),
        pytest.param(FORM, b"--XX\r\nContent-Disposition\r\n\r\nx\r\n--XX--\r\n", id="head without colon"),
        pytest.param(FORM, b"--XX\r\nX: " + b"y" * 300_000 + b"\r\n\r\nx\r\n--XX--\r\n", id="long head"),
        pytest.param(FORM, b"--XX\r\n" + b"A: b\r\n" * 50_000 + b"\r\nx\r\n--XX--\r\n", id="many heads"),
        pytest.param(FORM, part(b"5", "confidence", "") + b"--XX--\r\n", id="fields only"),
        pytest.param(FORM, part(b"") + b"--XX--\r\n", id="empty file"),
        pytest.param(FORM, part(b"\xff\xfe", "confidence", "") + part(b"x") + b"--XX--\r\n", id="field not UTF-8"),
        pytest.param(FORM, part(b"x" * 3_000_000, "confidence", "") + b"--XX--\r\n", id="field of 3 MB"),
        pytest.param(FORM, part(b"\r\n--X" * 100_000) + b"--XX--\r\n", id="almost boundaries"),
    ],
)
def test_a_form_that_is_none_is_refused(http: httpx.Client, hostile: SimpleNamespace, kind: str, body: bytes) -> None:
    answer = http.post(PREDICT, content=body, headers={"content-type": kind.encode("latin-1")})
    hostile.refused(answer, 400, 413)


def test_file_names_of_a_form_lead_nowhere(http: httpx.Client, hostile: SimpleNamespace) -> None:
    body = part(hostile.png(8, 8), "image", '; filename="../../../../tmp/evil.png"') + b"--XX--\r\n"
    assert post(http, body).status_code == 200


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x" * 1000], ids=lambda text: text[:12]
)
def test_a_compressed_body_is_refused_unopened(http: httpx.Client, hostile: SimpleNamespace, encoding: str) -> None:
    """10 kB that unfold to 10 MB."""
    plain = bytes(10 * 2**20)
    body = gzip.compress(plain) if "gzip" in encoding else zlib.compress(plain)
    answer = http.post(PREDICT, content=body, headers={"content-type": "image/png", "content-encoding": encoding})
    assert "Content-Encoding" in hostile.refused(answer, 415)


def test_a_gzip_file_without_the_header_is_no_image(http: httpx.Client, hostile: SimpleNamespace) -> None:
    answer = http.post(PREDICT, content=gzip.compress(bytes(10 * 2**20)), headers={"content-type": "image/png"})
    hostile.refused(answer, 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "CONNECT"])
def test_another_method_is_refused(http: httpx.Client, hostile: SimpleNamespace, method: str) -> None:
    answer: Any = http.request(method, "/predict")
    hostile.refused(answer, 400, 404, 405)
