"""The test behind drift: does a window of pictures come from where the reference came from?

For each feature and each edge of its reference: as many pictures of the window as of the reference should lie below the
edge. If both are draws from one population, however it is spread, the number below follows a hypergeometric law
(Fisher's exact test), whose tail is bounded here in closed form. The smallest tail over all edges and both directions,
times their number, is the p-value of the feature. Nothing is assumed about distributions, nothing is asymptotic, ties
are allowed, and a reference of few pictures counts as few. The edges are order statistics of the reference, for which
the same law holds, exactly or on the careful side (the negative hypergeometric law of an order statistic is a tail of
the hypergeometric one).

The mix of a classifier's answers is also tested as a whole: class 1 against the rest, class 2 against the rest without
class 1, and so on. Each step is Fisher's exact test given those before, so their p-values combine by his sum of
logarithms.

Pictures that follow each other resemble each other: the window counts as `correlation_time` says, in the order of
arrival, or by groups where requests name theirs.

Sources: R. Fisher, Statistical Methods for Research Workers, 1934, section 21.02; the largest deviation over all edges
by exact binomial rather than by Kolmogorov's distance: R. Berk, D. Jones, Goodness-of-fit test statistics that dominate
the Kolmogorov statistics, 1979; the union bound over windows, edges and features (C. Bonferroni, 1936) needs no
independence of overlapping windows; the 2 x C table in steps: H. Lancaster, The derivation and partition of chi-square
in certain discrete distributions, Biometrika 36, 1949.
"""

from collections.abc import Collection, Mapping

import numpy as np

from visionyard.inference.reference import FeatureReference


