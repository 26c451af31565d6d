"""Batches for the training loop: each image once, in an order that ranks, processes and resumes do not change."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from visionyard.data.dataset import Dataset
from visionyard.data.streaming import NodeCache, StreamedDataset
from visionyard.data.streaming.folder_copy import FolderCopy
from visionyard.training.loading import Batches, make_loader

# More processes than this machine has cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def _noisy(image: np.ndarray) -> torch.Tensor:
    """Return the image's own mean beside a random draw: which image it is, and what was drawn for it."""
    return torch.tensor([float(image.astype(np.float64).mean()), float(torch.rand(()))])


def _batches(dataset: Dataset, **values: object) -> Batches:
    settings = {"batch_size": 4, "seed": 0, "is_shuffled": True, **values}
    return Batches(dataset, "train", _noisy, **settings)  # type: ignore[arg-type]


def _rows(batches: Batches, *, workers: int = 0) -> list[list[float]]:
    return [row for images, _ in make_loader(batches, workers=workers) for row in images.tolist()]


def _sizes(batches: Batches) -> list[int]:
    return [len(class_ids) for _, class_ids in make_loader(batches, workers=0)]


@pytest.fixture
def dataset(shapes_dataset: Callable[..., Path]) -> Callable[[int], Dataset]:
    return lambda count: Dataset(shapes_dataset("classification", train=count, size_px=16, seed=count))


@pytest.mark.parametrize("count", [1, 4, 5, 11, 24])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_each_image_comes_once_an_epoch_over_all_ranks(
    count: int, world_size: int, dataset: Callable[[int], Dataset]
) -> None:
    data = dataset(count)
    images = sorted(float(data.image(sample).astype(np.float64).mean()) for sample in data.samples("train"))
    for epoch in (1, 2):
        found = []
        for rank in range(world_size):
            batches = _batches(data, rank=rank, world_size=world_size)
            batches.epoch = epoch
            found += [row[0] for row in _rows(batches)]
            assert len(_sizes(batches)) == len(batches)
        np.testing.assert_allclose(sorted(found), images, rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_loader_processes_change_nothing(workers: int, dataset: Callable[[int], Dataset]) -> None:
    data = dataset(23)
    assert _rows(_batches(data), workers=workers) == _rows(_batches(data))
    rank = {"rank": 1, "world_size": 2}
    assert _rows(_batches(data, **rank), workers=workers) == _rows(_batches(data, **rank))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done_count", [1, 3, 5, 6])
def test_an_epoch_goes_on_where_it_was(done_count: int, workers: int, dataset: Callable[[int], Dataset]) -> None:
    data = dataset(23)
    whole, rest = _batches(data), _batches(data)
    whole.epoch = rest.epoch = 3
    rest.done_count = done_count
    assert _rows(rest, workers=workers) == _rows(whole)[done_count * 4 :]


def test_epochs_differ_in_order_and_draws(dataset: Callable[[int], Dataset]) -> None:
    batches = _batches(dataset(24))
    first = _rows(batches)
    batches.epoch = 1
    second = _rows(batches)
    assert sorted(row[0] for row in first) == sorted(row[0] for row in second)
    assert [row[0] for row in first] != [row[0] for row in second]
    assert not {row[1] for row in first} & {row[1] for row in second}


def test_validation_keeps_the_order_of_keys(dataset: Callable[[int], Dataset]) -> None:
    data = dataset(9)
    expected = [float(data.image(sample).astype(np.float64).mean()) for sample in data.samples("train")]
    found = [row[0] for row in _rows(_batches(data, is_shuffled=False))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1]), (4, [4]), (5, [5]), (8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2])],
    ids=["one image", "one batch", "one more", "two batches", "two and one more", "two and two more"],
)
def test_no_image_is_left_alone_in_the_last_batch(
    count: int, sizes: list[int], dataset: Callable[[int], Dataset]
) -> None:
    assert _sizes(_batches(dataset(count))) == sizes


def test_the_models_random_state_is_not_moved(dataset: Callable[[int], Dataset]) -> None:
    batches = _batches(dataset(8))
    torch.manual_seed(7)
    expected = torch.rand(3).tolist()
    torch.manual_seed(7)
    _rows(batches)
    assert torch.rand(3).tolist() == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_dataset_gives_the_same_batches(
    workers: int, dataset: Callable[[int], Dataset], tmp_path: Path
) -> None:
    data = dataset(23)
    cache = NodeCache(tmp_path / "cache", limit_bytes=1 << 30)
    streamed = StreamedDataset(FolderCopy(f"file://{data.folder}"), name="set", cache=cache)
    for epoch in (0, 1):
        ours, expected = _batches(streamed), _batches(data)
        ours.epoch = expected.epoch = epoch
        assert _rows(ours, workers=workers) == _rows(expected)
