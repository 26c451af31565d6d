"""What is pushed comes back byte for byte, is stored once, and costs what changed."""

import gzip
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import contents, write_dataset
from visionyard import storage
from visionyard.data.artifacts import write_manifest
from visionyard.data.versions import list_store, open_version, packs, pull, push
from visionyard.errors import ArtifactError, ConfigError, StorageError

Make = Callable[..., Path]


def stored_bytes(store: str) -> int:
    return sum(info.size for info in storage.list_objects(store))


def test_a_version_comes_back_byte_for_byte(store: str, make_dataset: Make, tmp_path: Path) -> None:
    folder = make_dataset("first")
    (folder / "problems.jsonl").write_text("".join(f'{{"code": "c{number}"}}\n' for number in range(20_000)))
    (folder / "pictures").mkdir()
    (folder / "pictures" / "pair 1 ö.bin").write_bytes(b"")
    report = push(folder, store, tag="noise:v1")
    assert (report.item_count, report.new_item_count) == (120, 120)
    back = pull(f"{store}@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    assert (back.version, back.fetched_item_count) == (report.version, 120)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_names_that_need_headers_of_their_own(tmp_path: Path) -> None:
    """A tar has a header before the header where a name is long or not ASCII; it belongs to its item."""
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    keys = ["a", "b" * 120, "c", "ö/" + "d" * 99, "e"]
    rows = [
        {"split": "train", "key": key, "image": image + number, "class_ids": [0], "xyxy": [[0, 0, 1, 1]]}
        for number, key in enumerate(keys)
    ]
    folder = write_dataset(tmp_path / "odd", task="detection", classes=["cone"], rows=rows)
    push(folder, str(tmp_path / "store"), tag="odd:v1")
    pull(f"{tmp_path}/store@odd:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    push(write_dataset(tmp_path / "less", task="detection", classes=["cone"], rows=rows[1:]), f"{tmp_path}/store")
    assert (
        push(
            write_dataset(tmp_path / "few", task="detection", classes=["cone"], rows=rows[1:4]), f"{tmp_path}/store"
        ).new_item_count
        == 0
    )


def test_pushing_twice_stores_nothing_new(store: str, make_dataset: Make) -> None:
    first = push(make_dataset("first"), store, tag="noise:v1")
    before = storage.list_objects(store)
    again = push(make_dataset("again"), store, tag="noise:v2")
    assert (again.version, again.sent_bytes, again.object_count, again.new_item_count) == (first.version, 0, 0, 0)
    added = {info.key for info in storage.list_objects(store)} - {info.key for info in before}
    assert added == {"tags/noise/v2"}
    (info,) = list_store(store)
    assert (info.version, info.tags) == (first.version, ("noise:v1", "noise:v2"))
    assert info.item_counts == json.loads((make_dataset("third") / "dataset.json").read_text()).get("item_counts", {})


@pytest.mark.parametrize(
    ("change", "new_count"),
    [
        pytest.param({"changed": range(50, 60)}, 10, id="ten changed"),
        pytest.param({"added": 10}, 10, id="ten added between the others"),
        pytest.param({"count": 390}, 0, id="ten gone"),
    ],
)
def test_ten_items_cost_about_ten_items(
    make_dataset: Make, tmp_path: Path, change: dict[str, object], new_count: int
) -> None:
    store = str(tmp_path / "store")
    one_item = 24 * 24 * 3 + 3 * 512
    push(make_dataset("first", count=400), store)
    second = make_dataset("second", **{"count": 400, **change})
    report = push(second, store, tag="noise:v2")
    assert report.new_item_count == new_count
    # The rest: ten pages of rows, the manifest, and as always the last items of a shard... none of it grows with them.
    assert report.sent_bytes < (new_count + 2) * one_item + 25_000
    pull(f"{store}@noise:v2", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(second)


def test_packs_bound_the_number_of_objects(make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 100_000)
    store = str(tmp_path / "store")
    report = push(make_dataset("first", count=400), store)
    assert report.size_bytes / 100_000 <= report.object_count <= report.size_bytes / 100_000 * 1.2 + 3
    assert len(storage.list_objects(store)) == report.object_count


def test_progress_ends_with_all_bytes_of_the_folder(make_dataset: Make, tmp_path: Path) -> None:
    folder, told = make_dataset("first"), []
    report = push(folder, str(tmp_path / "store"), on_progress=lambda done, total: told.append((done, total)))
    size_bytes = sum(len(data) for data in contents(folder).values())
    assert report.size_bytes == size_bytes
    assert told == sorted(told)
    assert told[-1] == (size_bytes, size_bytes)


def test_what_a_killed_writer_left_in_the_folder_is_no_part_of_the_version(make_dataset: Make, tmp_path: Path) -> None:
    folder, store = make_dataset("first"), str(tmp_path / "store")
    version = push(folder, store).version
    (folder / ".problems.jsonl.partial").write_bytes(b"half")
    assert push(folder, store).version == version


def test_pushes_at_the_same_time(store: str, make_dataset: Make, tmp_path: Path) -> None:
    folders = [make_dataset(f"d{number}", changed=range(10 * number)) for number in range(4)] * 2
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda folder: push(folder, store), folders))
    assert len(list_store(store)) == len({report.version for report in reports}) == 4
    for number, (folder, report) in enumerate(zip(folders, reports, strict=True)):
        pull(f"{store}@{report.version}", tmp_path / f"back{number}")
        assert contents(tmp_path / f"back{number}") == contents(folder)


def test_a_version_is_not_there_before_its_last_write(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    seen = []

    def write(uri: str, data: bytes, write: Callable[[str, bytes], None] = storage.write_bytes) -> None:
        seen.append((uri.removeprefix(store).split("/")[1], len(list_store(store))))
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", write)
    push(make_dataset("first"), store, tag="noise:v1")
    assert {kind for kind, _ in seen[:-2]} == {"packs"}
    assert seen[-2:] == [("versions", 0), ("tags", 1)]
    assert all(count == 0 for _, count in seen[:-1])


def test_a_push_goes_on_with_what_a_killed_one_sent(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 50_000)
    monkeypatch.setattr(packs, "THREADS", 1)
    store, folder = str(tmp_path / "store"), make_dataset("first", count=400)
    whole = push(folder, str(tmp_path / "other"))
    write, left = storage.write_bytes, iter(range(5))

    def dies(uri: str, data: bytes) -> None:
        if next(left, None) is None:
            raise StorageError("the power went off")
        write(uri, data)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", dies)
        with pytest.raises(StorageError, match="the power went off"):
            push(folder, store)
    assert list_store(store) == []
    sent = stored_bytes(store)
    again = push(folder, store)
    assert sent > 200_000
    assert again.version == whole.version
    assert again.sent_bytes <= whole.sent_bytes - sent + 1_000


def test_a_pull_goes_on_where_it_stopped(make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 50_000)
    folder, store, target = make_dataset("first", count=200), str(tmp_path / "store"), tmp_path / "back"
    version = push(folder, store).version
    from visionyard.data.versions import reading

    left = iter(range(5))

    def dies(address: str, *, offset: int = 0, size: int | None = None) -> bytes:
        if "packs" in address and next(left, None) is None:
            raise StorageError("the power went off")
        return read(address, offset=offset, size=size)

    read = storage.read_bytes
    monkeypatch.setattr(reading, "PACK_BYTES", 50_000)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_bytes", dies)
        with pytest.raises(StorageError, match="the power went off"):
            pull(f"{store}@{version}", target)
    assert not target.exists()
    report = pull(f"{store}@{version}", target)
    assert 0 < report.fetched_item_count < 200
    assert contents(target) == contents(folder)
    assert pull(f"{store}@{version}", target).fetched_item_count == 0


def test_a_folder_that_lost_its_index_is_not_taken_for_the_version(make_dataset: Make, tmp_path: Path) -> None:
    folder, store = make_dataset("first"), str(tmp_path / "store")
    version = push(folder, store).version
    assert pull(f"{store}@{version}", folder).fetched_item_count == 0
    (folder / "index.parquet").unlink()
    with pytest.raises(ConfigError, match="first: holds something else than"):
        pull(f"{store}@{version}", folder)


def test_a_version_is_on_disk_before_it_has_its_name(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, target = str(tmp_path / "store"), tmp_path / "back"
    push(make_dataset("first"), store, tag="noise:v1")
    flushed: set[tuple[int, int]] = set()
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        fsync(descriptor)
        if not target.exists():
            flushed.add((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", flush)
    pull(f"{store}@noise:v1", target)
    files = {path.name: path.stat() for path in target.rglob("*") if path.is_file()}
    assert {name for name, status in files.items() if (status.st_ino, status.st_size) not in flushed} == set()


def test_a_pull_overwrites_nothing(make_dataset: Make, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    version = push(make_dataset("first"), store).version
    other = make_dataset("other", changed=range(3))
    before = contents(other)
    with pytest.raises(ConfigError, match="other: holds something else than"):
        pull(f"{store}@{version}", other)
    assert contents(other) == before


def _flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("kind", "damage", "match"),
    [
        pytest.param("packs", lambda data: _flip(data, 1000), r"packs/\w+\.pack: the \d+ bytes at \d+", id="a bit"),
        pytest.param("packs", lambda data: data[:3000], r"packs/\w+\.pack: the \d+ bytes at \d+", id="cut short"),
        pytest.param("packs", lambda data: b"", r"packs/\w+\.pack: the \d+ bytes at \d+", id="empty"),
        pytest.param("versions", lambda data: _flip(data, 40), r"versions/\w+\.json\.gz: ", id="manifest"),
        pytest.param(
            "versions", lambda data: b"", r"versions/\w+\.json\.gz: not a readable manifest", id="no manifest"
        ),
        pytest.param("tags", lambda data: b"../../x", r"tags/noise/v1: expected the id of a version", id="tag"),
    ],
)
def test_damage_is_refused_by_the_name_of_the_object(
    make_dataset: Make, tmp_path: Path, kind: str, damage: Callable[[bytes], bytes], match: str
) -> None:
    store = tmp_path / "store"
    push(make_dataset("first"), str(store), tag="noise:v1")
    for path in (store / kind).rglob("*"):
        if path.is_file():
            path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=match):
        pull(f"{store}@noise:v1", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_missing_pack_is_named_and_sent_again(make_dataset: Make, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", make_dataset("first")
    push(make_dataset("part", count=50), str(store))  # so that the second pack below has another name when sent again
    push(folder, str(store), tag="noise:v1")
    largest = max((store / "packs").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    with pytest.raises(StorageError, match=largest.name):
        pull(f"{store}@noise:v1", tmp_path / "back")
    push(folder, str(store), tag="noise:v1")
    pull(f"{store}@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_a_damaged_table_is_not_relied_upon(make_dataset: Make, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", make_dataset("first")
    push(folder, str(store), tag="noise:v1")
    for path in (store / "packs").iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    push(folder, str(store), tag="noise:v1")  # the manifest still refers to the packs that are damaged
    for path in (store / "packs").iterdir():
        if not path.read_bytes().endswith(b"VYPACK01"):
            path.unlink()
    push(folder, str(store), tag="noise:v1")
    pull(f"{store}@noise:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_a_manifest_cannot_write_outside_the_folder(make_dataset: Make, tmp_path: Path) -> None:
    store = tmp_path / "store"
    push(make_dataset("first"), str(store), tag="noise:v1")
    (path,) = (store / "versions").iterdir()
    values = json.loads(gzip.decompress(path.read_bytes()))
    values["files"][0]["path"] = "../evil"
    path.write_bytes(gzip.compress(json.dumps(values).encode()))
    with pytest.raises(StorageError, match=r"the key '\.\./evil' is no path below a folder"):
        pull(f"{store}@noise:v1", tmp_path / "back")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("column", "value"), [(0, 99), (0, -1), (1, -1), (2, -1)], ids=["no such pack", "pack", "offset", "count"]
)
def test_a_manifest_that_points_outside_its_packs_is_refused(
    make_dataset: Make, tmp_path: Path, column: int, value: int
) -> None:
    store = tmp_path / "store"
    push(make_dataset("first"), str(store), tag="noise:v1")
    (path,) = (store / "versions").iterdir()
    values = json.loads(gzip.decompress(path.read_bytes()))
    values["runs"][0][column] = value
    path.write_bytes(gzip.compress(json.dumps(values).encode()))
    with pytest.raises(ArtifactError, match=r"versions/\w+\.json\.gz: not a readable manifest"):
        open_version(f"{store}@noise:v1")


def test_a_dataset_without_shards_is_kept_as_files(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    write_manifest(folder, "dataset", {"task": "classification", "digest": "d"}, name="dataset.json")
    (folder / "rows.parquet").write_bytes(bytes(range(256)) * 1000)
    push(folder, str(tmp_path / "store"), tag="table:v1")
    version = open_version(f"{tmp_path}/store@table:v1")
    with pytest.raises(ArtifactError, match=r"has no index\.parquet; it holds dataset\.json, rows\.parquet"):
        version.index()
    pull(f"{tmp_path}/store@table:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        pytest.param(lambda folder: (folder / "dataset.json").unlink(), "expected a dataset folder", id="no manifest"),
        pytest.param(lambda folder: _shard(folder).unlink(), "the shard is missing", id="no shard"),
        pytest.param(
            lambda folder: _shard(folder).write_bytes(_shard(folder).read_bytes()[:9000]), "train-00000", id="cut shard"
        ),
        pytest.param(
            lambda folder: _shard(folder).write_bytes(_shard(folder).read_bytes()[:-1] + b"x"),
            "zeros behind its last item, got other bytes",
            id="something behind the end",
        ),
        pytest.param(
            lambda folder: _shard(folder).write_bytes(_flip(_shard(folder).read_bytes(), 900)),
            r"train-00000.tar: the image of train-00002 has SHA-256 \w+, expected \w+ of index.parquet",
            id="a bit of an image",
        ),
        pytest.param(
            lambda folder: (folder / "index.parquet").write_bytes(b"no parquet"), "not a readable index", id="index"
        ),
    ],
)
def test_a_damaged_dataset_is_not_pushed(
    make_dataset: Make, tmp_path: Path, spoil: Callable[[Path], None], match: str
) -> None:
    folder = make_dataset("first")
    spoil(folder)
    with pytest.raises(ArtifactError, match=match):
        push(folder, str(tmp_path / "store"), tag="noise:v1")
    assert not storage.exists(str(tmp_path / "store" / "versions"))


def _shard(folder: Path) -> Path:
    return folder / "shards" / "train-00000.tar"
