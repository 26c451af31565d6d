"""Divide groups into parts, stratified by class; a group is never divided.

Each class first gets one group in each part it must be in, rarest class first; then, again rarest first, each group
goes to the part that lacks most of the class. For few groups this is improved by moves and swaps, also from random
starts; up to 9 groups are divided in all possible ways and the best is taken. Groups whose part is fixed stay
there, and the others are divided around them.

Source: K. Sechidis, G. Tsoumakas, I. Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1
(iterative stratification), here with whole groups in place of single examples.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

# All ways are tried up to so many (9 groups into 3 parts); up to so many groups random starts are improved, and the
# greedy draw is improved.
_EXHAUSTIVE_WAYS = 3**9
_RANDOM_START_GROUPS = 24
_POLISHED_GROUPS = 64
_ATTEMPTS = 8


def divide_groups(
    counts: np.ndarray,
    fractions: Sequence[float],
    required: np.ndarray,
    *,
    seed: int,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """Divide groups into parts.

    Args:
        counts: (G, C) int, items of each group that show each class; add a column of all items to balance sizes.
        fractions: S shares, summing to 1.
        required: (C, S) bool, the parts that must hold a group of the class.
        seed: Another one draws other groups where several draws are equally good.
        fixed: (G,) int, the part that a group stays in, -1 for a group that is free; None when all are.

    Returns:
        (G,) int64, the part of each group, 0 to S - 1. A requirement that no draw was found for is not met: see
        `missing_parts`.
    """
    parts = np.full(len(counts), -1) if fixed is None else fixed
    is_free = parts < 0
    held = np.stack([counts[parts == part].sum(axis=0) for part in range(len(fractions))], axis=1)
    divided = parts.astype(np.int64)
    if is_free.any():
        draw = _Draw(counts[is_free], np.asarray(fractions, dtype=np.float64), required, held)
        divided[is_free] = _divided(draw, np.random.default_rng(seed))
    return divided


def _divided(draw: "_Draw", rng: np.random.Generator) -> np.ndarray:
    """Return the parts (G,) of the groups of a draw."""
    counts, part_count = draw.counts, draw.goal.shape[1]
    if part_count ** len(counts) <= _EXHAUSTIVE_WAYS:
        order = rng.permutation(len(counts))
        ways = np.indices((part_count,) * len(counts)).reshape(len(counts), -1).T
        parts = np.empty(len(counts), dtype=np.int64)
        parts[order] = ways[draw.costs(ways, draw.counts[order]).argmin()]
        return parts
    starts = [draw.greedy(rng.permutation(len(counts)))]
    if len(counts) <= _RANDOM_START_GROUPS:
        starts += [rng.integers(part_count, size=len(counts)) for _ in range(_ATTEMPTS)]
    elif draw.lacks(starts[0]):
        starts += [draw.greedy(rng.permutation(len(counts))) for _ in range(_ATTEMPTS)]
    if len(counts) <= _POLISHED_GROUPS:
        starts = [draw.polished(parts) for parts in starts]
    return starts[draw.costs(np.stack(starts)).argmin()]


def missing_parts(counts: np.ndarray, parts: np.ndarray, required: np.ndarray) -> np.ndarray:
    """Return (C, S) bool: where a required class has no group in a part.

    Args:
        counts: (G, C) int, items of each group that show each class.
        parts: (G,) int, the part of each group.
        required: (C, S) bool.
    """
    present = np.stack([(counts[parts == part] > 0).any(axis=0) for part in range(required.shape[1])], axis=1)
    return np.asarray(required & ~present)


class _Draw:
    """One table of groups, with the goal and the cost of dividing it; what parts hold already counts towards both."""

    def __init__(self, counts: np.ndarray, fractions: np.ndarray, required: np.ndarray, held: np.ndarray) -> None:
        self.counts = counts.astype(np.float64)
        self.totals = np.maximum(self.counts.sum(axis=0) + held.sum(axis=1), 1.0)
        self.goal = np.outer(self.totals, fractions) - held
        self.required = required & (held == 0)
        # A missing class outweighs any imbalance: that is at most 2 a class.
        self.penalty = 2.0 * (counts.shape[1] + 1)

    def costs(self, ways: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """Return the (K,) costs of K ways (K, G): squared distance from the goal, as shares, and missing classes."""
        table = self.counts if counts is None else counts
        cost = np.zeros(len(ways))
        for part in range(self.goal.shape[1]):
            held = (ways == part).astype(np.float64)
            shares = (held @ table - self.goal[:, part]) / self.totals
            cost += (shares**2).sum(axis=1)
            is_missing = (held @ (table > 0) == 0) & self.required[:, part]
            cost += self.penalty * is_missing.sum(axis=1)
        return np.asarray(cost.round(9))  # sums in another order must not decide between equal ways

    def lacks(self, parts: np.ndarray) -> bool:
        """Return whether a part lacks a class that it must hold."""
        return bool(missing_parts(self.counts, parts, self.required).any())

    def greedy(self, order: np.ndarray) -> np.ndarray:
        """Return the parts (G,) by iterative stratification, ties in the order given."""
        parts = np.full(len(self.counts), -1, dtype=np.int64)
        desire = self.goal.copy()
        self._cover(parts, desire, order)
        while (parts < 0).any():
            is_open = parts < 0
            open_groups = (self.counts[is_open] > 0).sum(axis=0)
            if not open_groups.any():
                parts[is_open] = 0  # groups without items
                break
            rarest = np.where(open_groups > 0, open_groups, np.inf).argmin()
            chosen = order[is_open[order] & (self.counts[order, rarest] > 0)]
            for group in chosen[np.argsort(-self.counts[chosen, rarest], kind="stable")]:
                # Most desired part; on a tie the one that lacks most of the last column, then the first.
                part = np.lexsort((-desire[-1], -desire[rarest]))[0]
                self._put(parts, desire, group, part)
        return parts

    def _cover(self, parts: np.ndarray, desire: np.ndarray, order: np.ndarray) -> None:
        """Give each class one group in each part it must be in, rarest class first, fitting sizes first."""
        group_counts = (self.counts > 0).sum(axis=0)
        is_covered = np.zeros_like(self.required)
        for class_id in np.argsort(group_counts, kind="stable"):
            for part in np.argsort(self.goal[class_id], kind="stable"):
                if not self.required[class_id, part] or is_covered[class_id, part]:
                    continue
                chosen = order[(parts[order] < 0) & (self.counts[order, class_id] > 0)]
                if not chosen.size:
                    break
                excess = (self.counts[chosen] - desire[:, part]) / self.totals
                group = chosen[(excess**2).sum(axis=1).round(9).argmin()]
                self._put(parts, desire, group, part)
                is_covered[:, part] |= self.counts[group] > 0

    def _put(self, parts: np.ndarray, desire: np.ndarray, group: int, part: int) -> None:
        parts[group] = part
        desire[:, part] -= self.counts[group]

    def polished(self, parts: np.ndarray) -> np.ndarray:
        """Return `parts` after the best move or swap, again and again until none is better."""
        best, best_cost = parts, float(self.costs(parts[None])[0])
        while True:
            ways = np.stack(list(self._neighbours(best)))
            costs = self.costs(ways)
            if costs.min() >= best_cost:
                return best
            best, best_cost = ways[costs.argmin()], float(costs.min())

    def _neighbours(self, parts: np.ndarray) -> Iterator[np.ndarray]:
        for group in range(len(parts)):
            for part in range(self.goal.shape[1]):
                moved = parts.copy()
                moved[group] = part
                yield moved
        for first, second in combinations(range(len(parts)), 2):
            if parts[first] != parts[second]:
                swapped = parts.copy()
                swapped[[first, second]] = parts[[second, first]]
                yield swapped
