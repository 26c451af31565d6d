"""A dataset version read where it lies: any item is one ranged read of a pack, found from the manifest alone.

The manifest is the first request. An item's bytes are the second, with which the page that holds its hash arrives, so
that the first item of a fresh process takes two round trips and every further one whose page is known takes one.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from visionyard import storage
from visionyard.data.artifacts import SCHEMA_VERSION
from visionyard.data.dataset import DATASET, INDEX
from visionyard.data.shards import Blob
from visionyard.data.versions.layout import manifest_address, split_address
from visionyard.data.versions.manifest import Manifest, decode_manifest
from visionyard.data.versions.pages import Page, decode_page, item_starts, restore_columns
from visionyard.data.versions.reading import checked_item, checked_metadata, read_stored, shard_range
from visionyard.data.versions.references import resolve
from visionyard.errors import ArtifactError, ConfigError, StorageError

# Pages that become one part of the table: some two thousand rows.
_PAGE_BATCH = 64
# Chunks of a file read at once, at most 64 KiB each.
_CHUNK_BATCH = 256


def open_version(address: str) -> "RemoteVersion":
    """Open a dataset version of a store for reading: one request, two by a tag or by a shortened id.

    Args:
        address: `<store>@<name>:<tag>` or `<store>@<id>`.

    Raises:
        ConfigError: The address names no version, or the store has none of that name.
        ArtifactError: The manifest is damaged.
        StorageError: The store refused or timed out.
    """
    store, reference = split_address(address)
    return RemoteVersion(store, load_manifest(store, resolve(store, reference)))


def load_manifest(store: str, version_id: str) -> Manifest:
    """Read the manifest of a version.

    Raises:
        ConfigError: There is none.
        ArtifactError: It is damaged.
        StorageError: The store refused or timed out.
    """
    address = manifest_address(store, version_id)
    try:
        data = storage.read_bytes(address)
    except StorageError:
        if storage.exists(address):
            raise
        raise ConfigError(
            f"{storage.shown(store)}@{version_id[:12]}: there is no such version; `visionyard dataset list` shows what "
            "is there"
        ) from None
    return decode_manifest(data, address=address, version_id=version_id)


class RemoteVersion:
    """A dataset version in a store; holds the manifest and the hashes of items seen, never images or connections."""

    def __init__(self, store: str, manifest: Manifest) -> None:
        self.store = store
        self.manifest = manifest
        contents = manifest.contents
        self.id = contents.version_id
        self._item_count = contents.item_count
        counts = [shard.item_count for shard in contents.shards]
        self._starts = item_starts(manifest.sizes[: self._item_count], counts)
        first_items = np.cumsum([0, *counts]).tolist()
        self._shard_items = {
            shard.name: (first_items[number], first_items[number + 1]) for number, shard in enumerate(contents.shards)
        }
        self._page_ends = np.cumsum(contents.page_lengths, dtype=np.int64)
        self._hashes = np.zeros((self._item_count, 32), np.uint8)
        self._is_page_known = np.zeros(len(contents.page_lengths), bool)

    @cached_property
    def info(self) -> dict[str, Any]:
        """The values of dataset.json, as `Dataset.info`.

        Raises:
            ArtifactError: It is damaged or of an unknown schema version.
        """
        values = json.loads(self.read_file(DATASET))
        if values.get("schema_version") != SCHEMA_VERSION or values.get("artifact") != "dataset":
            raise ArtifactError(
                f"{self.store}@{self.id[:12]}: schema_version {values.get('schema_version')!r} of a "
                f"{values.get('artifact')!r} is not known, expected {SCHEMA_VERSION} of a 'dataset'"
            )
        return dict(values)

    @property
    def file_paths(self) -> tuple[str, ...]:
        """Files that are neither shards nor the index, sorted."""
        return tuple(file.path for file in self.manifest.contents.files)

    def read_file(self, path: str) -> bytes:
        """Return the content of a file that is neither a shard nor the index, whole and verified.

        Raises:
            ArtifactError: The version has no such file, or it is damaged.
            StorageError: The store refused or timed out.
        """
        return b"".join(self.file_chunks(path))

    def file_chunks(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in order, verified, some megabytes in memory; raises as `read_file`."""
        first = self._item_count + len(self.manifest.contents.page_lengths)
        for file in self.manifest.contents.files:
            if file.path == path:
                for start in range(first, first + file.chunk_count, _CHUNK_BATCH):
                    positions = range(start, min(start + _CHUNK_BATCH, first + file.chunk_count))
                    chunks = self._metadata(positions)
                    yield from (chunks[position] for position in positions)
                return
            first += file.chunk_count
        raise ArtifactError(f"{self.store}@{self.id[:12]}: has no file {path}; it has {', '.join(self.file_paths)}")

    def index(self) -> Any:
        """Return the index: a pyarrow.Table with the rows and columns of index.parquet.

        Raises:
            ArtifactError: There is none, or it is damaged.
            StorageError: The store refused or timed out.
        """
        import pyarrow as pa

        schema = self._schema()
        return pa.concat_tables([schema.empty_table(), *self._index_parts(schema)])

    def write_index(self, path: Path) -> None:
        """Write index.parquet, its rows grouped as when it was pushed; the same bytes from the same pyarrow.

        Raises:
            ArtifactError: The version has none, or it is damaged.
            StorageError: The store refused or timed out.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._schema()
        group_rows = self.manifest.contents.row_group_rows or self._item_count or 1
        waiting = schema.empty_table()
        with pq.ParquetWriter(path, schema) as writer:
            for part in self._index_parts(schema):
                waiting = pa.concat_tables([waiting, part])
                while waiting.num_rows >= group_rows:
                    writer.write_table(waiting.slice(0, group_rows).combine_chunks())
                    waiting = waiting.slice(group_rows)
            if waiting.num_rows:
                writer.write_table(waiting.combine_chunks())

    def item_start(self, position: int) -> int:
        """Return where an item begins in its shard."""
        return int(self._starts[position])

    def item_hashes(self) -> Any:
        """Return the SHA-256 of the items in the order of the rows, (N, 32) uint8; reads the pages not yet seen."""
        for numbers in self._page_batches(np.flatnonzero(~self._is_page_known).tolist()):
            self._load_pages(numbers)
        return self._hashes

    def read(self, blob: Blob) -> bytes:
        """Return the bytes of a blob, as `visionyard.data.shards.read_blob` does from a folder.

        Raises:
            ArtifactError: The version has no such bytes, or they are damaged; names the pack.
            StorageError: The store refused or timed out.
        """
        return self.read_many([blob])[0]

    def read_many(self, blobs: Sequence[Blob]) -> list[bytes]:
        """Return the bytes of each blob; neighbours in a pack come with one ranged read, all reads at once.

        Raises:
            ArtifactError: The version has no such bytes, or they are damaged; names the pack.
            StorageError: The store refused or timed out.
        """
        pieces = [self._pieces(blob) for blob in blobs]
        items = self._items({position for blob in pieces for position, _, _ in blob})
        return [b"".join(items[position][start:end] for position, start, end in blob) for blob in pieces]

    def _pieces(self, blob: Blob) -> list[tuple[int, int, int]]:
        """Return the items that a blob touches: position, first byte in the item, the one behind its last."""
        if blob.size == 0:
            return []
        try:
            first, last = self._shard_items[blob.shard]
            starts = self._starts[first:last]
            end = int(starts[-1] + self.manifest.sizes[last - 1])
            low, high = shard_range(starts, end, blob.offset, blob.size)
        except (KeyError, IndexError) as error:
            raise ArtifactError(
                f"{self.store}@{self.id[:12]}: has no {blob.size} bytes at {blob.offset} of {blob.shard} ({error})"
            ) from None
        pieces = []
        for number in range(low, high):
            start, size = int(starts[number]), int(self.manifest.sizes[first + number])
            pieces.append((first + number, max(0, blob.offset - start), min(size, blob.offset + blob.size - start)))
        return pieces

    def _items(self, positions: set[int]) -> dict[int, bytes]:
        """Return items, verified; pages that are not known yet are read in the same go."""
        pages = {int(number) for number in np.searchsorted(self._page_ends, sorted(positions), side="right")}
        unknown = {self._item_count + number for number in pages if not self._is_page_known[number]}
        stored = dict(read_stored(self.store, self.manifest, positions | unknown))
        for position in sorted(unknown):
            self._keep_page(position - self._item_count, stored[position])
        return {
            position: checked_item(
                self.store, self.manifest, position, stored[position], self._hashes[position].tobytes()
            )
            for position in positions
        }

    def _metadata(self, positions: Iterable[int]) -> dict[int, bytes]:
        return {
            position: checked_metadata(self.store, self.manifest, position, stored)
            for position, stored in read_stored(self.store, self.manifest, positions)
        }

    def _load_pages(self, numbers: Sequence[int]) -> list[Page]:
        stored = dict(read_stored(self.store, self.manifest, [self._item_count + int(number) for number in numbers]))
        return [self._keep_page(int(number), stored[self._item_count + int(number)]) for number in numbers]

    def _keep_page(self, number: int, stored: bytes) -> Page:
        page = decode_page(checked_metadata(self.store, self.manifest, self._item_count + number, stored))
        end = int(self._page_ends[number])
        self._hashes[end - len(page) : end] = np.frombuffer(b"".join(page.hashes), np.uint8).reshape(-1, 32)
        self._is_page_known[number] = True
        return page

    def _schema(self) -> Any:
        import pyarrow as pa

        text = self.manifest.contents.schema
        if text is None:
            raise ArtifactError(f"{self.store}@{self.id[:12]}: has no {INDEX}; it holds {', '.join(self.file_paths)}")
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))

    def _page_batches(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        return (numbers[start : start + _PAGE_BATCH] for start in range(0, len(numbers), _PAGE_BATCH))

    def _index_parts(self, schema: Any) -> Iterator[Any]:
        import pyarrow as pa

        shards = [shard.name for shard in self.manifest.contents.shards for _ in range(shard.item_count)]
        for numbers in self._page_batches(range(len(self.manifest.contents.page_lengths))):
            columns: dict[str, list[Any]] = {name: [] for name in schema.names}
            for number, page in zip(numbers, self._load_pages(numbers), strict=True):
                end = int(self._page_ends[number])
                first = end - len(page)
                for name, values in restore_columns(page, self._starts[first:end], shards[first:end]).items():
                    columns[name].extend(values)
            yield pa.Table.from_pydict(columns, schema=schema)
