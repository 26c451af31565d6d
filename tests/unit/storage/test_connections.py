"""Servers that cannot be reached, or are not what they are taken for: what is said, and that it ends."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from visionyard import storage
from visionyard.errors import StorageError


@pytest.mark.parametrize(
    ("endpoint", "match"),
    [
        pytest.param("minio:9000", r"'minio:9000': expected http://host:port", id="no scheme"),
        pytest.param("http://h/path", "not a usable endpoint", id="with a path"),
        pytest.param("http://no-such-host.invalid:1", "the host name is not known", id="unknown host"),
    ],
)
def test_wrong_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str, match: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=match):
        storage.list_objects("s3://bucket/x")


@pytest.fixture
def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_refused_connection(monkeypatch: pytest.MonkeyPatch, unused_address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", unused_address)
    with pytest.raises(StorageError, match=rf"s3://bucket/x at {unused_address}: the connection was refused"):
        storage.list_objects("s3://bucket/x")
    with pytest.raises(StorageError, match=rf"{unused_address}/f: the connection was refused"):
        storage.fetch_file(unused_address + "/f", Path("never"))


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch, silent_address: str) -> None:
    from visionyard.storage import s3_access, web

    short = urllib3.Timeout(connect=0.2, read=0.2)
    monkeypatch.setattr(s3_access, "TIMEOUT", short)
    monkeypatch.setattr(web, "TIMEOUT", short)
    web._pool.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent_address)
    try:
        for address in ("s3://bucket/x", silent_address + "/x"):
            with pytest.raises(StorageError, match=r"nothing was sent for .* s \(5 tries\)"):
                storage.read_bytes(address)
    finally:
        web._pool.cache_clear()


def test_an_endpoint_that_is_not_s3(monkeypatch: pytest.MonkeyPatch, web: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.give("/bucket", b"<html>", Content_Type="text/html", status=403)
    with pytest.raises(StorageError, match="the answer is not S3's"):
        storage.list_objects("s3://bucket/x")


def test_missing_bucket(s3: str, tmp_path: Path) -> None:
    for call in (storage.list_objects, storage.exists, storage.source_digest):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/x at http://.*: there is no such bucket"):
            call("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match="there is no such bucket"):
        storage.read_bytes("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match="there is no such bucket"):
        storage.fetch_folder("s3://no-such-bucket/x", tmp_path / "target")
    assert not (tmp_path / "target").exists()
