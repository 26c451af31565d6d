"""Sequential statistics by betting: evidence that may be looked at after every observation, in a few numbers.

A bettor starts with a wealth of 1 and multiplies it by factors whose mean is at most 1 if the hypothesis is true. The
wealth is then a supermartingale: the probability that it *ever* reaches 1 / alpha is at most alpha (Ville's
inequality), however often it is looked at and whenever one stops. Only the range of the numbers is assumed.

Sources: I. Waudby-Smith, A. Ramdas, Estimating means of bounded random variables by betting, 2024, arXiv:2010.09686;
two arms in blocks: R. Turner, A. Ly, P. Gruenwald, Generic E-variables for exact sequential k-sample tests that allow
for optional stopping, 2024, arXiv:2106.02693, and R. Turner, P. Gruenwald, Exact anytime-valid confidence intervals for
contingency tables and beyond, 2023, arXiv:2203.09785; restarts as in J. Shin, A. Ramdas, A. Rinaldo, E-detectors, 2023,
arXiv:2203.03532, with starting weights that sum to 1 so that the probability of ever being wrong stays bounded.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

# Parts of the largest stake that is still safe. The wealth is the mean over them, so the best one costs a factor of 6
# at most; neighbours differ by 2, between which the growth of the wealth is nearly the same.
STAKES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 0.95)
# Far beyond every threshold, and far from overflow.
_MOST_WEALTH = 1e12
# Wealth in favour of a canary: a low bound forgets a long good time soon.
_MOST_FAVOUR = 1e4
# Answers that wait for one of the other arm: the counts wander apart by the square root of the number of requests.
_MOST_WAITING = 64


@dataclass
class Bettor:
    """The wealth of a bet, a mean over stakes.

    Attributes:
        restarts: Also bet as if one began at each later factor, so that a change after a long good time is found soon.
            Half of the weight is on the first bet, the rest on later ones.
        cap: The wealth never grows beyond it.
        wealth: Of each stake, for the bets begun so far.
        bet_count: Bets so far.
        peak: The largest mean wealth so far: the e-value at the best moment.
    """

    restarts: bool = False
    cap: float = _MOST_WEALTH
    wealth: list[float] = field(default_factory=lambda: [0.0] * len(STAKES))
    bet_count: int = 0
    peak: float = 0.0

    @property
    def e_value(self) -> float:
        """The wealth now: 1 / alpha or more speaks against the hypothesis at level alpha."""
        return sum(self.wealth) / len(self.wealth) if self.bet_count else 1.0

    def bet(self, factors: Sequence[float]) -> None:
        """Multiply the wealth; one factor for each of `STAKES`, at least 0, with a mean of at most 1."""
        self.bet_count += 1
        begun = self._weight(self.bet_count)
        self.wealth = [min((old + begun) * factor, self.cap) for old, factor in zip(self.wealth, factors, strict=True)]
        self.peak = max(self.peak, self.e_value)

    def _weight(self, start: int) -> float:
        """Weight of the bet that begins with the factor `start`; over all starts they sum to 1."""
        if not self.restarts:
            return 1.0 if start == 1 else 0.0
        if start == 1:
            return 0.5
        return 0.5 * (1 / (1 + math.log(start - 1)) - 1 / (1 + math.log(start)))

    def to_json(self) -> dict[str, Any]:
        """Return what changes, as JSON values."""
        return {"wealth": self.wealth, "bet_count": self.bet_count, "peak": self.peak}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_json` returned."""
        self.wealth = [float(value) for value in state["wealth"]]
        self.bet_count, self.peak = int(state["bet_count"]), float(state["peak"])


