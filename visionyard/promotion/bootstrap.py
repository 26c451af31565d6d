"""The paired bootstrap over groups: how sure it is that one model is better than another on the same images.

Groups (clips, scenes) are drawn with replacement, not images: frames of one clip are right or wrong together, and taken
as independent they would make any difference look certain. Both models are measured on each draw, so that what is hard
for both cancels.

Source: the paired bootstrap of B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993; whole clusters drawn
as in A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 3.8. Percentile intervals
of few groups are too narrow; they are expanded as in T. Hesterberg, What Teachers Should Know about the Bootstrap,
The American Statistician 69(4), 2015; arXiv:1411.5279.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from visionyard.promotion.scores import Scores

# Draws: the 5 % quantile of 2000 has a standard error of about 0.5 % in probability. Fewer when a draw is costly: a
# ranked detection of a draw takes 0.2 us, so that 200 million are 40 s on one core.
_MOST_DRAWS = 2000
_FEWEST_DRAWS = 400
_MOST_VALUES = 200_000_000
# Counts held at once, 32 MB: with loose images there are as many groups as images.
_BLOCK_VALUES = 4_000_000
METHOD = "paired bootstrap over groups, expanded percentile interval (Hesterberg 2015, arXiv:1411.5279)"


@dataclass(frozen=True)
class Comparison:
    """What the draws say of challenger minus champion.

    Attributes:
        champion: The champion's main metric.
        challenger: The challenger's.
        low: The difference is above it with the confidence asked for; minus infinity when too few groups differ.
        high: It is below it with the same confidence.
        class_champion: (C,) the champion's class measure, NaN without truth.
        class_challenger: (C,) the challenger's.
        class_low: (C,) 5 % quantile of the class difference, NaN without truth.
        class_high: (C,) 95 % quantile.
        group_count: Groups compared.
        informative_count: Groups on which the two did not do the same.
        draw_count: Draws.
    """

    champion: float
    challenger: float
    low: float
    high: float
    class_champion: np.ndarray
    class_challenger: np.ndarray
    class_low: np.ndarray
    class_high: np.ndarray
    group_count: int
    informative_count: int
    draw_count: int

    @property
    def difference(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion


def least_groups(confidence: float) -> int:
    """Return how many groups must differ before any result can be that certain.

    Of n groups all come out in favour of one of two equal models with probability 2^-n.
    """
    return max(2, math.ceil(-math.log2(1 - confidence) - 1e-9))


def compare(
    champion: Scores, challenger: Scores, group_count: int, *, confidence: float, least_gain: float, seed: int = 0
) -> Comparison:
    """Measure two models on the same draws of groups.

    Args:
        champion: Its scores.
        challenger: Its scores on the same groups.
        group_count: G, 1 or more.
        confidence: Of each bound, in (0.5, 1).
        least_gain: The difference that is asked for; with one other than 0 groups on which both did the same count too.
        seed: Of the draws; the same seed and scores give the same result.
    """
    informative = sum(champion.digest_of_group(one) != challenger.digest_of_group(one) for one in range(group_count))
    effective = group_count if least_gain else informative
    draw_count = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _MOST_VALUES // max(1, champion.cost + challenger.cost)))
    before, class_before = _measure(champion, _draws(group_count, draw_count, seed))
    after, class_after = _measure(challenger, _draws(group_count, draw_count, seed))
    low, high = _bounds((after - before)[1:], effective, confidence)
    change = (class_after - class_before)[1:]
    return Comparison(
        champion=float(before[0]),
        challenger=float(after[0]),
        low=low,
        high=high,
        class_champion=class_before[0],
        class_challenger=class_after[0],
        class_low=_quantiles(change, 0.05),
        class_high=_quantiles(change, 0.95),
        group_count=group_count,
        informative_count=informative,
        draw_count=draw_count,
    )


def _draws(group_count: int, draw_count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each group is in a draw, block by block; before them each group once: the metric itself."""
    yield np.ones((1, group_count), np.int64)
    random, chances = np.random.default_rng(seed), np.full(group_count, 1 / group_count)
    block = max(1, _BLOCK_VALUES // group_count)
    for start in range(0, draw_count, block):
        yield random.multinomial(group_count, chances, size=min(block, draw_count - start)).astype(np.int64)


def _measure(scores: Scores, draws: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    overall, classes = [], []
    for counts in draws:
        per_class = scores.per_class(counts)
        classes.append(per_class)
        overall.append(scores.overall(counts, per_class))
    return np.concatenate(overall), np.concatenate(classes)


def _bounds(differences: np.ndarray, group_count: int, confidence: float) -> tuple[float, float]:
    finite = np.sort(differences[np.isfinite(differences)])
    if group_count < least_groups(confidence) or not len(finite):
        return -math.inf, math.inf
    tail = NormalDist().cdf(math.sqrt(group_count / (group_count - 1)) * t_quantile(1 - confidence, group_count - 1))
    # Rounded outwards, so that ties at 0 count against the challenger.
    place = math.floor(tail * len(finite))
    return float(finite[max(0, place - 1)]), float(finite[min(len(finite) - 1, len(finite) - place)])


def _quantiles(change: np.ndarray, probability: float) -> np.ndarray:
    columns = [column[np.isfinite(column)] for column in change.T]
    return np.array([np.quantile(one, probability) if len(one) else np.nan for one in columns])


def t_quantile(probability: float, degrees: int) -> float:
    """Return a quantile of Student's t distribution, by bisection.

    Args:
        probability: In (0, 1).
        degrees: Of freedom, 1 or more.
    """
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _t_cdf(value: float, degrees: int) -> float:
    """Return the distribution function, in closed form for whole degrees.

    Source: M. Abramowitz and I. Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(value / math.sqrt(degrees))
    cosine_squared = math.cos(angle) ** 2
    is_odd = degrees % 2
    term, total = (math.cos(angle), 0.0) if is_odd else (1.0, 0.0)
    for step in range(degrees // 2):
        total += term
        numerator = 2 * step + 1 + is_odd
        term *= cosine_squared * numerator / (numerator + 1)
    between = math.sin(angle) * total
    if is_odd:
        between = 2 / math.pi * (angle + between)
    return (1 + between) / 2
