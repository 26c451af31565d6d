"""Labelled images wherever they lie: in a dataset version, or in what ingest and extract_frames made of a source.

What looks at data (`visionyard.data.inspection`) and what writes it in other formats (`visionyard.data.writers`) reads
this and nothing else, so both work on a version and on raw input alike.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from visionyard.data.artifacts import IMAGES, SHARDS, read_manifest, read_problems
from visionyard.data.dataset import DATASET, Dataset, Sample
from visionyard.data.items import SPLITS, Box, Item, Problem, Task, read_json_lines
from visionyard.data.media import EXTENSIONS, HEAD_BYTES, sniff_media_type
from visionyard.data.shards import Blob, read_blob
from visionyard.errors import ArtifactError, DataError
from visionyard.transforms import decode_image

_STAGES = ("sources", "frames")


@dataclass(frozen=True)
class LabelledImage:
    """One image with its label.

    Attributes:
        item: Its facts; `published_split` is its split, where it has one.
        read: Returns the bytes of one of its blobs.
    """

    item: Item
    read: Callable[[Blob], bytes]

    @property
    def is_labelled(self) -> bool:
        """Whether anyone said what it shows."""
        return not (self.item.boxes is None and self.item.class_name is None and self.item.mask_blob is None)

    def image_bytes(self) -> bytes:
        """Return the stored image file."""
        return self.read(self.item.blob)

    def mask_bytes(self) -> bytes:
        """Return the PNG of its semantic mask.

        Raises:
            ArtifactError: It has none.
        """
        if self.item.mask_blob is None:
            raise ArtifactError(f"{self.item.key}: it has no semantic mask")
        return self.read(self.item.mask_blob)

    def pixels(self) -> np.ndarray:
        """Return the image, (H, W, 3) uint8 RGB.

        Raises:
            DataError: Its bytes cannot be decoded; names the item.
        """
        try:
            return decode_image(self.image_bytes())
        except DataError as error:
            raise DataError(f"{self.item.source} ({self.item.key}): {error}") from None


@dataclass(frozen=True)
class LabelledSet:
    """Labelled images that can be gone through again and again; none of them is held.

    Attributes:
        label: What messages call it.
        task: What the labels are for.
        classes: Names in the order of their ids.
        item_count: Images, with and without label.
        problems: What was found wrong on the way here.
        images: Yields them, by split and key in a version, in the source's order else.
    """

    label: str
    task: Task
    classes: tuple[str, ...]
    item_count: int
    problems: tuple[Problem, ...]
    images: Callable[[], Iterator[LabelledImage]]


def is_version(folder: Path) -> bool:
    """Return whether a folder is a dataset version."""
    return (folder / DATASET).is_file()


def version_images(folder: Path) -> LabelledSet:
    """Return the images of a dataset version.

    Raises:
        ArtifactError: It is incomplete or of an unknown version.
    """
    dataset = Dataset(folder)
    return LabelledSet(
        label=str(folder),
        task=dataset.task,
        classes=tuple(dataset.classes),
        item_count=sum(dataset.count(split) for split in SPLITS),
        problems=tuple(read_problems(folder)),
        images=lambda: _version_images(dataset),
    )


def _version_images(dataset: Dataset) -> Iterator[LabelledImage]:
    for split in SPLITS:
        for sample in dataset.samples(split):
            yield LabelledImage(_item(sample, dataset.task, dataset.classes), dataset.read)


def _item(sample: Sample, task: Task, classes: Sequence[str]) -> Item:
    boxes = None
    if task == "detection":
        boxes = tuple(
            Box(classes[class_id], (left, top, right, bottom), mask, is_crowd)
            for class_id, (left, top, right, bottom), mask, is_crowd in zip(
                sample.class_ids.tolist(), sample.xyxy.tolist(), sample.masks, sample.is_crowd.tolist(), strict=True
            )
        )
    return Item(
        key=sample.key,
        source=sample.source,
        group=sample.group,
        sha256=sample.sha256,
        width=sample.width,
        height=sample.height,
        blob=sample.blob,
        class_name=classes[int(sample.class_ids[0])] if task == "classification" else None,
        boxes=boxes,
        timestamp_s=sample.timestamp_s,
        published_split=sample.split,
        mask_blob=sample.mask_blob,
    )


def staged_images(sources: Path, frames: Path, *, label: str) -> LabelledSet:
    """Return the images of the folders that ingest and extract_frames wrote.

    Args:
        sources: Of the ingest stage.
        frames: Of the extract_frames stage.
        label: What messages call the source.

    Raises:
        ArtifactError: A folder is incomplete or of an unknown version.
    """
    folders = (sources, frames)
    manifests = [read_manifest(folder, name) for folder, name in zip(folders, _STAGES, strict=True)]
    return LabelledSet(
        label=label,
        task=manifests[0]["task"],
        classes=tuple(manifests[0]["classes"]),
        item_count=manifests[0]["image_count"] + manifests[1]["frame_count"],
        problems=tuple(problem for folder in folders for problem in read_problems(folder)),
        images=lambda: _staged_images(folders),
    )


def _staged_images(folders: Sequence[Path]) -> Iterator[LabelledImage]:
    for folder in folders:
        read = partial(read_blob, folder / SHARDS)
        for values in read_json_lines(folder / IMAGES):
            yield LabelledImage(Item.from_json(values), read)


def extension_of(data: bytes) -> str:
    """Return the extension, such as `.jpg`, that an image's bytes ask for.

    Raises:
        DataError: They are no image of a known format.
    """
    media_type = sniff_media_type(data[:HEAD_BYTES])
    if media_type is None or media_type not in EXTENSIONS:
        raise DataError(f"not an image of a known format: {data[:8]!r}")
    return EXTENSIONS[media_type][0]
