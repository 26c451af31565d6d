"""Pack items into the shards and the index of a dataset version, one image at a time."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.data.artifacts import SHARDS
from visionyard.data.dataset import INDEX, index_schema
from visionyard.data.items import SPLITS, Split, Task
from visionyard.data.records import Record
from visionyard.data.shards import Blob, ShardWriter, read_blob
from visionyard.digests import canonical_json, digest_of_lines

# Rows held before they are written: some hundred kilobytes.
_BATCH_ROWS = 2048


def pack(
    records: Sequence[Record],
    splits: Sequence[Split],
    folders: Sequence[Path],
    target: Path,
    *,
    task: Task,
    classes: Sequence[str],
    shard_bytes: int,
) -> str:
    """Write `shards/` and `index.parquet`.

    Args:
        records: Sorted by split (train, val, test) and key.
        splits: The split of each.
        folders: The input artifacts that hold the images.
        target: The dataset's working folder.
        task: What is learnt.
        classes: Names in the order of their ids.
        shard_bytes: Size that a shard does not pass unless by a single item.

    Returns:
        The digest of the content.

    Raises:
        OSError: The disk is full (ENOSPC), or a file cannot be written.
    """
    lines: list[bytes] = []
    with _IndexWriter(target / INDEX) as index:
        position = 0
        for split in SPLITS:
            with ShardWriter(target / SHARDS, split, shard_bytes=shard_bytes) as shards:
                while position < len(records) and splits[position] == split:
                    record = records[position]
                    image_name = f"{record.key}.{record.extension}"
                    label = canonical_json(_label(record, classes)).encode()
                    data = read_blob(folders[record.artifact] / SHARDS, record.blob)
                    blob = shards.add_together([(image_name, data), (f"{record.key}.json", label)])[0]
                    index.add(_row(record, split, image_name, blob))
                    lines.append(hashlib.sha256(_item_line(record, split, classes).encode()).digest())
                    position += 1
                    events.progress(position, len(records), unit="image", label="packing")
    lines.sort()
    head = canonical_json({"task": task, "classes": list(classes)})
    return digest_of_lines([head, *(line.hex() for line in lines)])


def _boxes(record: Record) -> list[list[float]] | None:
    values = record.xyxy
    return None if values is None else [list(values[start : start + 4]) for start in range(0, len(values), 4)]


def _label(record: Record, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "class_ids": list(record.class_ids),
        "class_names": [classes[class_id] for class_id in record.class_ids],
        "boxes": _boxes(record),
        "group": record.group,
        "source": record.source,
        "timestamp_s": record.timestamp_s,
        "width": record.width,
        "height": record.height,
        "sha256": record.sha256.hex(),
    }


def _item_line(record: Record, split: Split, classes: Sequence[str]) -> str:
    names = [classes[class_id] for class_id in record.class_ids]
    return canonical_json([record.sha256.hex(), names, _boxes(record), split, record.group])


def _row(record: Record, split: Split, image_name: str, blob: Blob) -> dict[str, Any]:
    return {
        "key": record.key,
        "split": split,
        "group": record.group,
        "source": record.source,
        "timestamp_s": record.timestamp_s,
        "width": record.width,
        "height": record.height,
        "sha256": record.sha256.hex(),
        "class_ids": record.class_ids,
        "boxes": record.xyxy,
        "shard": blob.shard,
        "image_name": image_name,
        "image_offset": blob.offset,
        "image_size": blob.size,
    }


class _IndexWriter:
    """Write rows to Parquet in batches."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = index_schema()
        self._table = pa.Table
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> "_IndexWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self._rows.append(row)
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
