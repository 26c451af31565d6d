"""The rows of a table as a few numbers each: enough to divide them, to compare them and to make the digest.

A row costs 50 bytes of memory beside its group's name, so ten million rows take half a gigabyte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from visionyard.data.items import SPLITS
from visionyard.data.tables.schema import TableSchema
from visionyard.digests import canonical_json

_HASH_BYTES = 16
NO_SPLIT = -1


@dataclass(frozen=True)
class Rows:
    """All rows of a table, in its order.

    Attributes:
        features: (N,) uint64, a hash of the values that a model learns from.
        contents: (N, 2) uint64, a hash of all values.
        targets: (N,) int64 class ids, or float64 numbers.
        group_ids: (N,) int64, place in `groups`.
        groups: Names of the groups, sorted; a row without one is named by the hash of its features.
        published: (N,) int8, place in `SPLITS`, or `NO_SPLIT`.
    """

    features: np.ndarray
    contents: np.ndarray
    targets: np.ndarray
    group_ids: np.ndarray
    groups: Sequence[str]
    published: np.ndarray

    def units(self) -> np.ndarray:
        """Return (N,) int64, the same number for rows that must stand in one split: of a group, or with like features.

        Numbers run from 0 in the order of the groups' names, so they do not depend on the order of the rows.
        """
        _, kinds = np.unique(self.features, return_inverse=True)
        labels = self.group_ids.copy()
        while True:
            spread = _least(_least(labels, kinds), self.group_ids)
            if (spread == labels).all():
                return np.unique(labels, return_inverse=True)[1].astype(np.int64)
            labels = spread


def _least(labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return for each row the least label of its part."""
    least = np.full(int(parts.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, parts, labels)
    return np.asarray(least[parts])


def read_rows(path: Path, schema: TableSchema, split_column: str) -> Rows:
    """Read a stored table once, in batches.

    Args:
        path: The Parquet file.
        schema: Of its columns.
        split_column: The column with the published split.
    """
    group = schema.of_role("group")
    features: list[bytes] = []
    contents: list[bytes] = []
    targets: list[np.ndarray] = []
    published: list[np.ndarray] = []
    names: list[str] = []
    for batch in batches(path):
        splits = batch.column(split_column).to_pylist()
        published.append(np.array([NO_SPLIT if split is None else SPLITS.index(split) for split in splits], np.int8))
        targets.append(_targets(batch.column(schema.target.name), schema))
        given = [None] * batch.num_rows if group is None else batch.column(group.name).to_pylist()
        of_features = _row_hashes(batch, [column.name for column in schema.features])
        features += [digest[:8] for digest in of_features]
        contents += _row_hashes(batch, [column.name for column in schema.columns])
        names += [
            f"row-{digest.hex()}" if name is None else str(name)
            for name, digest in zip(given, of_features, strict=True)
        ]
    groups, group_ids = np.unique(np.array(names), return_inverse=True)
    return Rows(
        features=np.frombuffer(b"".join(features), dtype=">u8"),
        contents=np.frombuffer(b"".join(contents), dtype=">u8").reshape(-1, 2),
        targets=np.concatenate(targets),
        group_ids=group_ids.astype(np.int64),
        groups=groups.tolist(),
        published=np.concatenate(published),
    )


def batches(path: Path) -> Iterator[Any]:
    """Yield the record batches of a stored table."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches()


def _row_hashes(batch: Any, names: Sequence[str]) -> list[bytes]:
    columns = [batch.column(name).to_pylist() for name in names]
    rows = zip(*columns) if columns else [()] * batch.num_rows
    return [sha256(canonical_json(row).encode()).digest()[:_HASH_BYTES] for row in rows]


def _targets(values: Any, schema: TableSchema) -> np.ndarray:
    if schema.task == "regression":
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    id_of = {name: class_id for class_id, name in enumerate(schema.target.values)}
    return np.array([id_of[name] for name in values.to_pylist()], dtype=np.int64)
