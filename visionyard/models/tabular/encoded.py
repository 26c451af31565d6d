"""Rows as the model's input, made once before a training and kept on the disk: reading one then takes a microsecond."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionyard import events
from visionyard.data.items import Split
from visionyard.data.tables import TableDataset
from visionyard.transforms import TablePreprocessing

_SPLITS: tuple[Split, ...] = ("train", "val")


@dataclass(frozen=True)
class EncodedRow:
    """One row.

    Attributes:
        values: (F,) float32, the model's input.
        class_ids: (1,) int64.
    """

    values: np.ndarray
    class_ids: np.ndarray


class EncodedRows:
    """The train and val split of a table, as `visionyard.models.Examples`; on the disk, whatever their number."""

    def __init__(self, dataset: TableDataset, preprocessing: TablePreprocessing, folder: Path) -> None:
        """Encode all rows, batch by batch.

        Args:
            dataset: The table.
            preprocessing: As fitted on it.
            folder: Where the files go; they take 4 bytes a value.

        Raises:
            OSError: The disk is full.
        """
        self._values: dict[Split, np.ndarray] = {}
        self._class_ids: dict[Split, np.ndarray] = {}
        total, done = sum(dataset.count(split) for split in _SPLITS), 0
        for split in _SPLITS:
            shape = (dataset.count(split), *preprocessing.input_shape)
            values = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, shape)
            class_ids, start = [np.empty(0, np.int64)], 0
            for batch in dataset.batches(split):
                rows = batch.select([column.name for column in preprocessing.columns]).to_pylist()
                values[start : start + len(rows)] = preprocessing.apply_all(rows)[0]
                class_ids.append(dataset.class_ids(batch))
                start += len(rows)
                done += len(rows)
                events.progress(done, total, unit="row", label="preparing rows")
            self._values[split], self._class_ids[split] = values, np.concatenate(class_ids)

    def count(self, split: Split) -> int:
        """Return the number of rows in a split."""
        return len(self._class_ids[split])

    def sample(self, split: Split, position: int) -> EncodedRow:
        """Return one row of a split, positions from 0."""
        return EncodedRow(np.array(self._values[split][position]), self._class_ids[split][position : position + 1])

    def content(self, sample: EncodedRow) -> np.ndarray:
        """Return the model's input for a row, (F,) float32."""
        return sample.values
