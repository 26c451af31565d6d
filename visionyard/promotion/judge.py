"""The judge of a new model: results of both models on the same test images in, a verdict with reasons in words out.

It reads no files and knows no registry: `promote` when every gate is open, `reject` with every reason otherwise.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from visionyard.data.items import Task
from visionyard.evaluation import MAIN_METRIC, ImageResult
from visionyard.promotion.bootstrap import METHOD, Comparison, compare, least_groups
from visionyard.promotion.scores import collect_scores

Verdict = Literal["promote", "reject"]
CLASS_METRIC: Mapping[Task, str] = {"detection": "ap_50", "classification": "recall"}


@dataclass(frozen=True)
class Gates:
    """What a new model has to pass.

    Attributes:
        confidence: How certain it must be that the gain is above `least_gain`, in (0.5, 1).
        least_gain: Of the main metric; below 0 a model that is as good as the champion passes too.
        class_budget: Most that the measure of one class may fall.
        least_metric: Of the main metric.
        most_p95_ms: Latency of the fastest format for the smallest batch; 0: no limit.
    """

    confidence: float = 0.95
    least_gain: float = 0.0
    class_budget: float = 0.05
    least_metric: float = 0.0
    most_p95_ms: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """What is known of the new model beside its results.

    Attributes:
        metric: Main metric on the test split.
        p95_ms: From the benchmark; None when it was not measured.
        is_parity_passed: By the certificate; None when the bundle has none.
        is_leaky: The dataset's split leaks.
    """

    metric: float
    p95_ms: float | None
    is_parity_passed: bool | None
    is_leaky: bool


@dataclass(frozen=True)
class ClassChange:
    """What becomes of one class.

    Attributes:
        name: Of the class.
        champion: Its measure, None without truth in the test split.
        challenger: The same of the new model.
        low: 5 % quantile of the change.
        high: 95 % quantile.
        is_over_budget: It falls by more than it may.
    """

    name: str
    champion: float | None
    challenger: float | None
    low: float | None
    high: float | None
    is_over_budget: bool


@dataclass(frozen=True)
class Judgement:
    """Whether the new model takes the champion's place.

    Attributes:
        verdict: `promote` or `reject`.
        reasons: Sentences for people: what speaks against it, or why it passed.
        metric_name: The main metric.
        champion: The champion's value on the compared images, None without a champion.
        challenger: The new model's, on the same images.
        low: The gain is above it with the confidence asked for; None when that cannot be told.
        high: It is below it with the same confidence.
        classes: What becomes of each class; empty without a champion.
        statistics: How it was found: method, confidence, draws, groups.
    """

    verdict: Verdict
    reasons: list[str]
    metric_name: str
    champion: float | None
    challenger: float
    low: float | None
    high: float | None
    classes: list[ClassChange]
    statistics: dict[str, int | float | str]


def judge_alone(candidate: Candidate, gates: Gates, *, task: Task, why: str) -> Judgement:
    """Judge a new model that has no champion to beat.

    Args:
        candidate: What is known of it.
        gates: What it has to pass.
        task: Names the main metric.
        why: Why there is no champion, a clause.
    """
    against = _problems(candidate, gates, MAIN_METRIC[task])
    passed = f"{why}; {MAIN_METRIC[task]} {candidate.metric:.4f} and the other absolute gates hold"
    return Judgement(
        verdict="reject" if against else "promote",
        reasons=against or [passed],
        metric_name=MAIN_METRIC[task],
        champion=None,
        challenger=candidate.metric,
        low=None,
        high=None,
        classes=[],
        statistics={},
    )


def judge(
    champion: Iterable[ImageResult],
    challenger: Iterable[ImageResult],
    candidate: Candidate,
    gates: Gates,
    *,
    task: Task,
    classes: Sequence[str],
    groups: Sequence[str],
    seed: int = 0,
) -> Judgement:
    """Judge a new model against the champion on the same images.

    Args:
        champion: Its results, in key order.
        challenger: The new model's.
        candidate: What else is known of the new model.
        gates: What it has to pass.
        task: What is measured.
        classes: C names in the order of their ids.
        groups: Groups of test images that neither model was trained on.
        seed: Of the bootstrap.
    """
    name = MAIN_METRIC[task]
    names = sorted(set(groups))
    if not names:
        problem = "the champion was trained on every group of the test split, so that nothing can be compared; add data"
        return _rejected([*_problems(candidate, gates, name), problem], name, candidate)
    before, after = (collect_scores(one, names, classes, task) for one in (champion, challenger))
    found = compare(before, after, len(names), confidence=gates.confidence, least_gain=gates.least_gain, seed=seed)
    changes = _changes(found, classes, gates.class_budget)
    against = _problems(candidate, gates, name)
    against += _gain_problems(found, gates, name)
    against += [_class_problem(one, CLASS_METRIC[task], gates) for one in changes if one.is_over_budget]
    return Judgement(
        verdict="reject" if against else "promote",
        reasons=against or [_praise(found, gates, name)],
        metric_name=name,
        champion=_number(found.champion),
        challenger=found.challenger,
        low=_number(found.low),
        high=_number(found.high),
        classes=changes,
        statistics={
            "method": METHOD,
            "class_metric": CLASS_METRIC[task],
            "confidence": gates.confidence,
            "least_gain": gates.least_gain,
            "class_budget": gates.class_budget,
            "draws": found.draw_count,
            "groups": found.group_count,
            "groups_that_differ": found.informative_count,
            "seed": seed,
        },
    )


def _praise(found: Comparison, gates: Gates, name: str) -> str:
    change = f"{name} of the champion {found.champion:.4f}, of the new model {found.challenger:.4f}"
    sure = (
        f"its change is above {found.low:+.4f} with {gates.confidence:.0%} confidence, {gates.least_gain:g} was asked"
    )
    return f"{change}; {sure} ({_groups(found.group_count)}); no class falls by more than {gates.class_budget:g}"


def _rejected(reasons: list[str], name: str, candidate: Candidate) -> Judgement:
    return Judgement("reject", reasons, name, None, candidate.metric, None, None, [], {})


def _problems(candidate: Candidate, gates: Gates, name: str) -> list[str]:
    """Return what speaks against the new model by itself; comparisons are written so that NaN never passes."""
    problems = []
    if not math.isfinite(candidate.metric):
        problems.append(f"{name} of the new model is {candidate.metric}, not a number; train it again")
    elif not candidate.metric >= gates.least_metric:
        problems.append(f"{name} {candidate.metric:.4f} is below promotion.least_metric {gates.least_metric:g}")
    if gates.most_p95_ms and candidate.p95_ms is None:
        problems.append("promotion.most_p95_ms is set, but the bundle was not benchmarked")
    elif gates.most_p95_ms and not (candidate.p95_ms or math.nan) <= gates.most_p95_ms:
        problems.append(
            f"95 % of the calls take up to {candidate.p95_ms:.1f} ms, more than promotion.most_p95_ms "
            f"{gates.most_p95_ms:g}"
        )
    if not candidate.is_parity_passed:
        what = "did not pass" if candidate.is_parity_passed is False else "is missing"
        problems.append(f"the parity certificate of the bundle {what}; export the model again")
    if candidate.is_leaky:
        problems.append("the split of the dataset leaks, so that its test flatters a model; use data.split_mode group")
    return problems


def _gain_problems(found: Comparison, gates: Gates, name: str) -> list[str]:
    values = f"champion {found.champion:.4f}, new model {found.challenger:.4f}"
    if not (math.isfinite(found.champion) and math.isfinite(found.challenger)):
        return [f"{name} cannot be taken on the compared images: {values}"]
    needed = least_groups(gates.confidence)
    counted = found.group_count if gates.least_gain else found.informative_count
    certain = f"{gates.confidence:.0%} confidence"
    if found.group_count < needed:
        problem = (
            f"the test split has {_groups(found.group_count)} to compare on; {certain} needs at least {needed}: add "
            f"clips or scenes, or raise data.test_fraction ({name}: {values})"
        )
    elif counted < needed:
        problem = (
            f"the two models differ on {_groups(counted)} of {found.group_count}, too few to tell which is better "
            f"({needed} are needed for {certain}; {name}: {values})"
        )
    elif not found.low > gates.least_gain:
        how = "is not better" if found.difference <= gates.least_gain else "may be better by chance"
        problem = (
            f"the new model {how}: {name} {values}; the change lies between {found.low:+.4f} and {found.high:+.4f} "
            f"({certain} on each side, {_groups(found.group_count)}), and must be above {gates.least_gain:g}"
        )
    else:
        return []
    return [problem]


def _class_problem(change: ClassChange, measure: str, gates: Gates) -> str:
    return (
        f"class {change.name} gets worse: {measure} falls from {change.champion:.4f} to {change.challenger:.4f}, more "
        f"than promotion.class_budget {gates.class_budget:g} (its change lies between {change.low:+.4f} and "
        f"{change.high:+.4f} in 90 % of the draws)"
    )


def _changes(found: Comparison, classes: Sequence[str], budget: float) -> list[ClassChange]:
    changes = []
    for number, name in enumerate(classes):
        before, after = float(found.class_champion[number]), float(found.class_challenger[number])
        changes.append(
            ClassChange(
                name=name,
                champion=_number(before),
                challenger=_number(after),
                low=_number(float(found.class_low[number])),
                high=_number(float(found.class_high[number])),
                # A hair's breadth for the rounding of 0.9 - 0.85.
                is_over_budget=before - after > budget + 1e-9,
            )
        )
    return changes


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _groups(count: int) -> str:
    return f"{count} group" + ("" if count == 1 else "s")
