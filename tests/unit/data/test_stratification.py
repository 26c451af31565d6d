"""Dividing groups, held against trying all ways."""

from itertools import product

import numpy as np
import pytest

from visionyard.data.stratification import divide_groups, missing_parts

FRACTIONS = (0.65, 0.15, 0.2)


def group_table(seed: int, groups: int, classes: int, *, is_mixed: bool) -> np.ndarray:
    """Return (G, C + 1) items by group and class; mixed groups show several classes."""
    rng = np.random.default_rng(seed)
    table = np.zeros((groups, classes + 1), dtype=np.int64)
    for group in range(groups):
        size = int(rng.integers(1, 40))
        shown = rng.random(classes) < 0.4 if is_mixed else np.arange(classes) == group % classes
        table[group, :-1] = np.where(shown, rng.integers(1, size + 1, classes) if is_mixed else size, 0)
        table[group, -1] = size
    return table


def requirements(table: np.ndarray) -> np.ndarray:
    group_counts = (table > 0).sum(axis=0)
    required = np.zeros((table.shape[1], 3), dtype=bool)
    required[group_counts >= 3] = True
    required[group_counts == 2] = [True, False, True]
    return required


def imbalance(table: np.ndarray, parts: np.ndarray) -> float:
    """Return the mean distance of the shares from the wanted ones, over classes and parts."""
    totals = np.maximum(table.sum(axis=0), 1)
    shares = np.stack([table[parts == part].sum(axis=0) / totals for part in range(3)], axis=1)
    return float(np.abs(shares - FRACTIONS)[table.sum(axis=0) > 0].mean())


def brute_force(table: np.ndarray, required: np.ndarray) -> tuple[int, float]:
    """Return the fewest missing requirements of any way, and the least imbalance of those ways."""
    ways = (np.array(way) for way in product(range(3), repeat=len(table)))
    return min((int(missing_parts(table, way, required).sum()), imbalance(table, way)) for way in ways)


@pytest.mark.parametrize("is_mixed", [False, True], ids=["one class a group", "several"])
@pytest.mark.parametrize("groups", [3, 5, 7])
def test_few_groups_are_divided_as_well_as_possible(groups: int, is_mixed: bool) -> None:
    for seed in range(4):
        table = group_table(seed, groups, 2, is_mixed=is_mixed)
        required = requirements(table)
        parts = divide_groups(table, FRACTIONS, required, seed=0)
        fewest, least = brute_force(table, required)
        assert missing_parts(table, parts, required).sum() == fewest
        # Squared distances decide, so the mean of the absolute ones may be a little larger.
        assert imbalance(table, parts) <= least + 0.06


def test_the_only_possible_way_among_many_is_found() -> None:
    # Class 0 in groups 0, 1, 2; class 1 in 2, 3, 4; class 2 in 4, 5, 0: 0, 2, 4 must all differ.
    table = np.zeros((6, 4), dtype=np.int64)
    for class_id, shown in enumerate([(0, 1, 2), (2, 3, 4), (4, 5, 0)]):
        table[list(shown), class_id] = 1
    table[:, 3] = 1
    required = np.ones((4, 3), dtype=bool)
    parts = divide_groups(table, FRACTIONS, required, seed=3)
    assert not missing_parts(table, parts, required).any()


def test_what_is_impossible_is_told() -> None:
    # Four groups, each three of which must stand in three parts.
    table = np.ones((4, 5), dtype=np.int64)
    table[[0, 1, 2, 3], [0, 1, 2, 3]] = 0
    required = np.ones((5, 3), dtype=bool)
    parts = divide_groups(table, FRACTIONS, required, seed=0)
    assert missing_parts(table, parts, required).sum() > 0
    assert sorted(set(parts.tolist())) == [0, 1, 2]


@pytest.mark.parametrize("groups", [12, 40, 200], ids=["random starts", "polished", "greedy"])
@pytest.mark.parametrize("is_mixed", [False, True], ids=["one class a group", "several"])
def test_every_class_is_everywhere_and_shares_are_near(groups: int, is_mixed: bool) -> None:
    for seed in range(3):
        table = group_table(seed, groups, 4, is_mixed=is_mixed)
        required = requirements(table)
        parts = divide_groups(table, FRACTIONS, required, seed=seed)
        assert set(parts.tolist()) == {0, 1, 2}
        assert not missing_parts(table, parts, required).any()
        # A class with 3 groups can be far from 65:15:20; many groups come close.
        assert imbalance(table, parts) < {12: 0.2, 40: 0.05, 200: 0.02}[groups]


def test_equal_single_items_meet_the_fractions_exactly() -> None:
    table = np.ones((1000, 2), dtype=np.int64)
    parts = divide_groups(table, FRACTIONS, np.ones((2, 3), dtype=bool), seed=0)
    assert np.bincount(parts).tolist() == [650, 150, 200]


@pytest.mark.parametrize("groups", [6, 20, 300])
def test_the_draw_depends_on_the_seed_and_on_nothing_else(groups: int) -> None:
    table = np.ones((groups, 2), dtype=np.int64)
    required = np.ones((2, 3), dtype=bool)
    draws = [divide_groups(table, FRACTIONS, required, seed=seed).tolist() for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) > 1


def test_two_parts_can_be_drawn() -> None:
    parts = divide_groups(np.ones((10, 1), dtype=np.int64), (0.8, 0.2), np.ones((1, 2), dtype=bool), seed=0)
    assert np.bincount(parts).tolist() == [8, 2]


def test_a_hundred_thousand_groups_take_seconds() -> None:
    rng = np.random.default_rng(0)
    table = np.zeros((100_000, 6), dtype=np.int64)
    table[np.arange(100_000), rng.integers(0, 5, 100_000)] = 1
    table[:, 5] = 1
    parts = divide_groups(table, FRACTIONS, np.ones((6, 3), dtype=bool), seed=0)
    assert imbalance(table, parts) < 1e-4
