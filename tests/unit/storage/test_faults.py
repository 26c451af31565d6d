"""Transfers through a proxy that delays, resets, cuts short, alters and refuses: the right bytes or the right error."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import s3_client
from tests.fixtures.fault_proxy import FaultProxy, Kind, fault_proxy
from visionyard import storage
from visionyard.errors import StorageError
from visionyard.storage import base, s3_upload

LARGE = 22_000_000
LEFT = LARGE // 2


@pytest.fixture
def proxy(s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(LARGE))
    return path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the smallest size that S3 takes."""
    monkeypatch.setattr(s3_upload, "PART_BYTES", 5 << 20)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


ALL: list[Any] = ["slow_down", "reset", "reset_in_body", "truncate", "corrupt"]


@pytest.mark.parametrize("kind", ALL)
def test_a_fetch_that_fails_twice_brings_the_right_bytes(
    s3: str, proxy: FaultProxy, large: Path, tmp_path: Path, kind: Kind
) -> None:
    storage.upload_file(large, f"{s3}/x/large.bin")
    proxy.times(2, kind, method="GET", part="large.bin")
    back = storage.fetch_file(f"{s3}/x/large.bin", tmp_path / "back.bin")
    assert back.read_bytes() == large.read_bytes()
    assert leftovers(tmp_path) == []
    proxy.times(2, kind, method="GET", part="large.bin")
    assert storage.read_bytes(f"{s3}/x/large.bin") == large.read_bytes()


@pytest.mark.parametrize("kind", ["slow_down", "reset", "corrupt_upload"])
@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_fails_twice_brings_the_right_bytes(s3: str, proxy: FaultProxy, large: Path, kind: Kind) -> None:
    for path, address in ((large, f"{s3}/x/large.bin"), (Path(__file__), f"{s3}/x/small.py")):
        proxy.times(2, kind, method="PUT")
        storage.upload_file(path, address)
        proxy.fault = lambda _: None
        assert storage.read_bytes(address) == path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        pytest.param("slow_down", "the server asks for fewer requests; try again later", id="503"),
        pytest.param("reset", r"the connection broke off in the middle \(5 tries\)", id="reset"),
        pytest.param("truncate", r"the connection broke off in the middle \(5 tries\)", id="truncated"),
        pytest.param("corrupt", r"the bytes are damaged, 5 times \(expected sha256 \w+, got \w+\)", id="wrong bytes"),
    ],
)
def test_a_fault_that_stays_is_told_and_leaves_nothing_that_looks_whole(
    s3: str, proxy: FaultProxy, large: Path, tmp_path: Path, kind: Kind, match: str
) -> None:
    storage.upload_file(large, f"{s3}/x/large.bin")
    proxy.times(1000, kind, part="large.bin")
    with pytest.raises(StorageError, match=match) as caught:
        storage.fetch_file(f"{s3}/x/large.bin", tmp_path / "out" / "back.bin")
    assert caught.value.is_transient
    assert [path for path in (tmp_path / "out").iterdir() if path.name == "back.bin"] == []


def test_an_error_that_will_stay_is_not_tried_again(s3: str, proxy: FaultProxy) -> None:
    with pytest.raises(StorageError, match="there is no such object") as caught:
        storage.read_bytes(f"{s3}/absent")
    assert not caught.value.is_transient
    assert len(proxy.requests) == 1


def test_looking_whether_something_is_there_takes_two_requests_and_tells_a_store_that_is_away(
    s3: str, proxy: FaultProxy
) -> None:
    assert not storage.exists(f"{s3}/absent")
    assert len(proxy.requests) == 2
    proxy.times(1000, "reset", method="HEAD")
    with pytest.raises(StorageError, match="broke off") as caught:
        storage.exists(f"{s3}/absent")
    assert caught.value.is_transient


