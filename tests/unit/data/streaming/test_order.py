"""The order of an epoch: each image once, well mixed, and never more of a split needed at a time than the window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.data.streaming.order import epoch_order, run_numbers, share

_SIZES = st.lists(st.integers(1, 5000), max_size=200).map(lambda sizes: np.array(sizes, dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(sizes=_SIZES, window_bytes=st.integers(1, 100_000), run_bytes=st.integers(1, 20_000))
def test_each_image_comes_once(sizes: np.ndarray, window_bytes: int, run_bytes: int) -> None:
    order = epoch_order(sizes, seed=3, epoch=1, window_bytes=window_bytes, run_bytes=run_bytes)
    assert sorted(order.tolist()) == list(range(len(sizes)))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    sizes = np.full(1000, 100)
    orders = {
        (seed, epoch): tuple(epoch_order(sizes, seed=seed, epoch=epoch, run_bytes=500, window_bytes=10_000).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    again = epoch_order(sizes, seed=2, epoch=1, run_bytes=500, window_bytes=10_000)
    assert orders[2, 1] == tuple(again.tolist())


@settings(max_examples=40, deadline=None)
@given(sizes=_SIZES, run_bytes=st.integers(1, 20_000))
def test_runs_are_neighbours_of_about_the_bytes_asked_for(sizes: np.ndarray, run_bytes: int) -> None:
    numbers = run_numbers(sizes, run_bytes=run_bytes)
    assert len(numbers) == len(sizes)
    assert np.all(np.isin(np.diff(numbers), (0, 1)))
    for run in set(numbers.tolist()):
        inside = sizes[numbers == run]
        assert inside[:-1].sum() < run_bytes


def _open_bytes(sizes: np.ndarray, order: np.ndarray, run_bytes: int) -> int:
    """Return the most bytes of runs that are needed at once: from the first use of each to its last."""
    runs = run_numbers(sizes, run_bytes=run_bytes)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    change = np.zeros(len(order) + 1, dtype=np.int64)
    for run in range(runs[-1] + 1):
        inside = runs == run
        change[places[inside].min()] += sizes[inside].sum()
        change[places[inside].max() + 1] -= sizes[inside].sum()
    return int(np.cumsum(change).max())


@pytest.mark.parametrize("window_bytes", [50_000, 200_000], ids=["small window", "large window"])
def test_no_more_than_the_window_is_open_at_once(window_bytes: int) -> None:
    sizes = np.random.default_rng(0).integers(50, 150, 20_000)
    order = epoch_order(sizes, seed=0, epoch=1, run_bytes=2000, window_bytes=window_bytes)
    assert _open_bytes(sizes, order, 2000) < 1.2 * window_bytes
    assert _open_bytes(sizes, np.random.default_rng(0).permutation(20_000), 2000) > 0.9 * sizes.sum()


def test_classes_that_follow_each_other_are_mixed() -> None:
    count, batch_size, class_count = 100_000, 32, 10
    sizes = np.full(count, 100)
    # A window of 200 runs of 20 images, and 25 times as many images as it holds.
    order = epoch_order(sizes, seed=0, epoch=1, run_bytes=2000, window_bytes=400_000)
    batches = (order * class_count // count)[: count // batch_size * batch_size].reshape(-1, batch_size)
    counts = np.stack([(batches == number).sum(axis=1) for number in range(class_count)])
    binomial = batch_size * (1 / class_count) * (1 - 1 / class_count)
    assert 0.9 < counts.var(axis=1).mean() / binomial < 1.3
    assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 0.05
    # The first batches too, when the window is hardly open.
    assert np.mean([len(set((batch // 20).tolist())) for batch in order[:320].reshape(-1, 32)]) > 8


def test_a_split_that_fits_into_the_window_is_permuted_whole() -> None:
    order = epoch_order(np.full(1000, 10), seed=0, epoch=0, run_bytes=100, window_bytes=10_000)
    neighbours = np.abs(np.diff(order))
    assert 250 < neighbours.mean() < 420  # of a permutation a third of its length


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 6, 100])
def test_ranks_share_an_order(count: int, world_size: int) -> None:
    order = np.random.default_rng(0).permutation(count)
    shares = [share(order, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
