"""The result files of a batch: JSON lines or Parquet, written record by record, there whole or not at all."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from visionyard import storage

FileFormat = Literal["jsonl", "parquet"]
# Rows are gathered into row groups; a crowded picture has some 100 boxes of 100 bytes.
_ROW_GROUP_COUNT = 500
_SHOWN_FAILURES = 1000


@contextmanager
def writing_part(address: str, file_format: FileFormat) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that appends a record to a part; the part is there when the block ends well."""
    with storage.writing(address) as stream:
        if file_format == "jsonl":
            yield lambda record: _write_line(stream, record)
        else:
            with _parquet_rows(stream) as add:
                yield add


def _write_line(stream: BinaryIO, record: dict[str, Any]) -> None:
    stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")


@contextmanager
def _parquet_rows(stream: BinaryIO) -> Iterator[Callable[[dict[str, Any]], None]]:
    import pyarrow as pa
    import pyarrow.parquet

    schema = parquet_schema()
    rows: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def add(record: dict[str, Any]) -> None:
            rows.append(record)
            if len(rows) == _ROW_GROUP_COUNT:
                flush()

        yield add
        flush()


def parquet_schema() -> Any:
    """Return the columns of a Parquet part; what a record lacks is null."""
    import pyarrow as pa

    mask = pa.struct([("rle", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())]))])
    score = [("class", pa.string()), ("class_id", pa.int32()), ("confidence", pa.float64())]
    points = pa.list_(pa.list_(pa.float64()))
    box = [*score, ("xyxy", pa.list_(pa.float64())), ("mask", mask), ("keypoints", points)]
    columns: list[tuple[str, Any]] = [
        ("path", pa.string()),
        ("split", pa.string()),
        ("timestamp_s", pa.float64()),
        ("frame_index", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("boxes", pa.list_(pa.struct(box))),
        *score,
        ("top", pa.list_(pa.struct(score))),
        ("error", pa.string()),
    ]
    return pa.schema(columns)


def read_part(address: str, file_format: FileFormat) -> Iterator[dict[str, Any]]:
    """Yield the records of a part, without holding all of them.

    Raises:
        StorageError: There is no such part, or the store refused.
    """
    with tempfile.TemporaryDirectory(prefix="visionyard-") as folder:
        path = storage.fetch_file(address, Path(folder) / "part")
        if file_format == "jsonl":
            with path.open(encoding="utf-8") as stream:
                yield from map(json.loads, stream)
            return
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROW_GROUP_COUNT):
                for row in batch.to_pylist():
                    record = _without_nulls(row)
                    if "boxes" in record:
                        record["boxes"] = [_without_nulls(box) for box in record["boxes"]]
                    yield record


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


class Tally:
    """Counts records as they are written or read again.

    Attributes:
        picture_count: Images and frames that were looked at.
        failures: Path and error of items that could not be read, the first 1000.
        failed_count: All of them.
        class_counts: Boxes of each class, or pictures of it.
    """

    def __init__(self) -> None:
        self.picture_count = 0
        self.failed_count = 0
        self.failures: list[dict[str, str]] = []
        self.class_counts: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record."""
        if "error" in record:
            self.failed_count += 1
            if len(self.failures) < _SHOWN_FAILURES:
                self.failures.append({"path": record["path"], "error": record["error"]})
            return
        self.picture_count += 1
        if "boxes" in record:
            self.class_counts.update(box["class"] for box in record["boxes"])
        else:
            self.class_counts[record["class"]] += 1
