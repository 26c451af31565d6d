"""A dataset folder at an address: what a pipeline left in its artifact store, read without fetching its shards."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionyard.data.artifacts import SHARDS, read_manifest
from visionyard.data.dataset import DATASET, INDEX
from visionyard.data.shards import Blob
from visionyard.errors import ArtifactError
from visionyard.storage import fetch_file, join, read_bytes, shown

# Neighbours with less than this between them are read together: the labels in a shard lie between the images.
_GAP_BYTES = 64 << 10


class FolderCopy:
    """A dataset folder in a store; holds the address, no connection."""

    def __init__(self, address: str) -> None:
        """Read what the dataset says of itself.

        Args:
            address: Of the folder that holds `dataset.json`.

        Raises:
            ArtifactError: It is of an unknown schema version.
            StorageError: There is none, or the store refused or timed out.
        """
        self._address = address
        with tempfile.TemporaryDirectory() as folder:
            fetch_file(join(address, DATASET), Path(folder) / DATASET)
            self.info: dict[str, Any] = read_manifest(Path(folder), "dataset", name=DATASET)

    def index(self) -> Any:
        """Return the index, an Arrow table.

        Raises:
            StorageError: There is none, or the store refused or timed out.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(pa.BufferReader(read_bytes(join(self._address, INDEX)))) as file:
            return file.read()

    def read_many(self, blobs: Sequence[Blob]) -> list[bytes]:
        """Return the bytes of each blob; neighbours come with one ranged read.

        Raises:
            ArtifactError: A shard is shorter than the index says.
            StorageError: One is missing, or the store refused or timed out.
        """
        found: dict[Blob, bytes] = {}
        for shard, start, size, group in _joined(blobs):
            address = f"{join(self._address, SHARDS)}/{shard}"
            data = memoryview(read_bytes(address, offset=start, size=size))
            if len(data) != size:
                raise ArtifactError(
                    f"{shown(address)}: expected {size} bytes at {start}, got {len(data)}; the shard was cut short; "
                    "copy the dataset there again"
                )
            found |= {blob: bytes(data[blob.offset - start :][: blob.size]) for blob in group}
        return [found[blob] for blob in blobs]


def _joined(blobs: Sequence[Blob]) -> list[tuple[str, int, int, list[Blob]]]:
    """Return the ranges to read, each as shard, start, size and the blobs within."""
    ranges: list[tuple[str, int, int, list[Blob]]] = []
    for blob in sorted(blobs, key=lambda blob: (blob.shard, blob.offset)):
        if ranges:
            shard, start, size, group = ranges[-1]
            if shard == blob.shard and blob.offset - start - size <= _GAP_BYTES:
                end = max(start + size, blob.offset + blob.size)
                ranges[-1] = (shard, start, end - start, [*group, blob])
                continue
        ranges.append((blob.shard, blob.offset, blob.size, [blob]))
    return ranges