class ReferenceTable:
    """The edges of several features, and how later values lie to them.

    Attributes:
        names: K features, sorted as given.
        means: (K,) of the reference.
    """

    def __init__(self, references: Mapping[str, FeatureReference], *, one_sided: Collection[str] = ()) -> None:
        """Lay the references out as arrays.

        Args:
            references: By feature.
            one_sided: Features of which only larger values than the reference's are a change.
        """
        self.names = list(references)
        self.means = np.array([reference.mean for reference in references.values()])
        rows = len(references)
        columns = max((len(reference.edges) for reference in references.values()), default=0)
        self._edges = np.full((rows, columns), np.nan)
        # Shares of the reference below, and at or below, each edge; NaN where a feature has fewer edges.
        self._shares = np.full((2, rows, columns), np.nan)
        self._counts = np.array([max(1, int(reference.effective_count)) for reference in references.values()])
        for row, reference in enumerate(references.values()):
            self._edges[row, : len(reference.edges)] = reference.edges
            self._shares[0, row, : len(reference.edges)] = reference.below
            self._shares[1, row, : len(reference.edges)] = reference.up_to
        self._is_one_sided = np.array([name in one_sided for name in self.names], dtype=bool)
        directions = np.where(self._is_one_sided, 1, 2)
        self._test_counts = directions * np.isfinite(self._shares).sum(axis=(0, 2))

    def places(self, values: np.ndarray) -> np.ndarray:
        """Return whether each of (K,) values lies below, and at or below, each edge: (2, K, E) bool, False for NaN."""
        column = values[:, None]
        return np.stack([column < self._edges, column <= self._edges])

    def p_values(self, counts: np.ndarray, totals: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Test windows.

        Args:
            counts: (2, K, E) values of the window below, and at or below, each edge.
            totals: (K,) values of the window.
            times: (K,) correlation times.

        Returns:
            p-values and statistics, (K,) each; 1 and 0 where the window is empty.
        """
        shares = counts / np.maximum(totals, 1)[:, None]
        effective = np.where(totals > 0, np.maximum(1, (totals / times).astype(np.int64)), 0)
        window_hits = np.rint(shares * effective[:, None]).astype(np.int64)
        known = np.nan_to_num(self._shares)
        reference_hits = np.rint(known * self._counts[:, None]).astype(np.int64)
        tails = hypergeometric_tail(window_hits, effective[:, None], reference_hits, self._counts[:, None])
        is_smaller = self._is_one_sided[:, None] & (shares > known)
        tails = np.where(np.isfinite(self._shares) & ~is_smaller, tails, 1.0)
        p_values = np.minimum(1.0, tails.min(axis=(0, 2), initial=1.0) * self._test_counts)
        statistics = np.abs(np.where(np.isfinite(self._shares), shares - known, 0.0)).max(axis=(0, 2), initial=0.0)
        return np.where(totals > 0, p_values, 1.0), np.where(totals > 0, statistics, 0.0)


def composition_p_value(window: np.ndarray, reference: np.ndarray) -> float:
    """Test whether two counts by class come from one mix of classes.

    Args:
        window: (C,) integers, pictures of each class.
        reference: (C,) integers.

    Returns:
        Bound on the chance of counts so different, in (0, 1]; 1 with one class or an empty side.
    """
    left_window, left_reference = window[::-1].cumsum()[::-1], reference[::-1].cumsum()[::-1]
    tails = hypergeometric_tail(window, left_window, reference, left_reference)[:-1]
    half = float(-np.log(np.minimum(1.0, 2 * np.maximum(tails, 1e-300))).sum())
    # The survival function of chi-square with 2 k degrees of freedom at 2 `half`: a sum of k Poisson terms.
    powers = np.arange(len(tails))
    if half <= 0 or not len(tails):
        return 1.0
    logs = powers * np.log(half) - _log_factorials(len(tails))[: len(tails)] - half
    return float(min(1.0, np.exp(logs).sum()))


def hypergeometric_tail(
    window_hits: np.ndarray, window_count: np.ndarray, reference_hits: np.ndarray, reference_count: np.ndarray
) -> np.ndarray:
    """Bound the chance that so many of all hits fall into the window, or more (or so few, or less), whichever is rarer.

    The tail of the hypergeometric law falls faster than a geometric series that begins at the same two terms, so the
    sum of that series is a bound: within a factor of 1.5 where the tail is below 0.01.

    Args:
        window_hits: Hits in the window, integers in [0, window_count]; all arguments broadcast.
        window_count: Size of the window.
        reference_hits: Hits in the reference, in [0, reference_count].
        reference_count: Size of the reference.

    Returns:
        Of one direction, in (0, 1]; the caller counts two.
    """
    hits, window_hits, window_count = window_hits + reference_hits, *np.broadcast_arrays(window_hits, window_count)
    window_misses = window_count - window_hits
    reference_misses = reference_count - reference_hits
    logs = _log_factorials(int(np.max(window_count + reference_count, initial=0)))
    log_point = (
        logs[window_count]
        - logs[window_hits]
        - logs[window_misses]
        + logs[reference_count]
        - logs[reference_hits]
        - logs[reference_misses]
        - logs[window_count + reference_count]
        + logs[hits]
        + logs[window_misses + reference_misses]
    )
    # The next terms outwards, as multiples of this one.
    more = window_misses * reference_hits / ((window_hits + 1.0) * (reference_misses + 1.0))
    less = window_hits * reference_misses / ((window_misses + 1.0) * (reference_hits + 1.0))
    ratio = np.minimum(more, less)
    # Not yet falling: in the middle of the law, where nothing is rare.
    tail = np.exp(log_point) / np.where(ratio < 1, 1 - ratio, 1.0)
    return np.asarray(np.where(ratio < 1, np.minimum(tail, 1.0), 1.0))


_LOGS = np.zeros(1)


def _log_factorials(largest: int) -> np.ndarray:
    """Return log(0!) to log(largest!), or further."""
    global _LOGS  # a table that only grows; two threads may both compute it, to the same numbers
    if len(_LOGS) <= largest:
        _LOGS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2 * largest + 2)))])
    return _LOGS
