"""Open a dataset version in a folder, whatever it holds."""

from pathlib import Path

from visionyard.data.artifacts import read_manifest
from visionyard.data.dataset import DATASET, Dataset, DatasetVersion
from visionyard.data.tables.dataset import TableDataset
from visionyard.data.tables.ingest import KIND as TABLE_KIND


def open_folder(folder: Path) -> DatasetVersion:
    """Return the dataset version of a folder: of images, or of a table.

    Raises:
        ArtifactError: It is incomplete or of an unknown version.
    """
    is_table = read_manifest(folder, "dataset", name=DATASET).get("task") == TABLE_KIND
    return TableDataset(folder) if is_table else Dataset(folder)