@dataclass
class Contrast:
    """Is the mean of the canary's values more than `margin` above the champion's? And: is it certainly not?

    Values are in [0, 1], higher is worse; a block has one of the canary, c, and k of the champion, h_i, of about the
    same moment. With a guess p of the champion's mean and a stake a the factor of a block is

        (1 + a (c - p - margin)) * product over i of (1 - a / k (h_i - p))

    Whatever p is, its mean is at most 1 while mean(c) <= mean(h) + margin: at equality its logarithm is concave in
    mean(h) with slope 0 at p, and a smaller mean(c) makes it smaller. p comes from earlier blocks and decides how fast
    the wealth grows, not whether it is right. That takes answers independent of each other; when both arms answer the
    same image they are not, and 1 + a (c - h - margin) is used, whose mean needs no independence. Against the opposite
    hypothesis the signs of a turn.

    Attributes:
        margin: What is allowed: in (0, 1), or 0 when there is a champion.
        champion_count: k; 0: no champion, the canary's mean is held against `margin` itself.
        is_paired: Both answer the same image; k is 1.
        against: Bets that the canary is worse than allowed.
        in_favour: Bets that it is not.
        totals: Sum of the values of champion and canary that were bet on.
    """

    margin: float
    champion_count: int = 1
    is_paired: bool = False
    against: Bettor = field(default_factory=lambda: Bettor(restarts=True))
    in_favour: Bettor = field(default_factory=lambda: Bettor(cap=_MOST_FAVOUR))
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def bet(self, canary: float, champion: Sequence[float] = ()) -> None:
        """Bet on a block: a value of the canary and `champion_count` of the champion, in [0, 1]."""
        if self.is_paired:
            excess = canary - champion[0] - self.margin
            self.against.bet([1 + stake / (1 + self.margin) * excess for stake in STAKES])
            self.in_favour.bet([1 - stake / (1 - self.margin) * excess for stake in STAKES])
        else:
            guess = self._guess()
            most_against, most_for = self._most_stakes(guess)
            own, others = canary - guess - self.margin, [value - guess for value in champion]
            self.against.bet(_factors(most_against, own, others))
            self.in_favour.bet(_factors(-most_for, own, others))
        self.totals[0] += sum(champion)
        self.totals[1] += canary

    def _guess(self) -> float:
        """Guess the champion's mean so that it and the canary's, less the margin, are both near."""
        if not self.champion_count:
            return 0.0
        blocks = self.against.bet_count
        champion, canary = self.totals[0] + 0.5, self.totals[1] - blocks * self.margin
        guess = (champion + canary) / (blocks * (self.champion_count + 1) + 1)
        # Off the borders, where a stake would be unbounded.
        room = 1 - self.margin
        return min(max(guess, 0.001 * room), 0.999 * room)

    def _most_stakes(self, guess: float) -> tuple[float, float]:
        """Return the stakes, against and in favour, beyond which a factor could fall below 0."""
        limit, count = guess + self.margin, self.champion_count
        if not count:
            return 1 / limit, 1 / (1 - limit)
        return min(1 / limit, count / (1 - guess)), min(1 / (1 - limit), count / guess)

    def to_json(self) -> dict[str, Any]:
        """Return what changes, as JSON values."""
        return {"against": self.against.to_json(), "in_favour": self.in_favour.to_json(), "totals": self.totals}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take over what `to_json` returned."""
        self.against.restore(state["against"])
        self.in_favour.restore(state["in_favour"])
        self.totals = [float(value) for value in state["totals"]]
        return self


def _factors(most: float, own: float, others: Sequence[float]) -> list[float]:
    """Return the factor of a block at each stake: `own` and `others` are how far the values are from their guesses."""
    factors = [1 + stake * most * own for stake in STAKES]
    for value in others:
        part = most * value / len(others)
        factors = [factor * (1 - stake * part) for factor, stake in zip(factors, STAKES, strict=True)]
    return factors


class Blocks(Generic[T]):
    """Puts answers of both arms together as they come: one of the canary with `champion_count` of the champion.

    The oldest that wait are forgotten beyond a bound, which depends on no value and so costs no validity.
    """

    def __init__(self, champion_count: int) -> None:
        self.champion_count = champion_count
        self._champion: deque[T] = deque(maxlen=_MOST_WAITING * max(1, champion_count))
        self._canary: deque[T] = deque(maxlen=_MOST_WAITING)

    def add(self, item: T, *, is_canary: bool) -> tuple[T, list[T]] | None:
        """Add an answer; return the block that is now complete, canary's first, if one is."""
        (self._canary if is_canary else self._champion).append(item)
        if not self._canary or len(self._champion) < self.champion_count:
            return None
        return self._canary.popleft(), [self._champion.popleft() for _ in range(self.champion_count)]

    def to_json(self) -> dict[str, list[T]]:
        """Return what waits, as JSON values."""
        return {"champion": list(self._champion), "canary": list(self._canary)}

    def restore(self, state: dict[str, list[T]]) -> Self:
        """Take over what `to_json` returned."""
        self._champion.extend(state["champion"])
        self._canary.extend(state["canary"])
        return self
