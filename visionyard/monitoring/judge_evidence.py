"""The kinds of evidence of a judge: each gathers answers into blocks and makes of them values to contrast the arms."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from visionyard.monitoring.judge_betting import Blocks, Contrast

# Neighbouring cells differ by 5 %, so a quantile is off by 2.5 % at most; from 1 us to 1,000 s that is 425 cells.
_GROWTH = math.log(1.05)
_SHORTEST_S, _LONGEST_S = 1e-6, 1e3
# A quantile with fewer answers than this beyond it is no threshold yet.
_BEYOND_QUANTILE = 2
# More classes than this are counted as one, so that memory stays bounded whatever a model answers.
_MAX_CELLS = 4096
_REST = "rest"


@dataclass(frozen=True)
class Traffic:
    """How answers of both arms come together.

    Attributes:
        champion_count: Answers of the champion in a block, for one of the canary.
        is_paired: Both arms answer the same image.
    """

    champion_count: int
    is_paired: bool

    def contrast(self, margin: float) -> Contrast:
        """Return a contrast of the two arms."""
        return Contrast(margin, champion_count=self.champion_count, is_paired=self.is_paired)


class EvidenceSource(Protocol):
    """What the judge needs of each kind."""

    @property
    def contrast(self) -> Contrast:
        """The bets."""

    def to_json(self) -> dict[str, Any]:
        """Return what changes, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Take over what `to_json` returned."""


class LatencySketch:
    """Quantiles of latencies in bounded memory: a histogram whose cells grow by 5 %.

    Source: C. Masson, J. Rim, H. Lee, DDSketch, 2019, section 2; arXiv:1908.10693.
    """

    def __init__(self, cells: Mapping[str, int] | None = None) -> None:
        self._cells: Counter[int] = Counter({int(cell): count for cell, count in (cells or {}).items()})
        self._count = self._cells.total()

    def add(self, latency_s: float) -> None:
        """Add a latency; beyond [1 us, 1,000 s] it counts as the border."""
        bounded = min(max(latency_s, _SHORTEST_S), _LONGEST_S)
        self._cells[math.ceil(math.log(bounded) / _GROWTH)] += 1
        self._count += 1

    def quantile(self, level: float) -> float | None:
        """Return the latency in seconds that a share `level` of them does not exceed; None with too few."""
        if self._count * (1 - level) < _BEYOND_QUANTILE:
            return None
        wanted, reached = level * self._count, 0
        for cell in sorted(self._cells):
            reached += self._cells[cell]
            if reached >= wanted:
                return math.exp((cell - 0.5) * _GROWTH)
        return None

    def to_json(self) -> dict[str, int]:
        """Return the cells as JSON values."""
        return {str(cell): count for cell, count in sorted(self._cells.items())}


class MeanEvidence:
    """Is the canary's mean value more than `margin` above the champion's?"""

    def __init__(self, margin: float, traffic: Traffic) -> None:
        self.contrast = traffic.contrast(margin)
        self._blocks: Blocks[float] = Blocks(traffic.champion_count)
        self._seen = {False: [0, 0.0], True: [0, 0.0]}

    def add(self, value: float, *, is_canary: bool) -> None:
        """Add a value in [0, 1]; higher is worse."""
        seen = self._seen[is_canary]
        seen[0] += 1
        seen[1] += value
        if block := self._blocks.add(value, is_canary=is_canary):
            self.contrast.bet(*block)

    def mean(self, *, is_canary: bool) -> float | None:
        """Return the mean of an arm's values so far; None without any."""
        count, total = self._seen[is_canary]
        return total / count if count else None

    def to_json(self) -> dict[str, Any]:
        """Return what changes, as JSON values."""
        return {
            "contrast": self.contrast.to_json(),
            "blocks": self._blocks.to_json(),
            "seen": [self._seen[False], self._seen[True]],
        }

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Take over what `to_json` returned."""
        self.contrast.restore(state["contrast"])
        self._blocks.restore(state["blocks"])
        champion, canary = state["seen"]
        self._seen = {False: [*champion], True: [*canary]}
        return self


class TailEvidence:
    """Is the canary beyond `factor` times a quantile of the champion more often than the champion is beyond it?

    The threshold of a block is the champion's quantile over earlier blocks. Any threshold that knows nothing of the
    block would do for the guarantee; this one sees most. If the canary needs at most `factor` times what the champion
    would have needed, its mean is not above the champion's.
    """

    def __init__(self, level: float, factor: float, margin: float, traffic: Traffic) -> None:
        self.level, self._factor = level, factor
        self.contrast = traffic.contrast(margin)
        self._blocks: Blocks[float] = Blocks(traffic.champion_count)
        self._earlier = LatencySketch()

    def add(self, latency_s: float, *, is_canary: bool) -> None:
        """Add a latency in seconds."""
        if block := self._blocks.add(latency_s, is_canary=is_canary):
            canary, champion = block
            threshold = self._earlier.quantile(self.level)
            if threshold is not None:
                slow = [float(value > threshold) for value in champion]
                self.contrast.bet(float(canary > self._factor * threshold), slow)
            for value in champion:
                self._earlier.add(value)

    def to_json(self) -> dict[str, Any]:
        """Return what changes, as JSON values."""
        return {
            "contrast": self.contrast.to_json(),
            "blocks": self._blocks.to_json(),
            "earlier": self._earlier.to_json(),
        }

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Take over what `to_json` returned."""
        self.contrast.restore(state["contrast"])
        self._blocks.restore(state["blocks"])
        self._earlier = LatencySketch(state["earlier"])
        return self


