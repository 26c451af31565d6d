"""The dataset version: an immutable, content-addressed set of labelled images in shards, divided into splits.

dataset.json    task, classes, digest, counts, splitting, leak certificate, health, lineage (below)
index.parquet   a row an item, sorted by split (train, val, test) and key (columns below)
problems.jsonl  every problem found on the way here
shards/<split>-NNNNN.tar   WebDataset convention: `key.jpg` (or `.png`, ...: as the bytes are) beside `key.json`, and
                `key.mask.png` for semantic segmentation: class ids, 255 where nobody said

| dataset.json | meaning |
| --- | --- |
| schema_version, artifact | 1, `dataset` |
| task, classes, digest | as `visionyard.data.items.Task`; names in the order of their ids; of the content |
| has_masks | whether boxes have masks: the data serve instance segmentation as well as detection |
| item_counts, group_counts | by split |
| class_counts | by split and class: `items` that show it, `boxes` of it |
| splitting | mode, val_fraction, test_fraction, seed, folds, fold, group_by, near_duplicates |
| leak | the leak certificate, `visionyard.data.leaks.audit.LeakCertificate` |
| health | problem_count, problems by code, unlabelled_count, background_count, other_class_boxes, other_class_items |
| groups, groups_left_out | rows of group, split, count, the first 2000; how many more there are |
| lineage | SHA-256 of the manifests of `sources` and `frames` |

| column | type | meaning |
| --- | --- | --- |
| key, split, group, source | string | as in `visionyard.data.items.Item` |
| timestamp_s | double, null for loose images | |
| width, height | int32 | pixels |
| sha256 | string | of the image bytes |
| class_ids | list<int32> | of the boxes in order, the one class, or those of the semantic mask; empty: it shows none |
| boxes | list<double>, null unless for detection | xyxy after xyxy, pixels |
| shard, image_name, image_offset, image_size | | where the image bytes lie |
| masks | list<string>, null when no box has one | of each box its mask as COCO's compressed run lengths, or null |
| is_crowd | list<bool>, null when no box is | of each box whether it is a crowd |
| mask_offset, mask_size | int64, null unless for semantic segmentation | where `key.mask.png` lies in the shard |

Index files written before the last three rows were added lack their columns, which then count as null. Unlabelled
images are counted, and not part of it. The digest is taken over the sorted item lines (image hash, label, split,
group; masks and crowds where there are any), the task and the classes: same content, same digest.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args

import numpy as np

from visionyard.data.artifacts import SHARDS, read_manifest
from visionyard.data.class_masks import decode_class_mask
from visionyard.data.items import LearnedTask, Split, Task
from visionyard.data.shards import Blob, read_blob
from visionyard.errors import ArtifactError, DataError
from visionyard.geometry import Mask
from visionyard.transforms import Content, decode_image

DATASET = "dataset.json"
INDEX = "index.parquet"


def index_schema() -> Any:
    """Return the Arrow schema of the index: its columns in the order documented above."""
    import pyarrow as pa

    columns: list[tuple[str, Any]] = [
        ("key", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
        ("timestamp_s", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("class_ids", pa.list_(pa.int32())),
        ("boxes", pa.list_(pa.float64())),
        ("shard", pa.string()),
        ("image_name", pa.string()),
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
        ("masks", pa.list_(pa.string())),
        ("is_crowd", pa.list_(pa.bool_())),
        ("mask_offset", pa.int64()),
        ("mask_size", pa.int64()),
    ]
    return pa.schema(columns)


@dataclass(frozen=True)
class Sample:
    """One row of a dataset version.

    Attributes:
        key: Unique in the dataset.
        split: train, val or test.
        group: The clip, scene or image it came from.
        source: Path of the image or clip within the source.
        timestamp_s: Time in its clip, None for a loose image.
        width: Pixels.
        height: Pixels.
        sha256: Of the image bytes.
        image_name: File name inside its shard.
        blob: Where the image bytes lie.
        class_ids: (N,) int64; of the boxes, the one class of the image, or those that its semantic mask shows.
        xyxy: (N, 4) float64 pixels; (0, 4) unless for detection.
        masks: Of each box, of the image's size; None for a box without one.
        is_crowd: (N,) bool, of each box; (0,) unless for detection.
        mask_blob: Where the semantic mask lies; None unless for semantic segmentation.
    """

    key: str
    split: Split
    group: str
    source: str
    timestamp_s: float | None
    width: int
    height: int
    sha256: str
    image_name: str
    blob: Blob
    class_ids: np.ndarray
    xyxy: np.ndarray
    masks: tuple[Mask | None, ...]
    is_crowd: np.ndarray
    mask_blob: Blob | None


class Example(Protocol):
    """One item of a dataset version, whatever it shows: a `Sample`, or a row of a table.

    Attributes:
        key: Unique in the dataset.
        split: train, val or test.
        group: Items of one group never stand in two splits.
        source: What people call it.
        timestamp_s: Time in its clip; None for what has none.
        width: Pixels; None for a row.
        height: Pixels; None for a row.
        sha256: Of what a model sees of it.
        class_ids: (N,) int64.
        xyxy: (N, 4) float64 pixels; (0, 4) unless for detection.
    """

    @property
    def key(self) -> str: ...  # noqa: D102 (the attributes are described above)
    @property
    def split(self) -> Split: ...  # noqa: D102
    @property
    def group(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def timestamp_s(self) -> float | None: ...  # noqa: D102
    @property
    def width(self) -> int | None: ...  # noqa: D102
    @property
    def height(self) -> int | None: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def class_ids(self) -> np.ndarray: ...  # noqa: D102
    @property
    def xyxy(self) -> np.ndarray: ...  # noqa: D102


class DatasetVersion(ABC):
    """What training, evaluation, export and benchmark read of a dataset version, of images and of tables alike.

    Attributes:
        item: What people call one of its items: image, row.
        batch_size: Items that are looked at together where speed is not at stake; images take memory, rows hardly.
        folder: Where it lies.
        info: The values of dataset.json.
        task: By what its labels are judged.
        classes: Class names in the order of their ids.
        digest: Of its content.
    """

    item: ClassVar[str]
    batch_size: ClassVar[int]
    folder: Path
    info: dict[str, Any]
    task: Task
    classes: list[str]
    digest: str

    @property
    @abstractmethod
    def learns(self) -> LearnedTask:
        """What a model plugin has to learn to be trained on it."""

    @abstractmethod
    def count(self, split: Split) -> int:
        """Return the number of items in a split."""

    @abstractmethod
    def sample(self, split: Split, position: int) -> Any:
        """Return one item of a split, an `Example`, positions from 0 in key order.

        Raises:
            IndexError: The split has no such position.
        """

    @abstractmethod
    def samples(self, split: Split) -> Iterator[Any]:
        """Yield the items of a split, each an `Example`, in key order."""

    @abstractmethod
    def content(self, sample: Any) -> Content:
        """Return what a model's preprocessing takes of an item: the pixels of an image, the values of a row.

        Raises:
            DataError: It cannot be read; names the item.
        """

    @abstractmethod
    def content_bytes(self, sample: Any) -> bytes:
        """Return an item as it is stored or sent: an image file, the JSON text of a row."""


class Dataset(DatasetVersion):
    """A dataset version of images on disk, open for reading; holds the index in memory, never the images."""

    item = "image"
    # A batch of 8 at 4000x3000 is 288 MB.
    batch_size = 8

    def __init__(self, folder: Path) -> None:
        """Open a dataset version.

        Raises:
            ArtifactError: It is incomplete, of an unknown version, or a table.
        """
        self.folder = folder
        self.info = read_manifest(folder, "dataset", name=DATASET)
        if self.info["task"] not in get_args(Task):
            raise ArtifactError(
                f"{folder}: made for {self.info['task']}, expected images, one of {', '.join(get_args(Task))}; what "
                "there is to see of a table, visionyard dataset inspect and check tell (in Python: TableDataset)"
            )
        self.task = self.info["task"]
        self.classes = self.info["classes"]
        self.digest = self.info["digest"]

    @property
    def learns(self) -> LearnedTask:
        """The task that its images are labelled for."""
        return self.task

    @property
    def is_leaky(self) -> bool:
        """Whether a group or an identical image stands in two splits, or near-duplicates beyond the leak budget."""
        return bool(self.info["leak"]["is_leaky"])

    @property
    def has_masks(self) -> bool:
        """Whether boxes have masks."""
        return bool(self.info.get("has_masks", False))

    @cached_property
    def _table(self) -> Any:
        import pyarrow.parquet

        path = self.folder / INDEX
        if not path.exists():
            raise ArtifactError(f"{path}: the index is missing; run prepare_dataset again")
        # Not read_table, which imports pandas for a table of plain columns: a second in every stage.
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.read()

    @cached_property
    def _split_bounds(self) -> dict[str, tuple[int, int]]:
        splits = self._table.column("split").to_pylist()
        bounds: dict[str, tuple[int, int]] = {}
        for position, split in enumerate(splits):
            start = bounds.get(split, (position, position))[0]
            bounds[split] = (start, position + 1)
        return bounds

    def count(self, split: Split) -> int:
        """Return the number of items in a split."""
        start, end = self._split_bounds.get(split, (0, 0))
        return end - start

    def image_sizes(self, split: Split) -> np.ndarray:
        """Return the bytes of each image of a split in key order, (N,) int64."""
        start, end = self._split_bounds.get(split, (0, 0))
        sizes: np.ndarray = self._table.column("image_size").slice(start, end - start).to_numpy()
        return sizes

    def sample(self, split: Split, position: int) -> Sample:
        """Return one item of a split, positions from 0 in key order.

        Raises:
            IndexError: The split has no such position.
        """
        start, end = self._split_bounds.get(split, (0, 0))
        if not 0 <= position < end - start:
            raise IndexError(f"{split} has {end - start} items, asked for position {position}")
        return _sample(self._table.slice(start + position, 1).to_pylist()[0])

    def samples(self, split: Split) -> Iterator[Sample]:
        """Yield the items of a split in key order."""
        start, end = self._split_bounds.get(split, (0, 0))
        for batch in self._table.slice(start, end - start).to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                yield _sample(row)

    def read(self, blob: Blob) -> bytes:
        """Return bytes of a shard; all of a dataset's images and masks are read through here."""
        return read_blob(self.folder / SHARDS, blob)

    def image_bytes(self, sample: Sample) -> bytes:
        """Return the stored image file of an item."""
        return self.read(sample.blob)

    def image(self, sample: Sample) -> np.ndarray:
        """Return the image of an item, (H, W, 3) uint8 RGB.

        Raises:
            DataError: Its bytes cannot be decoded; names the item.
        """
        try:
            return decode_image(self.image_bytes(sample))
        except DataError as error:
            raise DataError(f"{self.folder.name}/{sample.key}: {error}") from None

    def content(self, sample: Sample) -> np.ndarray:
        """Return the image of an item; see `image`."""
        return self.image(sample)

    def content_bytes(self, sample: Sample) -> bytes:
        """Return the stored image file of an item; see `image_bytes`."""
        return self.image_bytes(sample)

    def semantic_mask(self, sample: Sample) -> np.ndarray:
        """Return the class id of each pixel of an item, (H, W) uint8; 255 where nobody said.

        Raises:
            DataError: The item has no such mask, or its bytes cannot be decoded; names the item.
        """
        place = f"{self.folder.name}/{sample.key}"
        if sample.mask_blob is None:
            raise DataError(f"{place}: has no class for each pixel; the data are for {self.task}")
        try:
            return decode_class_mask(self.read(sample.mask_blob))
        except DataError as error:
            raise DataError(f"{place}: {error}") from None


def _sample(row: dict[str, Any]) -> Sample:
    boxes = row["boxes"]
    xyxy = np.asarray(boxes if boxes is not None else [], dtype=np.float64).reshape(-1, 4)
    size_hw = (row["height"], row["width"])
    masks = row.get("masks") or [None] * len(xyxy)
    has_semantic_mask = row.get("mask_offset") is not None
    return Sample(
        key=row["key"],
        split=row["split"],
        group=row["group"],
        source=row["source"],
        timestamp_s=row["timestamp_s"],
        width=row["width"],
        height=row["height"],
        sha256=row["sha256"],
        image_name=row["image_name"],
        blob=Blob(row["shard"], row["image_offset"], row["image_size"]),
        class_ids=np.asarray(row["class_ids"] or [], dtype=np.int64),
        xyxy=xyxy,
        masks=tuple(None if counts is None else Mask(size_hw, counts) for counts in masks),
        is_crowd=np.asarray(row.get("is_crowd") or [False] * len(xyxy), dtype=np.bool_),
        mask_blob=Blob(row["shard"], row["mask_offset"], row["mask_size"]) if has_semantic_mask else None,
    )
