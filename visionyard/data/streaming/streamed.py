"""A dataset version read straight from the object store, with the reading interface of one in a folder."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from visionyard import events
from visionyard.data.dataset import Dataset, DatasetVersion, Sample
from visionyard.data.items import Split
from visionyard.data.opening import open_folder
from visionyard.data.shards import Blob
from visionyard.data.streaming.folder_copy import FolderCopy
from visionyard.data.streaming.node_cache import LIMIT_VARIABLE, NodeCache
from visionyard.data.streaming.order import WINDOW_BYTES
from visionyard.data.streaming.read_ahead import AHEAD_BYTES, ReadAhead
from visionyard.data.streaming.runs import Runs
from visionyard.data.tables.ingest import KIND as TABLE_KIND
from visionyard.data.versions import is_version_address, open_version
from visionyard.digests import sha256_bytes
from visionyard.errors import ArtifactError, ConfigError, StorageError
from visionyard.storage import is_local, local_path, shown

# A store that is moved to another node is back within minutes; beside the tries that each read makes by itself.
_PATIENCE_S = 600.0
_PAUSE_S = 5.0


class Source(Protocol):
    """Where a streamed dataset comes from: a version in a store, or a dataset folder at an address."""

    @property
    def info(self) -> dict[str, Any]:
        """The values of dataset.json."""

    def index(self) -> Any:
        """Return the index, an Arrow table."""

    def read_many(self, blobs: Sequence[Blob]) -> list[bytes]:
        """Return the bytes of each blob, whole; called from several threads."""


class StreamedDataset(Dataset):
    """A dataset version in a store, open for reading; holds the index in memory, and runs of images on the disk.

    An image is read out of its run in the node's cache, where it is, and else with one ranged read that fetches the
    run. Each image is held to its hash when it is read: a damaged run is fetched again.
    """

    def __init__(self, source: Source, *, name: str, cache: NodeCache) -> None:
        """Open a dataset version.

        Args:
            source: Where it comes from.
            name: Names it in messages.
            cache: Where its runs are kept.

        Raises:
            ArtifactError: It is damaged or of an unknown version.
            ConfigError: The cache is too small to shuffle in.
            StorageError: The store refused or timed out.
        """
        # Not Dataset's: that one reads them from a folder.
        self.folder = Path(name)
        self._name = name
        self.info = source.info
        self.task = self.info["task"]
        self.classes = self.info["classes"]
        self.digest = self.info["digest"]
        self._table = source.index()
        self._source = source
        self._cache = cache
        has_masks = "mask_offset" in self._table.column_names and self._table.column("mask_offset").null_count == 0
        self._runs = Runs(self._table, list(self._split_bounds.values()), content=self.digest if has_masks else "")
        self._ahead: ReadAhead | None = None
        needed_bytes = min(int(self._runs.sizes.sum()), WINDOW_BYTES + 2 * AHEAD_BYTES)
        if cache.limit_bytes < needed_bytes:
            raise ConfigError(
                f"{LIMIT_VARIABLE} = {cache.limit_bytes}: {name} is shuffled among {needed_bytes} bytes on the local "
                f"disk; set it to {needed_bytes} or more, better to the size of the dataset"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; threads stay here."""
        return {**self.__dict__, "_ahead": None}

    @contextmanager
    def reading_ahead(self, split: Split, positions: np.ndarray) -> Iterator[None]:
        """Fetch in the background, some way ahead, what is about to be read.

        Args:
            split: Of which.
            positions: (N,) int64, in the order in which they will be read.
        """
        start, _ = self._split_bounds.get(split, (0, 0))
        runs, first_uses = np.unique(self._runs.of_position[start + positions], return_index=True)
        runs = runs[np.argsort(first_uses)]
        self._ahead = ahead = ReadAhead(runs.tolist(), self._runs.sizes[runs], self._prefetch)
        try:
            yield
        finally:
            ahead.close()
            self._ahead = None

    def read(self, blob: Blob) -> bytes:
        """Return an image or a mask.

        Raises:
            ArtifactError: The index knows no such bytes, or the store holds others.
            StorageError: The store refused or timed out.
        """
        run, offset = self._runs.find(blob)
        if self._ahead is not None:
            self._ahead.reached(run)
        name = self._runs.name(run)
        while True:
            data = self._cache.read(name, offset, blob.size)
            if data is None:
                fetched = self._cache.add(name, lambda: self._fetch_patiently(run))
                if fetched is None:
                    continue
                data = fetched[offset : offset + blob.size]
            elif len(data) < blob.size:
                self._cache.drop(name)  # cut short, by a full disk or a power cut
                continue
            return data

    def image_bytes(self, sample: Sample) -> bytes:
        """Return the stored image file of an item, held to its hash.

        Raises:
            ArtifactError: The store holds other bytes.
            StorageError: The store refused or timed out.
        """
        data = self.read(sample.blob)
        if sha256_bytes(data) != sample.sha256:
            self._cache.drop(self._runs.name(self._runs.find(sample.blob)[0]))
            data = self.read(sample.blob)
        if sha256_bytes(data) != sample.sha256:
            raise ArtifactError(
                f"{self._name}: {sample.key} has not the SHA-256 {sample.sha256} that the index tells of; the dataset "
                "in the store was altered; push it again"
            )
        return data

    def _fetch_patiently(self, run: int) -> bytes:
        """Fetch a run from a store that may be away for a while: a training of hours should outlive its restart."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._fetch(run)
            except StorageError as error:
                if not error.is_transient or time.monotonic() > give_up_at:
                    raise
                events.warn(f"{error}; waiting for the store")
                time.sleep(_PAUSE_S)

    def _fetch(self, run: int) -> bytes:
        return b"".join(self._source.read_many(self._runs.blobs(run)))

    def _prefetch(self, run: int) -> None:
        self._cache.add(self._runs.name(run), lambda: self._fetch(run), is_waiting=False)


def open_dataset(address: str | Path) -> DatasetVersion:
    """Open a dataset version where it lies: a folder, a version in a store, or a dataset folder in a store.

    Args:
        address: A path, `<store>@<name>:<tag>`, `<store>@<id>`, or the address of a dataset folder.

    Raises:
        ArtifactError: It is incomplete, damaged or of an unknown version, or a table in a store.
        ConfigError: The address names no version, or the node's cache is too small.
        StorageError: There is none, or the store refused or timed out.
    """
    text = str(address)
    source: Source
    if is_version_address(text):
        source = open_version(text)
    elif is_local(text):
        return open_folder(local_path(text))
    else:
        source = FolderCopy(text)
    if source.info.get("task") == TABLE_KIND:
        raise ArtifactError(f"{shown(text)}: a table is not read from afar; copy its dataset version to a folder first")
    return StreamedDataset(source, name=shown(text), cache=NodeCache.of_node())
