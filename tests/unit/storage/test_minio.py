"""The same against MinIO, the server that most will have: transfers, parts, hashes, dataset versions."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.fault_proxy import FaultProxy, fault_proxy
from tests.fixtures.minio_server import minio_server
from tests.fixtures.s3_server import ACCESS_KEY, SECRET_KEY, s3_client
from visionyard import storage
from visionyard.data.versions import collect, list_store, pull, push
from visionyard.errors import StorageError
from visionyard.storage import base, s3_upload

PART_BYTES = 5 << 20


@pytest.fixture(scope="module")
def minio_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with minio_server(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture
def proxy(minio_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(s3_upload, "PART_BYTES", PART_BYTES)
    with fault_proxy(minio_endpoint) as running:
        for name, value in (
            ("AWS_ENDPOINT_URL", running.url),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ):
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def bucket(minio_endpoint: str) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client(minio_endpoint).make_bucket(name)
    return f"s3://{name}"


def test_files_go_there_and_back(bucket: str, proxy: FaultProxy, tmp_path: Path) -> None:
    files = {"a.txt": b"alpha", "deep/b.bin": os.urandom(12_000_000), "empty": b"", "ö k+%20.txt": b"odd"}
    for name, data in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    storage.upload_folder(tmp_path / "in", f"{bucket}/x")
    storage.fetch_folder(f"{bucket}/x", tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == files
    assert storage.read_bytes(f"{bucket}/x/deep/b.bin", offset=7_000_000, size=9) == files["deep/b.bin"][7_000_000:][:9]
    storage.delete(f"{bucket}/x")
    assert not storage.exists(f"{bucket}/x")


def test_an_interrupted_upload_goes_on(
    bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(22_000_000))
    with monkeypatch.context() as patch:
        patch.setattr(base, "TRY_COUNT", 1)
        proxy.fault = lambda request: "reset" if "partNumber=4" in request.target else None
        with pytest.raises(StorageError, match="broke off"):
            storage.upload_file(path, f"{bucket}/large.bin")
    proxy.fault = lambda _: None
    proxy.requests.clear()
    storage.upload_file(path, f"{bucket}/large.bin")
    assert 1 <= proxy.count("PUT", "partNumber") <= 3
    assert storage.read_bytes(f"{bucket}/large.bin") == path.read_bytes()


def test_bytes_altered_on_their_way_are_noticed_both_ways(bucket: str, proxy: FaultProxy, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    proxy.times(2, "corrupt_upload", method="PUT")
    storage.write_bytes(f"{bucket}/x", data)
    proxy.times(2, "corrupt", method="GET")
    assert storage.fetch_file(f"{bucket}/x", tmp_path / "x").read_bytes() == data
    proxy.times(100, "corrupt_upload", method="PUT")
    with pytest.raises(StorageError, match=f"{bucket}/y") as caught:
        storage.write_bytes(f"{bucket}/y", data)
    assert caught.value.is_transient
    assert not storage.exists(f"{bucket}/y")


def test_dataset_versions(bucket: str, proxy: FaultProxy, shapes_dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder, store = shapes_dataset("detection"), f"{bucket}/datasets"
    first = push(folder, store, tag="shapes:v1")
    again = push(folder, store, tag="shapes:v1")
    assert (again.version, again.sent_bytes) == (first.version, 0)
    pull(f"{store}@shapes:v1", tmp_path / "back")
    for name in ("dataset.json", "index.parquet", "shards/train-00000.tar"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    assert len(collect(store, removed=["shapes:v1"], is_dry=False, grace_s=0).deleted) == 2
    assert list_store(store) == []
    assert storage.list_objects(store) == []
