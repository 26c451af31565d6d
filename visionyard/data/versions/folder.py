"""A dataset folder as a push sees it: shards that are runs of items, and all other files."""

import base64
import itertools
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionyard.data.artifacts import SHARDS, read_manifest
from visionyard.data.dataset import DATASET, INDEX
from visionyard.data.versions.manifest import ShardPlan
from visionyard.data.versions.pages import SHARD_COLUMN
from visionyard.digests import sha256_bytes
from visionyard.errors import ArtifactError
from visionyard.storage.local import walk_files

_IMAGE_OFFSET = "image_offset"
# POSIX.1-2001, pax interchange format: where a header holds size and type, and the types that describe the next file.
_BLOCK_BYTES = tarfile.BLOCKSIZE
_SIZE_FIELD, _TYPE_FIELD = slice(124, 136), slice(156, 157)
_HEADERS_OF_THE_NEXT = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True)
class LocalVersion:
    """A dataset version in a folder.

    Attributes:
        folder: Where it lies.
        info: The values of dataset.json.
        table: The index, a pyarrow.Table; None where the dataset has none.
        row_group_rows: Rows of a group of index.parquet; None without an index.
        schema: Its Arrow schema in base64, as Arrow itself writes it into the file.
        shards: In the order of the rows.
        starts: (N,) int64, where each item begins in its shard.
        ends: (N,) int64, the byte behind it.
        files: Paths below the folder of what is neither the index nor a shard of it, sorted.
    """

    folder: Path
    info: dict[str, Any]
    table: Any
    row_group_rows: int | None
    schema: str | None
    shards: tuple[ShardPlan, ...]
    starts: Any
    ends: Any
    files: tuple[str, ...]

    def size_bytes(self) -> int:
        """Return the bytes of all files."""
        names = [*self.files, *(f"{SHARDS}/{shard.name}" for shard in self.shards)]
        if self.table is not None:
            names.append(INDEX)
        return sum((self.folder / name).stat().st_size for name in names)

    def items(self) -> Iterator[bytes]:
        """Yield the bytes of each item in the order of the rows: its files with their headers in the tar.

        Raises:
            ArtifactError: An image does not have its SHA-256 of the index, or a shard is cut short.
        """
        position = 0
        images = self._images()
        for shard in self.shards:
            with (self.folder / SHARDS / shard.name).open("rb") as stream:
                for _ in range(shard.item_count):
                    size = int(self.ends[position] - self.starts[position])
                    data = stream.read(size)
                    if len(data) != size:
                        raise ArtifactError(f"{stream.name}: was cut short while it was read; nothing was pushed")
                    self._check_image(data, *next(images), int(self.starts[position]), stream.name)
                    yield data
                    position += 1
                _check_tail(stream.read(), shard, self.folder)

    def _images(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield key, SHA-256, offset and size of each image."""
        rows = self.table.select(["key", "sha256", _IMAGE_OFFSET, "image_size"])
        for batch in rows.to_batches(max_chunksize=2048):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    @staticmethod
    def _check_image(item: bytes, key: str, expected: str, offset: int, size: int, start: int, shard: str) -> None:
        digest = sha256_bytes(item[offset - start : offset - start + size])
        if digest != expected:
            raise ArtifactError(
                f"{shard}: the image of {key} has SHA-256 {digest}, expected {expected} of {INDEX}; the shard is "
                "damaged, run prepare_dataset again"
            )


def read_folder(folder: Path) -> LocalVersion:
    """Look at a dataset folder.

    Raises:
        ArtifactError: It is no dataset, incomplete, or its index does not fit its shards.
    """
    info = read_manifest(folder, "dataset", name=DATASET)
    table, row_group_rows, schema = _read_index(folder / INDEX)
    paths = [path.relative_to(folder).as_posix() for path in walk_files(folder)]
    if table is None or SHARD_COLUMN not in table.column_names or _IMAGE_OFFSET not in table.column_names:
        none = np.zeros(0, np.int64)
        return LocalVersion(folder, info, None, None, None, (), none, none, tuple(paths))
    shards, starts, ends = _items_of_shards(folder, table)
    taken = {INDEX, *(f"{SHARDS}/{shard.name}" for shard in shards)}
    files = tuple(path for path in paths if path not in taken)
    return LocalVersion(folder, info, table, row_group_rows, schema, shards, starts, ends, files)


def _read_index(path: Path) -> tuple[Any, int | None, str | None]:
    if not path.exists():
        return None, None, None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not read_table, which imports pandas for a table of plain columns: a second in every stage.
        with pq.ParquetFile(path) as file:
            groups = file.metadata.num_row_groups
            rows = file.metadata.row_group(0).num_rows if groups else None
            table = file.read()
            # Not that of the table, whose fields carry numbers that writing it again would keep.
            schema = (file.metadata.metadata or {}).get(b"ARROW:schema") or base64.b64encode(table.schema.serialize())
            return table, rows, schema.decode()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path}: not a readable index ({error}); run prepare_dataset again") from None


def _items_of_shards(folder: Path, table: Any) -> tuple[tuple[ShardPlan, ...], Any, Any]:
    """Return the shards and where the items of each begin and end."""
    names = table.column(SHARD_COLUMN).to_pylist()
    offsets = table.column(_IMAGE_OFFSET).to_numpy()
    changes = [0, *(number for number in range(1, len(names)) if names[number] != names[number - 1]), len(names)]
    shards: list[ShardPlan] = []
    starts, ends = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    for first, last in itertools.pairwise(changes):
        if first == last:
            continue
        path = folder / SHARDS / names[first]
        if any(shard.name == names[first] for shard in shards):
            raise ArtifactError(f"{path}: its rows do not follow each other in {INDEX}; run prepare_dataset again")
        headers, end = _headers(path)
        try:
            starts[first:last] = [headers[offset] for offset in offsets[first:last].tolist()]
        except KeyError as error:
            raise ArtifactError(
                f"{path}: {INDEX} names an image at byte {error}, where no file of the shard begins; run "
                "prepare_dataset again"
            ) from None
        starts[first] = 0
        ends[first:last] = [*starts[first + 1 : last], end]
        if (ends[first:last] <= starts[first:last]).any():
            raise ArtifactError(f"{path}: its items are not in the order of {INDEX}; run prepare_dataset again")
        shards.append(ShardPlan(names[first], last - first, path.stat().st_size - end))
    return tuple(shards), starts, ends


def _headers(path: Path) -> tuple[dict[int, int], int]:
    """Return where the header of each file of a tar begins, by where its bytes do, and where the last file ends.

    Two numbers of each header are enough; tarfile, which parses them all, took a quarter of a push's processor time.
    """
    found: dict[int, int] = {}
    offset, first = 0, None
    try:
        with path.open("rb") as stream:
            while (header := os.pread(stream.fileno(), _BLOCK_BYTES, offset))[:1] != b"\0":
                first = offset if first is None else first
                size = int(header[_SIZE_FIELD].rstrip(b"\0 "), 8)
                data = offset + _BLOCK_BYTES
                if header[_TYPE_FIELD] not in _HEADERS_OF_THE_NEXT:
                    found[data], first = first, None
                offset = data + -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
    except FileNotFoundError:
        raise ArtifactError(f"{path}: the shard is missing; run prepare_dataset again") from None
    except (ValueError, OSError) as error:
        raise ArtifactError(
            f"{path}: no readable header of a file at byte {offset} ({error}); the shard is damaged or cut short, run "
            "prepare_dataset again"
        ) from None
    return found, offset


def _check_tail(tail: bytes, shard: ShardPlan, folder: Path) -> None:
    if len(tail) != shard.tail_bytes or tail.strip(b"\0"):
        raise ArtifactError(
            f"{folder / SHARDS / shard.name}: expected {shard.tail_bytes} zeros behind its last item, got other bytes; "
            "the shard is damaged, run prepare_dataset again"
        )
