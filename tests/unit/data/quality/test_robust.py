from itertools import combinations

import numpy as np
import pytest

from visionyard.data.quality.robust import robust_z
from visionyard.data.quality.shift import Shift, after_holm, shift_of_classes, shift_of_values


@pytest.mark.parametrize(
    ("usual", "value", "expected"),
    [
        (np.arange(21.0), 20.0, 10 / (1.4826 * 5)),  # median 10, median deviation 5
        (np.array([0.0] * 15 + [6.0] * 5), 6.0, 6 / (1.2533 * 1.5)),  # most are equal: mean deviation 1.5
        (np.zeros(30), 5.0, 0.0),  # all are equal
        (np.arange(19.0), 100.0, 0.0),  # too few
    ],
    ids=["deviation of the median", "most are equal", "all are equal", "too few"],
)
def test_robust_z(usual: np.ndarray, value: float, expected: float) -> None:
    assert robust_z(np.array([value]), usual) == pytest.approx([expected])


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(0, 1, 40), random.normal(0.7, 1, 30)]).round(1)  # with ties
    is_split = np.arange(70) >= 40
    shift = shift_of_values("brightness", "test", values, np.arange(70), is_split)
    reference = stats.ks_2samp(values[:40], values[40:], method="asymp")
    assert shift is not None and shift.distance == pytest.approx(reference.statistic)
    assert shift.p_value == pytest.approx(reference.pvalue, abs=0.02)


def test_the_distance_of_class_mixes_is_half_of_the_summed_differences() -> None:
    # Train 3 of class 0, 1 of class 2; test 1 of class 0, 2 of class 1, 1 of class 2; shares differ by 1/2, 1/2, 0.
    class_ids, units = np.array([0, 0, 0, 2, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2, 2, 3])
    shift = shift_of_classes("test", class_ids, units, np.array([False, False, True, True]))
    assert shift is not None and shift.distance == pytest.approx(0.5)
    # All ways to choose two of the four groups, of which the test draws.
    distances = []
    for chosen in combinations(range(4), 2):
        inside = np.isin(units, chosen)
        shares = [np.bincount(class_ids[side], minlength=3) / side.sum() for side in (inside, ~inside)]
        distances.append(np.abs(shares[0] - shares[1]).sum() / 2)
    expected = np.mean(np.array(distances) >= 0.5 - 1e-9)
    assert shift.p_value == pytest.approx(expected, abs=0.05)


def test_one_side_alone_is_not_compared() -> None:
    assert shift_of_values("brightness", "test", np.ones(3), np.arange(3), np.zeros(3, bool)) is None
    assert shift_of_values("brightness", "test", np.ones(0), np.zeros(0, np.int64), np.zeros(0, bool)) is None


def test_p_values_hold_for_all_comparisons_together() -> None:
    shifts = [Shift(name, "test", 0.5, p, None, None) for name, p in (("a", 0.04), ("b", 0.01), ("c", 0.03))]
    # By hand: 3 * 0.01; 2 * 0.03; max(0.06, 1 * 0.04).
    assert {one.name: one.p_value for one in after_holm(shifts)} == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
