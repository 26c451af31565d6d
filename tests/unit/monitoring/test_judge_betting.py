"""Betting: its guarantee held against exact expectations, and against runs at the border of the hypothesis."""

import itertools
import math
import random

import pytest

from visionyard.monitoring.judge_betting import STAKES, Bettor, Blocks, Contrast


def expected_factor(contrast: Contrast, champion_mean: float, canary_mean: float, *, is_for: bool) -> float:
    """Return the largest mean over stakes of the next factor, for independent values of 0 and 1, by enumeration."""
    bettor = contrast.in_favour if is_for else contrast.against
    sums = [0.0] * len(STAKES)
    for values in itertools.product((0.0, 1.0), repeat=contrast.champion_count + 1):
        means = [canary_mean] + [champion_mean] * contrast.champion_count
        chance = math.prod(mean if value else 1 - mean for mean, value in zip(means, values, strict=True))
        copy = Contrast(contrast.margin, champion_count=contrast.champion_count).restore(contrast.to_json())
        probe = copy.in_favour if is_for else copy.against
        probe.restarts, probe.wealth = False, [1.0] * len(STAKES)
        probe.bet_count = max(1, bettor.bet_count)
        copy.bet(values[0], values[1:])
        sums = [total + chance * wealth for total, wealth in zip(sums, probe.wealth, strict=True)]
    return max(sums)


@pytest.mark.parametrize("champion_count", [0, 1, 3])
@pytest.mark.parametrize("margin", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_bet_gains_on_average_while_its_hypothesis_holds(champion_count: int, margin: float, seed: int) -> None:
    """Whatever was seen before: the guess and the stakes come from there."""
    rng, contrast = random.Random(seed), Contrast(margin, champion_count=champion_count)
    for _ in range(rng.randrange(30)):
        contrast.bet(rng.random(), [rng.random() for _ in range(champion_count)])
    for champion in (0.0, 0.001, 0.01, 0.05, 0.1):
        base = champion if champion_count else 0.0
        limit = base + margin
        assert expected_factor(contrast, champion, limit, is_for=False) <= 1 + 1e-12
        assert expected_factor(contrast, champion, limit / 2, is_for=False) <= 1 + 1e-12
        assert expected_factor(contrast, champion, limit, is_for=True) <= 1 + 1e-12
        assert expected_factor(contrast, champion, min(1.0, limit + 0.3), is_for=True) <= 1 + 1e-12


def test_weights_of_all_beginnings_sum_to_one_at_most() -> None:
    """With factors of 1 the wealth is the sum of the weights spent."""
    bettor = Bettor(restarts=True)
    for _ in range(100_000):
        bettor.bet([1.0] * len(STAKES))
    assert 0.9 < bettor.e_value < 1.0


def test_at_the_border_few_runs_ever_reach_the_threshold() -> None:
    """400 runs of 500 blocks, 6 % against 5 % and 1 % allowed: at most 10 % may ever reach a wealth of 10."""
    reached = 0
    for seed in range(400):
        rng, contrast = random.Random(seed), Contrast(0.01, champion_count=3)
        for _ in range(500):
            contrast.bet(float(rng.random() < 0.06), [float(rng.random() < 0.05) for _ in range(3)])
        reached += contrast.against.peak >= 10
    assert reached / 400 <= 0.10


def test_paired_bets_hold_whatever_the_dependence_within_a_pair() -> None:
    """Champion and canary never fail together: the dependence that would break a product of two factors."""
    reached = 0
    for seed in range(300):
        rng, contrast = random.Random(seed), Contrast(0.01, is_paired=True)
        for _ in range(500):
            drawn = rng.random()
            contrast.bet(float(drawn < 0.31), [float(drawn >= 0.7)])
        reached += contrast.against.peak >= 10
    assert reached / 300 <= 0.10


def test_wealth_stays_finite() -> None:
    contrast = Contrast(0.01, champion_count=1)
    for _ in range(5000):
        contrast.bet(1.0, [0.0])
    assert math.isfinite(contrast.against.e_value)
    assert contrast.in_favour.e_value >= 0


def test_blocks_take_the_oldest_of_each_arm() -> None:
    blocks: Blocks[int] = Blocks(2)
    assert [blocks.add(number, is_canary=True) for number in (1, 2)] == [None, None]
    assert blocks.add(10, is_canary=False) is None
    assert blocks.add(11, is_canary=False) == (1, [10, 11])
    assert blocks.add(12, is_canary=False) is None
    assert blocks.add(13, is_canary=False) == (2, [12, 13])


def test_blocks_forget_the_oldest_that_wait_too_long() -> None:
    blocks: Blocks[int] = Blocks(1)
    for number in range(1000):
        blocks.add(number, is_canary=True)
    assert blocks.add(-1, is_canary=False) == (936, [-1])
