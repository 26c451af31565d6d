"""A dataset read out of a store is the one in the folder, whatever happens to the cache and the store."""

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import draw_shape, write_dataset
from tests.fixtures.s3_server import s3_client
from tests.fixtures.seaweed import Seaweed
from visionyard.data.dataset import Dataset
from visionyard.data.shards import Blob
from visionyard.data.streaming import NodeCache, StreamedDataset, epoch_order, open_dataset, streamed
from visionyard.data.streaming.folder_copy import FolderCopy
from visionyard.data.versions import push
from visionyard.errors import ArtifactError, ConfigError, StorageError
from visionyard.storage import upload_folder

_SPLITS: tuple[Any, ...] = ("train", "val", "test")


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut runs of three or four images, so that small datasets have several."""
    monkeypatch.setattr("visionyard.data.streaming.order.run_numbers.__kwdefaults__", {"run_bytes": 20_000})


@pytest.fixture
def folder(tmp_path: Path, small_runs: None) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for split, count in (("train", 40), ("val", 7), ("test", 1)):
        for number in range(count):
            image, xyxy = draw_shape(random, number % 2, 48)
            rows.append({"split": split, "image": image, "class_ids": [number % 2], "xyxy": [xyxy]})
    return write_dataset(tmp_path / "dataset", task="detection", classes=["square", "disc"], rows=rows)


class _Counting(FolderCopy):
    """Tells what was read."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.blobs: list[Blob] = []

    def read_many(self, blobs: Sequence[Blob]) -> list[bytes]:
        self.blobs += blobs
        return super().read_many(blobs)


def _open(folder: Path, *, limit_bytes: int = 1 << 30) -> tuple[StreamedDataset, _Counting]:
    source = _Counting(f"file://{folder}")
    return StreamedDataset(source, name="set", cache=NodeCache(folder.parent / "c", limit_bytes=limit_bytes)), source


def _assert_same(dataset: Dataset, folder: Path) -> None:
    local = Dataset(folder)
    assert (dataset.info, dataset.task, dataset.classes) == (local.info, local.task, local.classes)
    for split in _SPLITS:
        np.testing.assert_array_equal(dataset.image_sizes(split), local.image_sizes(split))
        for ours, expected in zip(dataset.samples(split), local.samples(split), strict=True):
            assert (ours.key, ours.sha256, ours.xyxy.tolist()) == (
                expected.key,
                expected.sha256,
                expected.xyxy.tolist(),
            )
            assert dataset.image_bytes(ours) == local.image_bytes(expected)


@pytest.mark.parametrize("kind", ["folder copy", "version"])
def test_what_is_streamed_is_what_lies_in_the_folder(kind: str, folder: Path, s3: str) -> None:
    if kind == "version":
        push(folder, f"{s3}/sets", tag="shapes:v1")
        address = f"{s3}/sets@shapes:v1"
    else:
        upload_folder(folder, f"{s3}/set")
        address = f"{s3}/set"
    dataset = open_dataset(address)
    assert isinstance(dataset, StreamedDataset)
    _assert_same(dataset, folder)


def test_a_folder_is_opened_as_it_is(folder: Path) -> None:
    assert type(open_dataset(folder)) is Dataset
    assert type(open_dataset(f"file://{folder}")) is Dataset


def test_each_run_is_fetched_once_whoever_reads_it(folder: Path) -> None:
    dataset, source = _open(folder)
    for epoch in range(3):
        order = epoch_order(dataset.image_sizes("train"), seed=0, epoch=epoch)
        with dataset.reading_ahead("train", order):
            for position in order:
                dataset.image(dataset.sample("train", int(position)))
    assert len(source.blobs) == len(set(source.blobs)) == 40
    again, second = _open(folder)
    _assert_same(again, folder)
    assert len(second.blobs) == 8  # val and test


def test_reading_ahead_fetches_before_it_is_asked(folder: Path) -> None:
    dataset, source = _open(folder)
    with dataset.reading_ahead("train", np.arange(40)):
        deadline = time.monotonic() + 30
        while len(source.blobs) < 40 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(source.blobs) == 40


def test_reading_ahead_stays_within_its_distance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionyard.data.streaming.read_ahead.AHEAD_BYTES", 1)
    dataset, source = _open(folder)
    with dataset.reading_ahead("train", np.arange(40)):
        time.sleep(0.3)
        assert 0 < len(source.blobs) < 10
        for position in range(40):
            dataset.image_bytes(dataset.sample("train", position))
    assert len(source.blobs) == 40


def test_a_cache_smaller_than_the_dataset_gives_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "WINDOW_BYTES", 1)
    monkeypatch.setattr(streamed, "AHEAD_BYTES", 1)
    dataset, source = _open(folder, limit_bytes=50_000)
    for _ in range(2):
        with dataset.reading_ahead("train", np.arange(40)):
            _assert_same(dataset, folder)
    assert len(source.blobs) > 80
    held = sum(path.stat().st_size for path in (folder.parent / "c/entries").iterdir())
    assert held <= 50_000


def test_a_cache_too_small_to_shuffle_in_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"VISIONYARD_CACHE_BYTES = 1000: set is shuffled among \d+ bytes"):
        _open(folder, limit_bytes=1000)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _alter(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _alter, _empty, Path.unlink], ids=["cut", "altered", "empty", "gone"])
