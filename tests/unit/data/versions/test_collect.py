"""Garbage collection takes what no version refers to, and nothing else, whatever happens beside it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import contents
from visionyard import storage
from visionyard.data.versions import collect, list_store, packs, pull, push
from visionyard.errors import ArtifactError, ConfigError, StorageError

Make = Callable[..., Path]
DAY_S = 24 * 3600


def age(store: Path, kind: str, days: float) -> None:
    """Let objects have been written some days ago."""
    for path in (store / kind).glob("*"):
        os.utime(path, (time.time() - days * DAY_S,) * 2)


def packs_of(store: Path | str) -> set[str]:
    return {info.key for info in storage.list_objects(storage.join(str(store), "packs"))}


def test_a_removed_version_goes_in_two_steps_and_what_others_share_stays(make_dataset: Make, tmp_path: Path) -> None:
    store, kept = tmp_path / "store", make_dataset("kept", 300)
    push(kept, str(store), tag="noise:v1")
    shared = packs_of(store)
    push(make_dataset("gone", 300, changed=range(40)), str(store), tag="noise:v2")
    alone = packs_of(store) - shared
    age(store, "packs", 3)
    planned = collect(str(store), removed=["noise:v2"])
    assert planned.is_dry
    assert {f"{name}.pack" for name in planned.condemned} == alone
    assert planned.removed_tags == ["noise:v2"]
    assert len(list_store(str(store))) == 2
    assert not (store / "condemned").exists()

    first = collect(str(store), removed=["noise:v2"], is_dry=False)
    assert (first.condemned, first.deleted, first.kept_pack_count) == (planned.condemned, [], len(shared))
    assert [info.tags for info in list_store(str(store))] == [("noise:v1",)]
    assert packs_of(store) == shared | alone
    assert collect(str(store), is_dry=False).deleted == []

    age(store, "condemned", 2)
    last = collect(str(store), is_dry=False)
    assert {f"{name}.pack" for name in last.deleted} == alone
    assert last.freed_bytes > 40 * 24 * 24 * 3
    assert packs_of(store) == shared
    assert list((store / "condemned").iterdir()) == []
    pull(f"{store}@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(kept)


def test_no_grace_deletes_at_once(store: str, make_dataset: Make) -> None:
    version = push(make_dataset("first"), store, tag="noise:v1").version
    report = collect(store, removed=[version[:10]], is_dry=False, grace_s=0)
    assert (report.removed_versions, report.removed_tags) == ([version], ["noise:v1"])
    assert len(report.deleted) == 2
    assert storage.list_objects(store) == []


def test_what_a_killed_push_left_is_kept_for_a_day(make_dataset: Make, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", make_dataset("first")
    push(folder, str(store))
    for path in (store / "versions").iterdir():
        path.unlink()
    assert collect(str(store), is_dry=False).young_pack_count == 2
    age(store, "packs", 2)
    assert len(collect(str(store), is_dry=False).condemned) == 2


def test_unfinished_files_of_killed_pushes_go_after_a_day(make_dataset: Make, tmp_path: Path) -> None:
    store = tmp_path / "store"
    push(make_dataset("first"), str(store), tag="noise:v1")
    left = store / "packs" / ".abc.pack.0123.partial"
    left.write_bytes(b"half")
    assert collect(str(store), is_dry=False).leftover_count == 0
    os.utime(left, (time.time() - 2 * DAY_S,) * 2)
    assert collect(str(store)).leftover_count == 1
    assert left.exists()
    assert collect(str(store), is_dry=False).leftover_count == 1
    assert not left.exists()
    assert len(packs_of(store)) == 2


def test_each_manifest_is_read_once(make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "store")
    for number in range(3):
        push(make_dataset(f"d{number}", changed=range(10 * number)), store, tag=f"noise:v{number}")
    seen: list[str] = []

    def read(uri: str, read: Callable[[str], bytes] = storage.read_bytes) -> bytes:
        seen.append(uri)
        return read(uri)

    monkeypatch.setattr(storage, "read_bytes", read)
    collect(store)
    assert len(seen) == len(set(seen)) == 3


def test_a_push_does_not_rely_on_what_is_condemned(make_dataset: Make, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", make_dataset("first")
    version = push(folder, str(store), tag="noise:v1").version
    age(store, "packs", 2)
    condemned = collect(str(store), removed=[version], is_dry=False).condemned
    again = push(folder, str(store), tag="noise:v1")
    assert (again.version, again.new_item_count) == (version, again.item_count)
    age(store, "condemned", 2)
    assert sorted(collect(str(store), is_dry=False).deleted) == condemned
    pull(f"{store}@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


@pytest.mark.parametrize("moment", range(1, 8))
def test_a_collection_in_the_middle_of_a_push_takes_nothing_that_the_push_needs(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The worst case: the packs that the push relies on lose their last reference, at each of its steps."""
    monkeypatch.setattr(packs, "PACK_BYTES", 150_000)
    monkeypatch.setattr(packs, "THREADS", 1)
    store, old = str(tmp_path / "store"), make_dataset("old", 200)
    new = make_dataset("new", 200, changed=range(60))
    version = push(old, store).version
    age(tmp_path / "store", "packs", 2)
    calls = iter(range(1, 100))

    def listing(uri: str, listing: Callable[[str], list[storage.ObjectInfo]] = storage.list_objects) -> list[object]:
        found = listing(uri)
        step()
        return list(found)

    def write(uri: str, data: bytes, write: Callable[[str, bytes], None] = storage.write_bytes) -> None:
        step()
        write(uri, data)

    def step() -> None:
        if next(calls) == moment:
            with monkeypatch.context() as patch:
                patch.setattr(storage, "list_objects", real_listing)
                patch.setattr(storage, "write_bytes", real_write)
                report = collect(store, removed=[version], is_dry=False, grace_s=3600)
                assert report.condemned
                age(tmp_path / "store", "condemned", 1)
                collected.append(collect(store, is_dry=False, grace_s=3600))

    collected: list[object] = []
    real_listing, real_write = storage.list_objects, storage.write_bytes
    monkeypatch.setattr(storage, "list_objects", listing)
    monkeypatch.setattr(storage, "write_bytes", write)
    push(new, store, tag="noise:v2")
    monkeypatch.undo()
    assert collected
    pull(f"{store}@noise:v2", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(new)


def test_a_version_that_appears_while_collecting_keeps_its_packs(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that took longer than the grace period ends between the two looks at the manifests."""
    store, folder = tmp_path / "store", make_dataset("first")
    push(folder, str(store), tag="noise:v1")
    age(store, "packs", 2)
    manifest = next((store / "versions").iterdir())
    manifest.rename(tmp_path / manifest.name)
    collect(str(store), is_dry=False)
    age(store, "condemned", 2)

    def listing(uri: str, listing: Callable[[str], list[storage.ObjectInfo]] = storage.list_objects) -> list[object]:
        found = listing(uri)
        if uri.endswith("versions") and (tmp_path / manifest.name).exists():
            (tmp_path / manifest.name).rename(manifest)
        return list(found)

    monkeypatch.setattr(storage, "list_objects", listing)
    assert collect(str(store), is_dry=False).deleted == []
    pull(f"{store}@noise:v1", tmp_path / "back")


def test_a_damaged_manifest_stops_the_collection(make_dataset: Make, tmp_path: Path) -> None:
    store = tmp_path / "store"
    push(make_dataset("first"), str(store))
    next((store / "versions").iterdir()).write_bytes(b"?")
    before = packs_of(store)
    with pytest.raises(ArtifactError, match="not a readable manifest"):
        collect(str(store), is_dry=False, grace_s=0)
    assert packs_of(store) == before


def test_only_what_is_there_can_be_removed(make_dataset: Make, tmp_path: Path) -> None:
    push(make_dataset("first"), f"{tmp_path}/store")
    for reference, match in (("noise:v1", "has no version noise:v1"), ("f" * 64, "there is no such version")):
        with pytest.raises(ConfigError, match=match):
            collect(f"{tmp_path}/store", removed=[reference], is_dry=False)


def test_an_unreachable_store_deletes_nothing(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    push(make_dataset("first"), str(store))
    before = packs_of(store)

    def refused(uri: str, *, offset: int = 0, size: int | None = None) -> bytes:
        raise StorageError(f"{uri}: the connection was refused")

    monkeypatch.setattr(storage, "read_bytes", refused)
    with pytest.raises(StorageError, match="refused"):
        collect(str(store), is_dry=False, grace_s=0)
    assert packs_of(store) == before
