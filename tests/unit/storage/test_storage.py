"""The functions over addresses do the same with a path, a `file://` address and a bucket."""

import time
from pathlib import Path

import pytest

from tests.conftest import contents
from visionyard import storage
from visionyard.errors import StorageError

FILES = {"a.txt": b"alpha", "deep/er/b.bin": bytes(range(256)) * 5000, "empty": b"", "ö k+%20.txt": b"odd name"}


@pytest.fixture(params=["path", "file://", "s3://"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, writable address of each kind."""
    if request.param == "s3://":
        return str(request.getfixturevalue("s3")) + "/some/prefix"
    folder = tmp_path / "store"
    return str(folder) if request.param == "path" else folder.as_uri()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_a_folder_goes_there_and_back(place: str, folder: Path, tmp_path: Path) -> None:
    assert not storage.exists(place)
    assert storage.list_objects(place) == []
    storage.upload_folder(folder, place)
    assert storage.exists(place)
    listed = storage.list_objects(place)
    assert [info.key for info in listed] == sorted(FILES)
    assert {info.key: info.size for info in listed} == {name: len(data) for name, data in FILES.items()}
    storage.fetch_folder(place, tmp_path / "back")
    assert contents(tmp_path / "back") == FILES


def test_single_files(place: str, folder: Path, tmp_path: Path) -> None:
    address = storage.join(place, "x/y.bin")
    storage.write_bytes(address, b"0123456789")
    assert storage.read_bytes(address) == b"0123456789"
    assert storage.read_bytes(address, offset=3, size=4) == b"3456"
    assert storage.read_bytes(address, offset=8, size=10) == b"89"
    assert storage.read_bytes(address, offset=100, size=10) == b""
    assert storage.read_bytes(address, offset=4) == b"456789"
    assert storage.fetch_file(address, tmp_path / "new" / "copy").read_bytes() == b"0123456789"
    assert storage.fetch_file(address, tmp_path).name == "y.bin"
    assert [(info.key, info.size) for info in storage.list_objects(address)] == [("y.bin", 10)]
    storage.upload_file(folder / "a.txt", address)
    assert storage.read_bytes(address) == b"alpha"
    storage.fetch_folder(address, tmp_path / "only")
    assert contents(tmp_path / "only") == {"y.bin": b"alpha"}


def test_delete_takes_what_is_below_and_not_a_neighbour(place: str) -> None:
    for name in ("run-1/a", "run-1/b/c", "run-10/a"):
        storage.write_bytes(storage.join(place, name), b"x")
    assert [info.key for info in storage.list_objects(storage.join(place, "run-1"))] == ["a", "b/c"]
    storage.delete(storage.join(place, "run-1"))
    assert not storage.exists(storage.join(place, "run-1"))
    storage.delete(storage.join(place, "run-1"))
    assert [info.key for info in storage.list_objects(place)] == ["run-10/a"]
    storage.delete(storage.join(place, "run-10/a"))
    assert not storage.exists(storage.join(place, "run-10/a"))


def test_the_digest_follows_the_content(place: str, folder: Path) -> None:
    storage.upload_folder(folder, place)
    before = storage.source_digest(place)
    assert storage.source_digest(place) == before
    storage.write_bytes(storage.join(place, "a.txt"), b"ALPHA")
    changed = storage.source_digest(place)
    assert changed != before
    storage.write_bytes(storage.join(place, "a.txt"), b"alpha")
    assert storage.source_digest(place) == before


def test_a_second_fetch_skips_whole_files_and_takes_changed_ones(place: str, folder: Path, tmp_path: Path) -> None:
    storage.upload_folder(folder, place)
    back = tmp_path / "back"
    storage.fetch_folder(place, back)
    kept = (back / "a.txt").stat().st_ino
    (back / "empty").unlink()
    (back / "deep/er/b.bin").write_bytes(bytes(len(FILES["deep/er/b.bin"])))  # right size, altered since
    time.sleep(0.01)
    storage.write_bytes(storage.join(place, "ö k+%20.txt"), b"ODD NAME")  # right size, other content in the store
    (back / "stray.txt").write_bytes(b"not in the store")
    storage.fetch_folder(place, back)
    assert (back / "a.txt").stat().st_ino == kept
    expected = {**FILES, "ö k+%20.txt": b"ODD NAME"}
    assert contents(back) == {**expected, "stray.txt": b"not in the store"}
    storage.fetch_folder(place, back, mirror=True)
    assert contents(back) == expected


@pytest.mark.parametrize("call", ["fetch_folder", "fetch_file", "read_bytes", "source_digest"])
def test_nothing_there(place: str, tmp_path: Path, call: str) -> None:
    arguments = [tmp_path / "target"] if call.startswith("fetch") else []
    with pytest.raises(StorageError, match=r"some/prefix/absent|store/absent"):
        getattr(storage, call)(storage.join(place, "absent"), *arguments)
    assert not (tmp_path / "target").exists()


def test_uploading_nothing(place: str, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(StorageError, match="bare: expected files to upload"):
        storage.upload_folder(tmp_path / "bare", place)
    with pytest.raises(StorageError, match="ghost: no such file"):
        storage.upload_file(tmp_path / "ghost", place)
    assert not storage.exists(place)
