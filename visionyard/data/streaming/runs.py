"""The runs of a dataset version: what one read fetches from the store, and where in it each image lies."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionyard.data.shards import Blob
from visionyard.data.streaming.order import run_numbers
from visionyard.digests import digest_of_lines
from visionyard.errors import ArtifactError


class Runs:
    """Runs of neighbours in key order, numbered through all splits; a run's bytes are its images and masks, closed up.

    Attributes:
        of_position: (N,) int64, the run of each row of the index.
        sizes: (R,) int64, bytes of each run.
    """

    def __init__(self, table: Any, bounds: Sequence[tuple[int, int]], *, content: str) -> None:
        """Cut the index into runs.

        Args:
            table: The index, an Arrow table.
            bounds: First row and end of each split.
            content: Names what the index alone does not tell apart: the dataset's digest where it has masks.
        """
        self._content = content
        self._hashes = table.column("sha256")
        shards = table.column("shard").combine_chunks().dictionary_encode()
        self._shard_names: list[str] = shards.dictionary.to_pylist()
        self._shards = shards.indices.to_numpy()
        self._images = _extents(table, "image")
        self._masks = _extents(table, "mask")
        self._names: dict[int, str] = {}

        self.of_position = np.zeros(len(self._shards), dtype=np.int64)
        count = 0
        for start, end in sorted(bounds):
            self.of_position[start:end] = run_numbers(self._images[1][start:end]) + count
            count = int(self.of_position[end - 1]) + 1
        item_sizes = self._images[1] + self._masks[1]
        self._starts = np.cumsum(item_sizes) - item_sizes
        self._first = np.searchsorted(self.of_position, np.arange(count + 1))
        self.sizes = np.add.reduceat(item_sizes, self._first[:-1]) if count else np.zeros(0, np.int64)
        # Rows by shard and offset, for finding a blob's row.
        self._sorted = np.lexsort((self._images[0], self._shards))
        self._shard_bounds = np.searchsorted(self._shards[self._sorted], np.arange(len(self._shard_names) + 1))
        self._shard_codes = {name: code for code, name in enumerate(self._shard_names)}

    def find(self, blob: Blob) -> tuple[int, int]:
        """Return the run that holds a blob, and the blob's first byte in it.

        Raises:
            ArtifactError: It is neither an image nor a mask of the index.
        """
        code = self._shard_codes.get(blob.shard)
        if code is not None:
            rows = self._sorted[self._shard_bounds[code] : self._shard_bounds[code + 1]]
            place = int(np.searchsorted(self._images[0][rows], blob.offset, side="right")) - 1
            row = int(rows[place])
            run = int(self.of_position[row])
            within = int(self._starts[row] - self._starts[self._first[run]])
            if place >= 0 and blob.offset == self._images[0][row]:
                return run, within
            if place >= 0 and blob.offset == self._masks[0][row]:
                return run, within + int(self._images[1][row])
        raise ArtifactError(f"{blob.shard}: the index knows nothing at offset {blob.offset}; open the dataset again")

    def blobs(self, run: int) -> list[Blob]:
        """Return the images and masks of a run in the order in which its bytes hold them."""
        blobs = []
        for row in range(int(self._first[run]), int(self._first[run + 1])):
            shard = self._shard_names[self._shards[row]]
            blobs.append(Blob(shard, int(self._images[0][row]), int(self._images[1][row])))
            if self._masks[1][row]:
                blobs.append(Blob(shard, int(self._masks[0][row]), int(self._masks[1][row])))
        return blobs

    def name(self, run: int) -> str:
        """Return a name that only runs of the same content share, whatever version they are of."""
        if run not in self._names:
            hashes = self._hashes.slice(self._first[run], self._first[run + 1] - self._first[run]).to_pylist()
            self._names[run] = digest_of_lines([self._content, *hashes])
        return self._names[run]


def _extents(table: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) int64 offsets and sizes of a kind of blob; -1 and 0 where there is none."""
    columns = []
    for name, absent in ((f"{what}_offset", -1), (f"{what}_size", 0)):
        if name in table.column_names:
            columns.append(table.column(name).fill_null(absent).to_numpy().astype(np.int64))
        else:
            columns.append(np.full(table.num_rows, absent, dtype=np.int64))
    return columns[0], columns[1]
