"""Batches of a dataset version for the training loop: order and augmentation follow from seed and epoch alone."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from visionyard.data.dataset import Dataset
from visionyard.data.items import Split
from visionyard.transforms import PreprocessingSpec

if TYPE_CHECKING:
    from torch import Tensor


class ImageSplit(TorchDataset["tuple[Tensor, int]"]):
    """One split as (image tensor, class id) pairs.

    A sample's random draws depend on seed, epoch and its position alone, not on what was drawn before it, so that a
    training resumed in the middle of an epoch goes on exactly as it would have.
    """

    def __init__(
        self, dataset: Dataset, split: Split, transform: "Callable[[np.ndarray], Tensor]", *, seed: int
    ) -> None:
        """Read `split` of `dataset`, each image through `transform`."""
        self._dataset = dataset
        self._split = split
        self._transform = transform
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._dataset.count(self._split)

    def __getitem__(self, position: int) -> "tuple[Tensor, int]":
        sample = self._dataset.sample(self._split, position)
        image = self._dataset.image(sample)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(self._seed, self.epoch, position))
            return self._transform(image), int(sample.class_ids[0])


class EpochOrder(Sampler[int]):
    """A permutation for each epoch, from which the first samples can be left out."""

    def __init__(self, length: int, *, seed: int) -> None:
        """Permute `length` positions."""
        self._length = length
        self._seed = seed
        self.epoch = 0
        self.skipped_count = 0

    def __len__(self) -> int:
        return self._length - self.skipped_count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, self.epoch, -1))
        yield from torch.randperm(self._length, generator=generator)[self.skipped_count :].tolist()


class Preprocess:
    """A preprocessing spec as a transform that can be sent to loader processes."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        """Apply `spec`."""
        self._spec = spec

    def __call__(self, image: np.ndarray) -> "Tensor":
        """Return the (3, height, width) float32 tensor of an image."""
        return torch.from_numpy(self._spec.apply(image)[0])


def mixed_seed(seed: int, epoch: int, position: int) -> int:
    """Return a 63-bit seed that differs for every (seed, epoch, position)."""
    return int(np.random.SeedSequence((seed, epoch, position + 1)).generate_state(1, np.uint64)[0]) >> 1


def make_loader(dataset: Any, *, batch_size: int, workers: int, order: EpochOrder | None = None) -> "DataLoader[Any]":
    """Return a loader; without an `order` it goes through the data set as it is."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=order,
        num_workers=workers,
        # Its own generator: an iterator draws a seed when it starts, which must not move the model's random state.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
        # Batch normalisation needs two images: a last batch of one is left out.
        drop_last=order is not None and len(dataset) % batch_size == 1,
    )
