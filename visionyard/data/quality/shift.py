"""Whether val or test is of another kind than train: a distance, and how often chance makes as large a one.

Frames of one clip are no independent images, so whole groups are exchanged between the splits, not images. With few
groups the test says little, and says so by a large p-value.

Source: two-sample distance: A. Kolmogorov 1933, N. Smirnov 1939; permutation p-value with the observed arrangement
counted: B. Phipson, G. Smyth, Permutation P-values Should Never Be Zero, SAGMB 2010, DOI 10.2202/1544-6115.1585; many
tests at once: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statistics 1979.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from visionyard.data.items import Split

_PERMUTATION_COUNT = 999
_SEED = 20
# Told when both hold: so improbable, and so far apart. Of large sets the smallest difference is improbable; below a
# tenth of the images it seldom changes a metric.
_MAX_P = 0.05
_MIN_DISTANCE = 0.1
# Values beyond are thinned evenly: 999 arrangements of so many take some seconds.
_MOST_VALUES = 50_000


@dataclass(frozen=True)
class Shift:
    """How a split differs from train in one respect.

    Attributes:
        name: What was compared: brightness, contrast, sharpness, longer side, box size, class mix.
        split: Compared with train.
        distance: In [0, 1]: Kolmogorov-Smirnov; of the class mix, half of the summed differences of the shares.
        p_value: How often chance gives such a distance or a larger one, after Holm.
        train_median: Of train; None for the class mix.
        split_median: Of the split; None for the class mix.
    """

    name: str
    split: Split
    distance: float
    p_value: float
    train_median: float | None
    split_median: float | None

    @property
    def is_told(self) -> bool:
        """Whether a person should know."""
        return self.p_value < _MAX_P and self.distance >= _MIN_DISTANCE

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "is_told": self.is_told}


def shift_of_values(
    name: str, split: Split, values: np.ndarray, units: np.ndarray, is_split: np.ndarray
) -> Shift | None:
    """Compare the values of a split with those of train; None when one side has none.

    Args:
        name: What the values are.
        split: Which split.
        values: (N,) float, of both.
        units: (N,) int in [0, U), the group of each value; all values of a unit are in one split.
        is_split: (U,) bool, whether a unit stands in the split rather than in train.
    """
    step = -(-len(values) // _MOST_VALUES) or 1
    values, units = values[::step], units[::step]
    inside = is_split[units]
    if inside.all() or not inside.any():
        return None
    order = np.argsort(values, kind="stable")
    ranked, unit_of = values[order], units[order]
    is_last = np.append(ranked[1:] != ranked[:-1], True)

    def distance(chosen: np.ndarray) -> float:
        seen = chosen[unit_of]
        count = int(seen.sum())
        if count in {0, len(seen)}:
            return 0.0
        below = np.cumsum(seen)[is_last]
        rank = np.flatnonzero(is_last) + 1
        return float(np.abs(below / count - (rank - below) / (len(seen) - count)).max())

    medians = float(np.median(values[~inside])), float(np.median(values[inside]))
    return Shift(name, split, *_tested(distance, is_split), *medians)


def shift_of_classes(split: Split, class_ids: np.ndarray, units: np.ndarray, is_split: np.ndarray) -> Shift | None:
    """Compare how often each class occurs; None when one side has none.

    Args:
        split: Which split.
        class_ids: (N,) int, the class of each label, of both.
        units: (N,) int in [0, U), the group of each label; all labels of a unit are in one split.
        is_split: (U,) bool, whether a unit stands in the split rather than in train.
    """
    held_out = is_split[units]
    if held_out.all() or not held_out.any():
        return None
    # Each class of each unit once, with its count: a table of units and classes is mostly zeros where both are many.
    class_count = int(class_ids.max()) + 1
    pairs, counts = np.unique(units * class_count + class_ids, return_counts=True)
    unit_of, class_of = np.divmod(pairs, class_count)
    whole = np.bincount(class_of, counts)

    def distance(chosen: np.ndarray) -> float:
        seen = chosen[unit_of]
        inside = np.bincount(class_of[seen], counts[seen], class_count)
        outside = whole - inside
        if not inside.any() or not outside.any():
            return 0.0
        return float(np.abs(inside / inside.sum() - outside / outside.sum()).sum() / 2)

    return Shift("class mix", split, *_tested(distance, is_split), None, None)


def _tested(distance: Callable[[np.ndarray], float], is_split: np.ndarray) -> tuple[float, float]:
    observed = distance(is_split)
    random = np.random.default_rng(_SEED)
    # Equal arrangements must count as equal, whatever the order of the sums.
    as_large = sum(distance(random.permutation(is_split)) >= observed - 1e-12 for _ in range(_PERMUTATION_COUNT))
    return observed, (as_large + 1) / (_PERMUTATION_COUNT + 1)


def after_holm(shifts: Sequence[Shift]) -> tuple[Shift, ...]:
    """Return the shifts with p-values that hold for all of them together, the largest distance first."""
    adjusted, highest = [], 0.0
    for rank, shift in enumerate(sorted(shifts, key=lambda one: one.p_value)):
        highest = max(highest, min(1.0, (len(shifts) - rank) * shift.p_value))
        adjusted.append(replace(shift, p_value=highest))
    return tuple(sorted(adjusted, key=lambda one: (-one.distance, one.name, one.split)))
