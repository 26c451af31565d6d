"""From the metrics of two arms to what the judge looks at.

A pod's `/metrics` has counts, not answers: how many requests ended with which status, how many took how long, and which
features drifted. What was added between two looks is given to the judge as so many answers; within a step of the
latency histogram they are spread evenly. Both arms are read alike, so neither gains by it. Which class was found and
with what confidence is not in the metrics: of that the judge learns through the drift of `confidence` and `class_mix`.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from visionyard.monitoring.judge import Answer, Arm, Judge

# A look at a busy service: more answers than that say nothing new, and take the judge 0.1 ms each.
MOST_ANSWERS = 2000
# Refused for being wrong: nothing that an arm could be blamed for.
_CALLERS_FAULT = re.compile(r"4\d\d|INVALID_ARGUMENT|UNAUTHENTICATED|PERMISSION_DENIED|NOT_FOUND|RESOURCE_EXHAUSTED")
_FINE = re.compile(r"2\d\d|3\d\d|OK")
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? ([^ ]+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_PREFIX = "visionyard_serving_"

Reader = Callable[[str], str]


@dataclass(frozen=True)
class Sample:
    """What a pod has counted since it started.

    Attributes:
        statuses: Requests by status.
        slower: Requests by the upper bound of their time, seconds; not cumulative.
        drifted: Statistic of each feature that has drifted.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    slower: Counter[float] = field(default_factory=Counter)
    drifted: Mapping[str, float] = field(default_factory=dict)

    def since(self, earlier: "Sample") -> "Sample":
        """Return what was added; everything, when the pod started anew in between."""
        if any(self.statuses[status] < count for status, count in earlier.statuses.items()):
            return self
        return Sample(self.statuses - earlier.statuses, self.slower - earlier.slower, self.drifted)


def read_sample(text: str) -> Sample:
    """Return the counts of a pod from its `/metrics`, over all its models."""
    statuses: Counter[str] = Counter()
    cumulated: dict[str, Counter[float]] = {}
    statistic: dict[str, float] = {}
    drifted = set()
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or not found[1].startswith(_PREFIX):
            continue
        name, value = found[1].removeprefix(_PREFIX), float(found[3])
        labels = dict(_LABEL.findall(found[2] or ""))
        if name == "requests_total":
            statuses[labels["status"]] += round(value)
        elif name == "request_seconds_bucket":
            # All models and protocols together: the counts up to one bound are added.
            series = cumulated.setdefault(f"{labels['model']} {labels['protocol']}", Counter())
            series[float(labels["le"])] += round(value)
        elif name == "drift_statistic":
            statistic[labels["feature"]] = max(value, statistic.get(labels["feature"], 0.0))
        elif name == "drift_detected" and value:
            drifted.add(labels["feature"])
    slower: Counter[float] = Counter()
    for series in cumulated.values():
        below = 0
        for bound in sorted(series):
            slower[bound] += series[bound] - below
            below = series[bound]
    return Sample(statuses, slower, {name: statistic.get(name, 0.0) for name in sorted(drifted)})


def answers_of(added: Sample, draw: random.Random) -> list[Answer]:
    """Return what a pod has answered as answers, in no particular order.

    Args:
        added: From `Sample.since`.
        draw: Chooses the order, and which answers are left out beyond `MOST_ANSWERS`.
    """
    fine = sum(count for status, count in added.statuses.items() if _FINE.fullmatch(status))
    blamed = [
        status for status in added.statuses if not _FINE.fullmatch(status) and not _CALLERS_FAULT.fullmatch(status)
    ]
    failed = sum(added.statuses[status] for status in blamed)
    latencies = _latencies(added.slower)
    draw.shuffle(latencies)
    answers = [Answer(latency_s=latency_s) for latency_s in latencies[:fine]]
    answers += [Answer(is_error=True)] * failed
    draw.shuffle(answers)
    return answers[:MOST_ANSWERS]


def _latencies(slower: Mapping[float, int]) -> list[float]:
    found: list[float] = []
    lower = 0.0
    for upper in sorted(slower):
        end = upper if upper != float("inf") else 2 * lower
        count = slower[upper]
        found += [lower + (end - lower) * (number + 0.5) / count for number in range(count)]
        lower = end
    return found


class ArmsWatch:
    """Reads the pods of both arms and tells the judge what they added since the last look."""

    def __init__(self, judge: Judge, read: Reader, *, seed: int = 0) -> None:
        """Start without any counts: what pods answered before the first look is not judged.

        Args:
            judge: Whom to tell.
            read: From a pod's address to its `/metrics`; raises OSError when it does not answer.
            seed: Of the order of answers.
        """
        self._judge, self._read = judge, read
        self._draw = random.Random(seed)
        self._before: dict[str, Sample] = {}
        self.unread: tuple[str, ...] = ()

    def look(self, champion: Iterable[str], canary: Iterable[str]) -> None:
        """Read all pods once.

        Args:
            champion: Addresses of its pods' `/metrics`.
            canary: Of the canary's.
        """
        mixed: list[tuple[float, Arm, Answer]] = []
        unread = []
        for arm, addresses in (("champion", champion), ("canary", canary)):
            answers: list[Answer] = []
            drifted: dict[str, float] = {}
            for address in addresses:
                try:
                    sample = read_sample(self._read(address))
                except OSError as error:
                    unread.append(f"{address}: {error}")
                    continue
                drifted |= sample.drifted
                if address in self._before:
                    answers += answers_of(sample.since(self._before[address]), self._draw)
                self._before[address] = sample
            self._judge.observe_drift(arm, drifted)  # type: ignore[arg-type]
            # The judge compares answers of the same moment: both arms' are laid over each other.
            mixed += [((number + 0.5) / len(answers), arm, each) for number, each in enumerate(answers)]  # type: ignore[misc]
        for _, arm, answer in sorted(mixed, key=lambda each: each[:2]):
            self._judge.observe(answer, arm=arm)
        self.unread = tuple(unread)
