"""A split's images as files, for libraries that read nothing else: unpacked once a node, linked for each training."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from visionyard import events
from visionyard.data.dataset import Dataset, Sample
from visionyard.data.items import Split
from visionyard.data.streaming.node_cache import NodeCache
from visionyard.data.streaming.streamed import StreamedDataset

# What a file system without hard links, a border between two, or a file with too many of them answers.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def place_images(dataset: Dataset, split: Split, path_of: Callable[[Sample], Path]) -> None:
    """Put every image of a split into a file of its own.

    The files lie in the node's cache, under the dataset's digest; further trainings and ranks on the node find them
    there. What the trainer gets are hard links, which stay when the cache is evicted, or copies where there are none.
    A split that the cache has no room for is unpacked for this training alone.

    Args:
        dataset: In a folder or in a store.
        split: Of which.
        path_of: Where the image of an item goes; the folders are there.

    Raises:
        ArtifactError: An image is missing or damaged.
        OSError: The disk is full (ENOSPC).
        StorageError: The store refused or timed out.
    """
    name, size_bytes = f"images-{dataset.digest[:32]}-{split}", int(dataset.image_sizes(split).sum())

    def fill(folder: Path) -> None:
        _unpack(dataset, split, lambda sample: folder / _file_name(sample))

    with NodeCache.of_node().folder_entry(name, size_bytes, fill) as folder:
        if folder is None:
            _unpack(dataset, split, path_of)
            return
        for sample in dataset.samples(split):
            _place(dataset, sample, folder / _file_name(sample), path_of(sample))


def _file_name(sample: Sample) -> str:
    return sample.key + Path(sample.image_name).suffix


def _unpack(dataset: Dataset, split: Split, path_of: Callable[[Sample], Path]) -> None:
    count = dataset.count(split)
    ahead = dataset.reading_ahead(split, np.arange(count)) if isinstance(dataset, StreamedDataset) else nullcontext()
    with ahead:
        for done, sample in enumerate(dataset.samples(split), start=1):
            path_of(sample).write_bytes(dataset.image_bytes(sample))
            events.progress(done, count, unit="image", label=f"unpacking {split}")


def _place(dataset: Dataset, sample: Sample, source: Path, target: Path) -> None:
    # A power cut may have left it empty, and Ultralytics "restores" some JPEG files in place.
    if not source.exists() or source.stat().st_size != sample.blob.size:
        target.write_bytes(dataset.image_bytes(sample))
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