def test_an_interrupted_fetch_goes_on_by_a_range(
    s3: str, proxy: FaultProxy, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.upload_file(large, f"{s3}/x/large.bin")
    target = tmp_path / "out" / "back.bin"
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    proxy.times(1, "truncate", part="large.bin")
    with pytest.raises(StorageError, match="broke off"):
        storage.fetch_file(f"{s3}/x/large.bin", target)
    (left,) = (tmp_path / "out").iterdir()
    assert left.stat().st_size == LEFT
    storage.fetch_file(f"{s3}/x/large.bin", target)
    assert proxy.requests[-1].headers["range"] == f"bytes={LEFT}-"
    assert target.read_bytes() == large.read_bytes()
    assert leftovers(tmp_path / "out") == []


def test_what_is_left_of_another_version_is_not_gone_on_with(
    s3: str, proxy: FaultProxy, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.upload_file(large, f"{s3}/x/large.bin")
    target = tmp_path / "out" / "back.bin"
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    proxy.times(1, "truncate", part="large.bin")
    with pytest.raises(StorageError, match="broke off"):
        storage.fetch_file(f"{s3}/x/large.bin", target)
    for data in (bytes(LARGE), b"shorter than what is left"):
        storage.write_bytes(f"{s3}/x/large.bin", data)
        storage.fetch_file(f"{s3}/x/large.bin", target)
        assert target.read_bytes() == data
    assert leftovers(tmp_path / "out") == []


def test_a_folder_goes_on_in_the_middle_of_a_file(
    s3: str, proxy: FaultProxy, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.upload_file(large, f"{s3}/x/large.bin")
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    proxy.times(1, "truncate", part="large.bin")
    with pytest.raises(StorageError, match="broke off"):
        storage.fetch_folder(f"{s3}/x", tmp_path / "out", mirror=True)
    storage.fetch_folder(f"{s3}/x", tmp_path / "out", mirror=True)
    assert proxy.requests[-1].headers["range"] == f"bytes={LEFT}-"
    assert (tmp_path / "out" / "large.bin").read_bytes() == large.read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_upload_goes_on_with_the_parts_that_are_missing(
    s3: str, proxy: FaultProxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    proxy.fault = lambda request: "reset" if "partNumber=4" in request.target else None
    with pytest.raises(StorageError, match="broke off"):
        storage.upload_file(large, f"{s3}/x/large.bin")
    assert not storage.exists(f"{s3}/x/large.bin")
    proxy.fault = lambda _: None
    there = {request.target for request in proxy.requests if request.method == "PUT"}
    assert len(there) >= 3
    proxy.requests.clear()
    storage.upload_file(large, f"{s3}/x/large.bin")
    assert 1 <= proxy.count("PUT", "partNumber") <= 3
    assert storage.read_bytes(f"{s3}/x/large.bin") == large.read_bytes()
    bucket = s3.removeprefix("s3://")
    assert s3_client(proxy.url)._list_multipart_uploads(bucket).uploads == []


@pytest.mark.usefixtures("small_parts")
def test_an_unfinished_upload_of_other_content_is_let_be(
    s3: str, proxy: FaultProxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its first parts are the same: a log that grew."""
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    proxy.fault = lambda request: "reset" if "partNumber=4" in request.target else None
    with pytest.raises(StorageError, match="broke off"):
        storage.upload_file(large, f"{s3}/x/large.bin")
    proxy.fault = lambda _: None
    for data in (large.read_bytes() + b"more", os.urandom(LARGE)):
        large.write_bytes(data)
        storage.upload_file(large, f"{s3}/x/large.bin")
        assert storage.read_bytes(f"{s3}/x/large.bin") == data


def test_a_killed_fetch_leaves_nothing_that_looks_whole_and_goes_on(
    s3: str, proxy: FaultProxy, large: Path, tmp_path: Path
) -> None:
    storage.upload_file(large, f"{s3}/x/large.bin")
    proxy.latency_s = 0.0
    target = tmp_path / "out" / "back.bin"
    script = (
        "import os, sys; from pathlib import Path; from visionyard.storage import open_store\n"
        "count = 0\n"
        "def die(size):\n"
        "    global count; count += size\n"
        "    if count > 12_000_000: os.kill(os.getpid(), 9)\n"
        "open_store(sys.argv[1]).fetch(Path(sys.argv[2]), die)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, f"{s3}/x/large.bin", str(target)], check=False)
    assert done.returncode == -9
    assert not target.exists()
    assert len(leftovers(tmp_path / "out")) == 1
    storage.fetch_file(f"{s3}/x/large.bin", target)
    assert int(proxy.requests[-1].headers["range"].removeprefix("bytes=").removesuffix("-")) > 10_000_000
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(large.read_bytes()).digest()


def test_eight_transfers_go_at_the_same_time(s3: str, proxy: FaultProxy, tmp_path: Path) -> None:
    for number in range(16):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.bin").write_bytes(os.urandom(1000))
    open_at_once, open_now = [], set()

    def fault(request: Any) -> None:
        open_now.add(request.target)
        open_at_once.append(len(open_now))

    storage.upload_folder(tmp_path / "in", f"{s3}/many")
    proxy.fault = fault
    proxy.latency_s = 0.2
    started = time.monotonic()
    storage.fetch_folder(f"{s3}/many", tmp_path / "out")
    # One listing and two rounds of eight; one by one would be 3.4 s.
    assert time.monotonic() - started < 2.0
    assert len(list((tmp_path / "out").iterdir())) == 16
