"""Versions through a proxy that counts, delays and spoils: the right result or error, nothing half-visible."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import contents
from tests.fixtures.fault_proxy import FaultProxy, Kind, Request, fault_proxy
from visionyard.data.dataset import Dataset
from visionyard.data.versions import list_store, open_version, packs, pull, push, reading
from visionyard.errors import ArtifactError, StorageError

Make = Callable[..., Path]
PACK_BYTES = 50_000


@pytest.fixture(autouse=True)
def _quick(quick_retries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", PACK_BYTES)
    monkeypatch.setattr(reading, "PACK_BYTES", PACK_BYTES)


@pytest.fixture
def proxy(s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def every(number: int, kind: Kind) -> Callable[[Request], Kind | None]:
    """Spoil one request in `number`."""
    count = iter(range(1, 1_000_000))
    return lambda _: kind if next(count) % number == 0 else None


@pytest.mark.parametrize("kind", ["slow_down", "reset", "reset_in_body", "truncate", "corrupt_upload", "corrupt"])
def test_one_spoilt_request_in_four_changes_nothing(
    s3: str, proxy: FaultProxy, make_dataset: Make, tmp_path: Path, kind: Kind
) -> None:
    folder = make_dataset("first", 200)
    proxy.fault = every(4, kind)
    if kind == "corrupt":  # what the server says is spoilt, also listings, whose bytes carry no hash: reads only
        proxy.fault = lambda _: None
    push(folder, f"{s3}/store", tag="noise:v1")
    if kind == "corrupt":
        spoil = every(4, kind)
        proxy.fault = lambda request: spoil(request) if "/packs/" in request.target else None
    pull(f"{s3}/store@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        pytest.param("slow_down", StorageError, "the server asks for fewer requests", id="503"),
        pytest.param("truncate", StorageError, "the connection broke off in the middle", id="truncated"),
        pytest.param("corrupt", ArtifactError, r"packs/\w{64}\.pack: the \d+ bytes at \d+ are damaged", id="wrong"),
    ],
)
def test_a_pull_that_cannot_succeed_says_why_and_shows_nothing(
    s3: str,
    proxy: FaultProxy,
    make_dataset: Make,
    tmp_path: Path,
    kind: Kind,
    error: type[Exception],
    match: str,
) -> None:
    push(make_dataset("first"), f"{s3}/store", tag="noise:v1")
    proxy.fault = lambda request: kind if "/packs/" in request.target else None
    with pytest.raises(error, match=match):
        pull(f"{s3}/store@noise:v1", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_push_that_cannot_succeed_shows_nothing(s3: str, proxy: FaultProxy, make_dataset: Make) -> None:
    proxy.fault = lambda request: "reset" if request.method == "PUT" else None
    with pytest.raises(StorageError, match="broke off") as caught:
        push(make_dataset("first"), f"{s3}/store", tag="noise:v1")
    assert caught.value.is_transient
    proxy.fault = lambda _: None
    assert list_store(f"{s3}/store") == []


_PUSH = (
    "import sys; from pathlib import Path; from visionyard.data.versions import packs, push\n"
    f"packs.PACK_BYTES = {PACK_BYTES}\n"
    "packs.THREADS = 1\n"
    "push(Path(sys.argv[1]), sys.argv[2], tag='noise:v1')\n"
)


@pytest.mark.parametrize("after", [2, 12])
def test_a_push_that_was_killed_sends_only_what_is_missing(
    s3: str, proxy: FaultProxy, make_dataset: Make, tmp_path: Path, after: int
) -> None:
    folder, store = make_dataset("first", 400), f"{s3}/store"
    pack_count = -(-push(folder, str(tmp_path / "elsewhere")).size_bytes // PACK_BYTES)
    assert pack_count > after + 3
    process: list[subprocess.Popen[bytes]] = []

    def fault(request: Request) -> Kind | None:
        if request.method == "PUT" and proxy.count("PUT", "/packs/") == after + 1:
            process[0].kill()
            return "reset"
        return None

    proxy.fault = fault
    process.append(subprocess.Popen([sys.executable, "-c", _PUSH, str(folder), store], env=dict(os.environ)))
    assert process[0].wait(60) == -9
    assert list_store(store) == []
    proxy.fault = lambda _: None
    arrived = {request.target for request in proxy.requests if request.method == "PUT"} - {proxy.requests[-1].target}
    proxy.requests.clear()
    push(folder, store, tag="noise:v1")
    sent = [request for request in proxy.requests if request.method == "PUT" and "/packs/" in request.target]
    assert len(arrived) >= after
    assert len(sent) <= pack_count - after + 2  # those of metadata, and the bounds of packs may lie elsewhere now
    assert sum(request.body_bytes for request in sent) < (pack_count - after + 1) * PACK_BYTES + 20_000
    pull(f"{store}@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_any_item_is_two_round_trips_away(s3: str, proxy: FaultProxy, make_dataset: Make) -> None:
    folder, store = make_dataset("first", 400), f"{s3}/store"
    version_id = push(folder, store).version
    local = Dataset(folder)
    samples = [local.sample("train", position) for position in (0, 77, 199)]
    proxy.latency_s = 0.05
    for sample in samples:
        proxy.requests.clear()
        version = open_version(f"{store}@{version_id}")  # nothing is known yet
        assert len(proxy.requests) == 1
        proxy.most_open = 0
        assert version.read(sample.blob) == local.image_bytes(sample)
        # The item and the page with its hash, asked for at the same time.
        assert (len(proxy.requests), proxy.most_open) == (3, 2)
    proxy.requests.clear()
    version.item_hashes()
    proxy.requests.clear()
    assert [version.read(sample.blob) for sample in samples] == [local.image_bytes(sample) for sample in samples]
    assert len(proxy.requests) == 3


def test_neighbours_come_with_one_request(s3: str, proxy: FaultProxy, make_dataset: Make) -> None:
    folder, store = make_dataset("first", 200), f"{s3}/store"
    version = open_version(f"{store}@{push(folder, store).version}")
    local = Dataset(folder)
    version.item_hashes()
    proxy.requests.clear()
    samples = list(local.samples("train"))
    assert version.read_many([sample.blob for sample in samples]) == [local.image_bytes(each) for each in samples]
    assert len(proxy.requests) <= sum(sample.blob.size + 1536 for sample in samples) / PACK_BYTES + 3
