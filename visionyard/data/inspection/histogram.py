"""Counts in bins: what a distribution over any number of values is kept as."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Histogram:
    """How many values fall between neighbouring edges.

    Attributes:
        edges: Ascending, one more than there are bins. A bin holds its lower edge; the last one its upper edge too.
        counts: Of each bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"edges": list(self.edges), "counts": list(self.counts)}

    def quantile(self, share: float) -> float | None:
        """Return the value below which a share of all lies, evenly placed within its bin; None when there is none.

        Args:
            share: In [0, 1].
        """
        total = sum(self.counts)
        if not total:
            return None
        before, wanted = 0, share * total
        for low, high, count in zip(self.edges, self.edges[1:], self.counts, strict=False):
            if count and before + count >= wanted:
                return low + (high - low) * (wanted - before) / count
            before += count
        return self.edges[-1]


class Bins:
    """A histogram in the making; values beyond the edges count in the outermost bins."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = tuple(edges)
        self._counts = [0] * (len(edges) - 1)

    def add(self, values: Iterable[float]) -> None:
        """Count values."""
        last = len(self._counts) - 1
        for value in values:
            self._counts[min(max(bisect_right(self._edges, value) - 1, 0), last)] += 1

    def histogram(self) -> Histogram:
        """Return what was counted."""
        return Histogram(self._edges, tuple(self._counts))