def test_a_damaged_entry_is_fetched_again(folder: Path, damage: Callable[[Path], None]) -> None:
    dataset, source = _open(folder)
    _assert_same(dataset, folder)
    entries = sorted((folder.parent / "c/entries").iterdir())
    damage(entries[0])
    damage(entries[-1])
    source.blobs.clear()
    _assert_same(dataset, folder)
    assert 2 <= len(source.blobs) <= 12
    source.blobs.clear()
    _assert_same(dataset, folder)
    assert source.blobs == []


def test_a_dataset_altered_in_the_store_is_refused(folder: Path) -> None:
    dataset, _ = _open(folder)
    sample = dataset.sample("train", 5)
    shard = folder / "shards" / sample.blob.shard
    data = bytearray(shard.read_bytes())
    data[sample.blob.offset + 100] ^= 1
    shard.write_bytes(data)
    assert dataset.image_bytes(dataset.sample("train", 30))
    with pytest.raises(ArtifactError, match=f"set: {sample.key} has not the SHA-256 {sample.sha256}"):
        dataset.image_bytes(sample)


def test_a_shard_cut_short_in_the_store_is_named(folder: Path) -> None:
    dataset, _ = _open(folder)
    (folder / "shards/train-00000.tar").write_bytes(b"short")
    with (
        dataset.reading_ahead("train", np.arange(40)),
        pytest.raises(ArtifactError, match=r"train-00000\.tar: expected \d+ bytes at \d+, got \d+; the shard was cut"),
    ):
        dataset.image_bytes(dataset.sample("train", 0))


@pytest.mark.parametrize("blob", [Blob("train-00000.tar", 7, 10), Blob("other.tar", 0, 10)], ids=["offset", "shard"])
def test_bytes_that_the_index_does_not_know_are_refused(folder: Path, blob: Blob) -> None:
    dataset, _ = _open(folder)
    with pytest.raises(ArtifactError, match=f"{blob.shard}: the index knows nothing at offset {blob.offset}"):
        dataset.read(blob)


def test_a_missing_dataset_is_named(s3: str) -> None:
    with pytest.raises(StorageError, match=r"nothing/dataset\.json.*there is no such object"):
        open_dataset(f"{s3}/nothing")


def test_it_can_be_sent_to_another_process(folder: Path) -> None:
    dataset, _ = _open(folder)
    with dataset.reading_ahead("train", np.arange(40)):
        sent = pickle.loads(pickle.dumps(dataset))
    _assert_same(sent, folder)


def test_semantic_masks_are_streamed_too(tmp_path: Path, small_runs: None) -> None:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(20):
        image = random.integers(0, 255, (32, 40, 3)).astype(np.uint8)
        rows.append({"split": "train", "image": image, "class_ids": [0, 1], "semantic_mask": image[..., 0] % 2})
    folder = write_dataset(tmp_path / "semantic", task="semantic_segmentation", classes=["a", "b"], rows=rows)
    (dataset, source), local = _open(folder), Dataset(folder)
    for ours, expected in zip(dataset.samples("train"), local.samples("train"), strict=True):
        np.testing.assert_array_equal(dataset.semantic_mask(ours), local.semantic_mask(expected))
        np.testing.assert_array_equal(dataset.image(ours), local.image(expected))
    assert len(source.blobs) == 40


def test_a_store_that_starts_again_in_the_middle_is_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weed").mkdir()
    server = Seaweed(tmp_path / "weed")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        s3_client(server.endpoint).make_bucket("test")
        upload_folder(folder, "s3://test/set")
        dataset = open_dataset("s3://test/set")
        monkeypatch.setattr("visionyard.data.streaming.read_ahead.AHEAD_BYTES", 1)
        monkeypatch.setattr(streamed, "_PAUSE_S", 0.1)
        with dataset.reading_ahead("train", np.arange(40)):  # type: ignore[attr-defined]
            dataset.image_bytes(dataset.sample("train", 0))
            server.kill()
            back = threading.Timer(0.5, server.start)
            back.start()
            _assert_same(dataset, folder)
            back.join()
    finally:
        server.stop()


class _Failing(FolderCopy):
    """A store that is away for some reads, or refuses."""

    def __init__(self, address: str, *, is_transient: bool) -> None:
        super().__init__(address)
        self.failing_count = 3
        self._is_transient = is_transient

    def read_many(self, blobs: Sequence[Blob]) -> list[bytes]:
        self.failing_count -= 1
        if self.failing_count >= 0:
            raise StorageError("the connection was refused", is_transient=self._is_transient)
        return super().read_many(blobs)


@pytest.mark.parametrize(
    ("is_transient", "patience_s", "is_read"),
    [(True, 60.0, True), (True, -1.0, False), (False, 60.0, False)],
    ids=["away for a while", "away for too long", "refused"],
)
def test_a_store_that_is_away_is_waited_for(
    is_transient: bool, patience_s: float, is_read: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "_PATIENCE_S", patience_s)
    monkeypatch.setattr(streamed, "_PAUSE_S", 0.01)
    source = _Failing(f"file://{folder}", is_transient=is_transient)
    dataset = StreamedDataset(source, name="set", cache=NodeCache(folder.parent / "c", limit_bytes=1 << 30))
    if is_read:
        _assert_same(dataset, folder)
        assert source.failing_count < 0
        return
    with pytest.raises(StorageError, match="the connection was refused"):
        dataset.image_bytes(dataset.sample("train", 0))
    assert source.failing_count == 2


@pytest.mark.usefixtures("quick_retries")
def test_the_address_is_shown_without_its_secrets() -> None:
    with pytest.raises(StorageError) as caught:
        open_dataset("http://user:secret@127.0.0.1:9/set")
    assert "secret" not in str(caught.value)
