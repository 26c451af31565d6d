"""The dataset version of a table on disk, open for reading."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from visionyard.data.artifacts import read_manifest
from visionyard.data.dataset import DATASET, DatasetVersion
from visionyard.data.items import LearnedTask, Split
from visionyard.data.tables.ingest import GROUP, KIND, SPLIT, TABLE
from visionyard.data.tables.rows import BATCH_ROWS
from visionyard.data.tables.schema import MANIFEST_KEY, TableSchema
from visionyard.digests import digest_of
from visionyard.errors import ArtifactError
from visionyard.transforms import Row


@dataclass(frozen=True)
class TableSample:
    """One row of a dataset version, as a `visionyard.data.dataset.Example`.

    Attributes:
        key: Its split and its place in it.
        split: train, val or test.
        group: What the group column says, or a name made of what the row holds.
        row: The values that a model learns from.
        class_ids: (1,) int64, of the target; (0,) for a regression.
        xyxy: (0, 4) float64: nothing is found in a row.
        timestamp_s: None.
        width: None.
        height: None.
    """

    key: str
    split: Split
    group: str
    row: Row
    class_ids: np.ndarray
    xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    timestamp_s: float | None = None
    width: int | None = None
    height: int | None = None

    @property
    def source(self) -> str:
        """What people call it."""
        return self.key

    @property
    def sha256(self) -> str:
        """Of the values that a model learns from."""
        return digest_of(dict(self.row))


class TableDataset(DatasetVersion):
    """A dataset version of a table; nothing of it is in memory but what is asked for."""

    item = "row"
    batch_size = 1024

    def __init__(self, folder: Path) -> None:
        """Open a dataset version.

        Raises:
            ArtifactError: It is incomplete, of an unknown version, or no table.
        """
        self.folder = folder
        self.info = read_manifest(folder, "dataset", name=DATASET)
        if self.info.get("task") != KIND:
            raise ArtifactError(f"{folder}: expected a table, its task is {self.info.get('task')}")
        if not (folder / TABLE).is_file():
            raise ArtifactError(f"{folder / TABLE}: the table is missing; run prepare_dataset again")
        self.schema = TableSchema.from_json(self.info[MANIFEST_KEY])
        self.digest = self.info["digest"]
        self.task = "classification"
        # In the order of their ids; empty for a regression, which no plugin learns, so that `task` is not asked for.
        self.classes = list(self.schema.target.values)
        self._tables: dict[Split, Any] = {}

    @property
    def learns(self) -> LearnedTask:
        """What is learnt of its target."""
        return "table_classification" if self.schema.task == "classification" else "table_regression"

    @property
    def is_leaky(self) -> bool:
        """Whether a group, or a row's features, stand in two splits."""
        return bool(self.info["leak"]["is_leaky"])

    def count(self, split: Split) -> int:
        """Return the number of rows in a split."""
        return int(self.info["item_counts"][split])

    def sample(self, split: Split, position: int) -> TableSample:
        """Return one row of a split, positions from 0; the split is in memory from then on.

        Raises:
            IndexError: The split has no such position.
        """
        if not 0 <= position < self.count(split):
            raise IndexError(f"{split} has {self.count(split)} rows, asked for position {position}")
        if split not in self._tables:
            self._tables[split] = self.table(split)
        (values,) = self._tables[split].slice(position, 1).to_pylist()
        return self._sample(values, split, position)

    def samples(self, split: Split) -> Iterator[TableSample]:
        """Yield the rows of a split in order."""
        position = 0
        for batch in self.batches(split):
            for values in batch.to_pylist():
                yield self._sample(values, split, position)
                position += 1

    def content(self, sample: TableSample) -> Row:
        """Return the values of a row that a model learns from."""
        return sample.row

    def content_bytes(self, sample: TableSample) -> bytes:
        """Return them as a JSON text."""
        return json.dumps(sample.row, ensure_ascii=False).encode()

    def batches(self, split: Split, *, batch_rows: int = BATCH_ROWS, columns: list[str] | None = None) -> Iterator[Any]:
        """Yield the rows of a split as Arrow record batches.

        Args:
            split: Which.
            batch_rows: Most rows of a batch.
            columns: Which; None: those of the schema, `_split` and `_group`.
        """
        from pyarrow import compute as pc
        from pyarrow import parquet

        read = None if columns is None else [*columns, SPLIT]
        with parquet.ParquetFile(self.folder / TABLE) as file:
            for batch in file.iter_batches(batch_size=batch_rows, columns=read):
                held = batch.filter(pc.equal(batch.column(SPLIT), split))
                if held.num_rows:
                    yield held if columns is None else held.select(columns)

    def table(self, split: Split) -> Any:
        """Return all rows of a split as one Arrow table."""
        import pyarrow as pa
        from pyarrow import parquet

        with parquet.ParquetFile(self.folder / TABLE) as file:
            return pa.Table.from_batches(self.batches(split), schema=file.schema_arrow)

    def class_ids(self, batch: Any) -> np.ndarray:
        """Return the class of each row of a batch, (N,) int64."""
        return np.array([self._id_of[name] for name in batch.column(self.schema.target.name).to_pylist()], np.int64)

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {name: class_id for class_id, name in enumerate(self.classes)}

    @cached_property
    def _features(self) -> list[str]:
        return [column.name for column in self.schema.features]

    def _sample(self, values: dict[str, Any], split: Split, position: int) -> TableSample:
        label = values[self.schema.target.name]
        ids = [self._id_of[label]] if self.classes else []
        row = {name: values[name] for name in self._features}
        return TableSample(f"{split}-{position:08d}", split, values[GROUP], row, np.array(ids, np.int64))
