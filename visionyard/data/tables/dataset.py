"""The dataset version of a table on disk, open for reading."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionyard.data.artifacts import read_manifest
from visionyard.data.dataset import DATASET
from visionyard.data.items import Split
from visionyard.data.tables.ingest import KIND, SPLIT, TABLE
from visionyard.data.tables.rows import BATCH_ROWS
from visionyard.data.tables.schema import MANIFEST_KEY, TableSchema
from visionyard.errors import ArtifactError


class TableDataset:
    """A dataset version of a table; nothing of it is in memory but what is asked for."""

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
        self.digest: str = self.info["digest"]

    @property
    def classes(self) -> list[str]:
        """Classes of the target in the order of their ids; empty for a regression."""
        return list(self.schema.target.values)

    @property
    def is_leaky(self) -> bool:
        """Whether a group, or a row's features, stand in two splits."""
        return bool(self.info["leak"]["is_leaky"])

    def count(self, split: Split) -> int:
        """Return the number of rows in a split."""
        return int(self.info["item_counts"][split])

    def batches(self, split: Split, *, batch_rows: int = BATCH_ROWS) -> Iterator[Any]:
        """Yield the rows of a split as Arrow record batches: the columns of the schema, `_split` and `_group`."""
        from pyarrow import compute as pc
        from pyarrow import parquet

        with parquet.ParquetFile(self.folder / TABLE) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                held = batch.filter(pc.equal(batch.column(SPLIT), split))
                if held.num_rows:
                    yield held

    def table(self, split: Split) -> Any:
        """Return all rows of a split as one Arrow table."""
        import pyarrow as pa
        from pyarrow import parquet

        with parquet.ParquetFile(self.folder / TABLE) as file:
            return pa.Table.from_batches(self.batches(split), schema=file.schema_arrow)
