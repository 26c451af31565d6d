"""Pull a dataset version into a folder: verified item by item, and going on where an earlier pull stopped."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionyard import events, storage
from visionyard.atomic import flush_to_disk, resumable_folder
from visionyard.data.artifacts import SHARDS
from visionyard.data.dataset import DATASET, INDEX
from visionyard.data.versions.manifest import ShardPlan, sha256
from visionyard.data.versions.reading import checked_item, read_stored
from visionyard.data.versions.remote import RemoteVersion, open_version
from visionyard.digests import sha256_file
from visionyard.errors import ConfigError


@dataclass(frozen=True)
class PullReport:
    """What a pull did.

    Attributes:
        version: Id of the version.
        folder: Where it lies.
        dataset_digest: The digest of the dataset.
        item_count: Items of the version.
        fetched_item_count: Items that were not there from an earlier pull.
        fetched_bytes: Of these items.
    """

    version: str
    folder: str
    dataset_digest: str
    item_count: int
    fetched_item_count: int
    fetched_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def pull(
    address: str, target: Path, *, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> PullReport:
    """Restore a dataset version to a folder, which appears whole or not at all.

    The bytes of the shards are those that were pushed. What an earlier, interrupted pull of the same version wrote
    beside the target is held to its hashes and not fetched again.

    Args:
        address: `<store>@<name>:<tag>` or `<store>@<id>`.
        target: A new folder, or one that already holds this version.
        on_progress: Called with the bytes of items that are whole on disk, and those of all.

    Raises:
        ConfigError: There is no such version, or the target holds something else.
        ArtifactError: The store holds damaged data; names the object.
        StorageError: The store refused or timed out.
        OSError: The disk is full (ENOSPC).
    """
    version = open_version(address)
    fetched = _Fetched(int(version.manifest.sizes[: version.manifest.contents.item_count].sum()), on_progress)
    if target.exists():
        if not _holds(target, version):
            raise ConfigError(f"{target}: holds something else than {storage.shown(address)}; name a new folder")
    else:
        with resumable_folder(target, of=version.id) as work:
            _restore(version, work, fetched)
    return PullReport(
        version=version.id,
        folder=str(target),
        dataset_digest=str(version.manifest.contents.dataset.get("digest", "")),
        item_count=version.manifest.contents.item_count,
        fetched_item_count=fetched.item_count,
        fetched_bytes=fetched.byte_count,
    )


class _Fetched:
    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        self._total = total
        self._on_progress = on_progress
        self._done = 0
        self.item_count = 0
        self.byte_count = 0

    def add(self, size: int, *, is_new: bool) -> None:
        """Count an item that is whole on disk."""
        self._done += size
        self.item_count += is_new
        self.byte_count += size if is_new else 0
        events.progress(self._done, self._total, unit="byte", label=f"pulling, {self.byte_count} bytes fetched")
        self._on_progress(self._done, self._total)


def _holds(folder: Path, version: RemoteVersion) -> bool:
    """Return whether a folder is this version, by its small files and the sizes of its shards."""
    contents = version.manifest.contents
    files = [(folder / file.path, file) for file in contents.files]
    if contents.schema is not None and not (folder / INDEX).is_file():
        return False
    first = 0
    for shard in contents.shards:
        path = folder / SHARDS / shard.name
        if not path.is_file() or path.stat().st_size != _shard_bytes(version, shard, first):
            return False
        first += shard.item_count
    return all(path.is_file() and sha256_file(path) == file.sha256 for path, file in files)


def _restore(version: RemoteVersion, work: Path, fetched: _Fetched) -> None:
    contents = version.manifest.contents
    if contents.schema is not None:
        version.write_index(work / INDEX)
        flush_to_disk(work / INDEX)
    hashes = version.item_hashes()
    first = 0
    for shard in contents.shards:
        path = work / SHARDS / shard.name
        path.parent.mkdir(parents=True, exist_ok=True)
        _restore_shard(version, shard, first, hashes, path, fetched)
        first += shard.item_count
    for file in sorted(contents.files, key=lambda file: file.path == DATASET):  # the file that makes it a dataset last
        path = work / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for chunk in version.file_chunks(file.path):
                stream.write(chunk)
        flush_to_disk(path)


def _restore_shard(
    version: RemoteVersion, shard: ShardPlan, first: int, hashes: Any, path: Path, fetched: _Fetched
) -> None:
    positions = range(first, first + shard.item_count)
    size = _shard_bytes(version, shard, first)
    missing = list(positions)
    if path.exists() and path.stat().st_size == size:
        missing = list(_missing_items(version, positions, hashes, path, fetched))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.ftruncate(descriptor, size)  # what is never written reads as zeros, as the end of a tar is
        for position, stored in read_stored(version.store, version.manifest, missing):
            expected = hashes[position].tobytes()
            data = checked_item(version.store, version.manifest, position, stored, expected)
            _write_at(descriptor, data, version.item_start(position))
            fetched.add(len(data), is_new=True)
        os.fsync(descriptor)  # the folder is renamed when all are whole, and its name says that it is
    finally:
        os.close(descriptor)


def _missing_items(
    version: RemoteVersion, positions: range, hashes: Any, path: Path, fetched: _Fetched
) -> Iterator[int]:
    """Yield the items that an earlier pull did not bring."""
    with path.open("rb") as stream:
        for position in positions:
            data = stream.read(int(version.manifest.sizes[position]))
            if sha256(data) == hashes[position].tobytes():
                fetched.add(len(data), is_new=False)
            else:
                yield position


def _shard_bytes(version: RemoteVersion, shard: ShardPlan, first: int) -> int:
    last = first + shard.item_count - 1
    return version.item_start(last) + int(version.manifest.sizes[last]) + shard.tail_bytes


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
