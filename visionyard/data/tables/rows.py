"""The rows of a table as a few numbers each: enough to divide them, to compare them and to make the digest.

A row is held as 41 bytes; while rows are compared it costs about 300 (benchmarks/container_ingest.py), so that ten
million rows take 3 GB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from visionyard.data.items import SPLITS
from visionyard.data.tables.schema import Column, TableSchema
from visionyard.digests import canonical_json

# Rows of a batch are Python values while they are hashed.
BATCH_ROWS = 16_384
_HASH_BYTES = 16
NO_SPLIT = -1
# Of the columns that are looked at together; texts take some 50 bytes each.
_CELLS = 1_000_000


@dataclass(frozen=True)
class Rows:
    """All rows of a table, in its order.

    Attributes:
        features: (N,) uint64, a hash of the values that a model learns from.
        contents: (N, 2) uint64, a hash of all values.
        targets: (N,) int64 class ids, or float64 numbers.
        group_ids: (N,) int64, of the groups: those with a name, in the order of their names, then rows of their own.
        names: Of the first groups.
        own_features: (M,) uint64, the features of the groups without a name: rows that are alike.
        published: (N,) int8, place in `SPLITS`, or `NO_SPLIT`.
    """

    features: np.ndarray
    contents: np.ndarray
    targets: np.ndarray
    group_ids: np.ndarray
    names: Sequence[str]
    own_features: np.ndarray
    published: np.ndarray

    def group(self, group_id: int) -> str:
        """Return the name of a group; that of a row of its own is made of what it holds."""
        if group_id < len(self.names):
            return self.names[group_id]
        return f"row-{int(self.own_features[group_id - len(self.names)]):016x}"

    def units(self) -> np.ndarray:
        """Return (N,) int64, the same number for rows that must stand in one split: of a group, or with like features.

        Numbers run from 0 in the order of the groups, so they do not depend on the order of the rows.
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
    pieces: dict[str, list[np.ndarray]] = {
        name: [] for name in ("features", "contents", "targets", "named", "published")
    }
    id_of: dict[str, int] = {}
    for batch in batches(path):
        splits = batch.column(split_column).to_pylist()
        given = [None] * batch.num_rows if group is None else batch.column(group.name).to_pylist()
        ids = [-1 if name is None else id_of.setdefault(str(name), len(id_of)) for name in given]
        pieces["named"].append(np.array(ids, np.int64))
        pieces["published"].append(
            np.array([NO_SPLIT if split is None else SPLITS.index(split) for split in splits], np.int8)
        )
        pieces["targets"].append(_targets(batch.column(schema.target.name), schema))
        pieces["features"].append(_row_hashes(batch, [column.name for column in schema.features])[:, 0])
        pieces["contents"].append(_row_hashes(batch, [column.name for column in schema.columns]))
    joined = {name: np.concatenate(arrays) for name, arrays in pieces.items()}
    names = sorted(id_of)
    order = np.empty(len(names), dtype=np.int64)
    order[[id_of[name] for name in names]] = np.arange(len(names))
    is_own = joined["named"] < 0
    group_ids = np.empty(len(is_own), dtype=np.int64)
    group_ids[~is_own] = order[joined["named"][~is_own]]
    own_features, places = np.unique(joined["features"][is_own], return_inverse=True)
    group_ids[is_own] = len(names) + places
    return Rows(
        features=joined["features"],
        contents=joined["contents"],
        targets=joined["targets"],
        group_ids=group_ids,
        names=names,
        own_features=own_features,
        published=joined["published"],
    )


def batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield the record batches of a stored table, with the columns asked for only, all of them when None."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def column_groups(columns: Sequence[Column], row_count: int) -> Iterator[Sequence[Column]]:
    """Yield columns that are read together, as many as memory allows, at least one.

    To open a file takes time for each of its columns: to open one of thousands for each of them takes minutes.
    """
    count = max(1, _CELLS // max(1, row_count))
    for start in range(0, len(columns), count):
        yield columns[start : start + count]


def _row_hashes(batch: Any, names: Sequence[str]) -> np.ndarray:
    """Return (N, 2) uint64, a hash of the values of each row."""
    columns = [batch.column(name).to_pylist() for name in names]
    rows = zip(*columns) if columns else iter([()] * batch.num_rows)
    digests = b"".join(sha256(canonical_json(row).encode()).digest()[:_HASH_BYTES] for row in rows)
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _targets(values: Any, schema: TableSchema) -> np.ndarray:
    if schema.task == "regression":
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    id_of = {name: class_id for class_id, name in enumerate(schema.target.values)}
    return np.array([id_of[name] for name in values.to_pylist()], dtype=np.int64)
