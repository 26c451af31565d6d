"""Pack items into the shards and the index of a dataset version, one image at a time."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.data.artifacts import SHARDS, read_manifest
from visionyard.data.class_masks import decode_class_mask, encode_class_mask, id_table, looked_up
from visionyard.data.dataset import INDEX, index_schema
from visionyard.data.items import SPLITS, Split, Task
from visionyard.data.records import Record
from visionyard.data.shards import Blob, ShardWriter, read_blob
from visionyard.digests import canonical_json, digest_of_lines, sha256_bytes
from visionyard.errors import ArtifactError

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
    recoded = _Recoder(folders, classes) if task == "semantic_segmentation" else None
    with _IndexWriter(target / INDEX) as index:
        position = 0
        for split in SPLITS:
            with ShardWriter(target / SHARDS, split, shard_bytes=shard_bytes) as shards:
                while position < len(records) and splits[position] == split:
                    record = records[position]
                    mask = recoded.mask(record) if recoded else None
                    extra = _extra_label(record, mask)
                    index.add(_packed(record, split, folders, shards, _label(record, classes, extra), mask))
                    lines.append(hashlib.sha256(_item_line(record, split, classes, extra).encode()).digest())
                    position += 1
                    events.progress(position, len(records), unit="image", label="packing")
    lines.sort()
    head = canonical_json({"task": task, "classes": list(classes)})
    return digest_of_lines([head, *(line.hex() for line in lines)])


def _boxes(record: Record) -> list[list[float]] | None:
    values = record.xyxy
    return None if values is None else [list(values[start : start + 4]) for start in range(0, len(values), 4)]


class _Recoder:
    """Gives the semantic masks the ids of the dataset's classes, which may be other than the artifact's."""

    def __init__(self, folders: Sequence[Path], classes: Sequence[str]) -> None:
        self._folders = folders
        # Frames of clips have no masks: their manifest has no classes.
        listed = read_manifest(folders[0], "sources").get("classes") or ()
        self._table = id_table(listed, classes)

    def mask(self, record: Record) -> bytes:
        """Return a record's mask as PNG."""
        if record.mask_blob is None:
            raise ArtifactError(f"{record.place}: has no mask among masks; run the stage that wrote it again")
        data = read_blob(self._folders[record.artifact] / SHARDS, record.mask_blob)
        return encode_class_mask(looked_up(self._table, decode_class_mask(data)))


def _extra_label(record: Record, mask: bytes | None) -> dict[str, Any]:
    """Return what only some items' labels have, so that those of the others stay as they were without it."""
    extra: dict[str, Any] = {}
    if record.masks is not None:
        size = [record.height, record.width]
        extra["masks"] = [counts and {"size": size, "counts": counts} for counts in record.masks]
    if record.is_crowd is not None:
        extra["is_crowd"] = list(record.is_crowd)
    if mask is not None:
        extra["mask_sha256"] = sha256_bytes(mask)
    return extra


def _packed(
    record: Record,
    split: Split,
    folders: Sequence[Path],
    shards: ShardWriter,
    label: dict[str, Any],
    mask: bytes | None,
) -> dict[str, Any]:
    """Add the files of an item to a shard and return its row of the index."""
    image_name = f"{record.key}.{record.extension}"
    data = read_blob(folders[record.artifact] / SHARDS, record.blob)
    files = [(image_name, data), (f"{record.key}.json", canonical_json(label).encode())]
    if mask is not None:
        files.append((f"{record.key}.mask.png", mask))
    blobs = shards.add_together(files)
    mask_place = {"mask_offset": blobs[2].offset, "mask_size": blobs[2].size} if mask is not None else {}
    return {**_row(record, split, image_name, blobs[0]), **mask_place}


def _label(record: Record, classes: Sequence[str], extra: dict[str, Any]) -> dict[str, Any]:
    return {
        **extra,
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


def _item_line(record: Record, split: Split, classes: Sequence[str], extra: dict[str, Any]) -> str:
    names = [classes[class_id] for class_id in record.class_ids]
    line = [record.sha256.hex(), names, _boxes(record), split, record.group]
    return canonical_json([*line, extra] if extra else line)


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
        "masks": record.masks,
        "is_crowd": record.is_crowd,
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