class MixEvidence:
    """Do the arms spread their answers over cells (classes, bins of confidence) in more different ways than allowed?

    The total variation distance is the largest difference of the two arms' shares over all sets of cells. A block is
    bet on by the set of cells that the canary has answered too often in earlier blocks: a guess of that largest set.

    Source: choosing what to bet on from the past: A. Podkopaev, A. Ramdas, Sequential predictive two-sample and
    independence testing, 2023, arXiv:2305.00143.
    """

    def __init__(self, margin: float, traffic: Traffic) -> None:
        self.contrast = traffic.contrast(margin)
        self._blocks: Blocks[str] = Blocks(traffic.champion_count)
        self._champion: Counter[str] = Counter()
        self._canary: Counter[str] = Counter()

    def add(self, cell: str, *, is_canary: bool) -> None:
        """Add an answer by the name of its cell."""
        if block := self._blocks.add(cell, is_canary=is_canary):
            canary, champion = self._bounded(block[0]), [self._bounded(name) for name in block[1]]
            suspects = {name for name, excess in self._excess().items() if excess > 0}
            if suspects:
                self.contrast.bet(float(canary in suspects), [float(name in suspects) for name in champion])
            self._canary[canary] += 1
            self._champion.update(champion)

    def distance(self) -> float | None:
        """Return the total variation distance of all answers so far, in [0, 1]; None before both arms answered."""
        excess = self._excess()
        return sum(value for value in excess.values() if value > 0) if excess else None

    def _bounded(self, cell: str) -> str:
        is_known = cell in self._champion or cell in self._canary
        return cell if is_known or len(self._champion) + len(self._canary) < _MAX_CELLS else _REST

    def _excess(self) -> dict[str, float]:
        champions, canaries = self._champion.total(), self._canary.total()
        return {name: count / canaries - self._champion[name] / champions for name, count in self._canary.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what changes, as JSON values."""
        return {
            "contrast": self.contrast.to_json(),
            "blocks": self._blocks.to_json(),
            "champion": dict(sorted(self._champion.items())),
            "canary": dict(sorted(self._canary.items())),
        }

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Take over what `to_json` returned."""
        self.contrast.restore(state["contrast"])
        self._blocks.restore(state["blocks"])
        self._champion, self._canary = Counter(state["champion"]), Counter(state["canary"])
        return self
