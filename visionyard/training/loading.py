"""Batches of a dataset version for the training loop: order and augmentation follow from seed and epoch alone."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from visionyard.data.dataset import Dataset
from visionyard.data.items import Split
from visionyard.data.streaming import StreamedDataset, epoch_order, share
from visionyard.models import Examples
from visionyard.transforms import Content, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor


class Batches(IterableDataset["tuple[Tensor, Tensor]"]):
    """One split as batches of images, (B, 3, height, width) float32, or rows, (B, F), and class ids, (B,) int64.

    Each item comes once an epoch, whatever the number of ranks and loader processes. Its random draws depend on seed,
    epoch and its position alone, not on what was drawn before it, so that a training resumed in the middle of an epoch
    goes on exactly as it would have.

    Attributes:
        epoch: Which epoch the next pass is.
        done_count: Batches that the next pass leaves out, since they are done.
    """

    def __init__(
        self,
        dataset: Examples,
        split: Split,
        transform: "Callable[[Content], Tensor]",
        *,
        batch_size: int,
        seed: int,
        is_shuffled: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Read `split` of `dataset`, each image through `transform`; shuffled, or in key order.

        Of `world_size` readers, the one of this `rank` takes its share.
        """
        self._dataset = dataset
        self._split = split
        self._transform = transform
        self._batch_size = batch_size
        self._seed = seed
        self._is_shuffled = is_shuffled
        self._rank, self._world_size = rank, world_size
        self._count = len(share(np.arange(dataset.count(split)), rank=rank, world_size=world_size))
        self.epoch = 0
        self.done_count = 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        count = -(-self._count // self._batch_size)
        # Batch normalisation needs two images: a last one that is left alone goes into the batch before.
        return count - 1 if count > 1 and self._count % self._batch_size == 1 else count

    def __iter__(self) -> "Iterator[tuple[Tensor, Tensor]]":
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        batches = self._batches()[self.done_count :][first::step]
        if not batches:
            return
        count = self._dataset.count(self._split)
        seeds = np.random.SeedSequence((self._seed, self.epoch)).generate_state(count, np.uint64) >> np.uint64(1)
        with self._reading_ahead(np.concatenate(batches)):
            for batch in batches:
                yield self._load(batch.tolist(), seeds)

    def _reading_ahead(self, positions: np.ndarray) -> AbstractContextManager[None]:
        if isinstance(self._dataset, StreamedDataset):
            return self._dataset.reading_ahead(self._split, positions)
        return nullcontext()

    def _batches(self) -> list[np.ndarray]:
        """Return the positions of each batch of the epoch."""
        if self._is_shuffled:
            order = epoch_order(self._sizes(), seed=self._seed, epoch=self.epoch)
        else:
            order = np.arange(self._dataset.count(self._split))
        mine = share(order, rank=self._rank, world_size=self._world_size)
        ends = np.arange(1, len(self)) * self._batch_size
        return np.split(mine, ends) if len(mine) else []

    def _sizes(self) -> np.ndarray:
        """Return the bytes of each item, (N,) int64: images lie in shards, which are read in runs; all else at hand."""
        if isinstance(self._dataset, Dataset):
            return self._dataset.image_sizes(self._split)
        return np.ones(self._dataset.count(self._split), np.int64)

    def _load(self, positions: list[int], seeds: np.ndarray) -> "tuple[Tensor, Tensor]":
        loaded = []
        # Once for the batch: it copies the generator's five kilobytes. And the CPU's generator alone: torch.manual_seed
        # sets those of all devices, for which it first looks.
        with torch.random.fork_rng(devices=[]):
            for position in positions:
                sample = self._dataset.sample(self._split, position)
                content = self._dataset.content(sample)
                torch.default_generator.manual_seed(int(seeds[position]))
                loaded.append((self._transform(content), int(sample.class_ids[0])))
        images, class_ids = default_collate(loaded)
        return images, class_ids


class Preprocess:
    """A preprocessing spec as a transform that can be sent to loader processes."""

    def __init__(self, spec: Preprocessing) -> None:
        """Apply `spec`."""
        self._spec = spec

    def __call__(self, content: Content) -> "Tensor":
        """Return the (3, height, width) float32 tensor of an image."""
        return torch.from_numpy(self._spec.apply(content)[0])


def make_loader(batches: Batches, *, workers: int) -> "DataLoader[Any]":
    """Return a loader of the batches, in their order, prepared by so many processes; 0: by this one."""
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        # Its own generator: an iterator draws a seed when it starts, which must not move the model's random state.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )
