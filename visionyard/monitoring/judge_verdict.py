"""What the judge says: the decision, the evidence, and both in words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from visionyard.monitoring.judge_config import JudgeConfig

Decision = Literal["promote", "hold", "roll_back"]


@dataclass(frozen=True)
class Evidence:
    """One kind of evidence at one moment.

    Attributes:
        name: `errors`, `latency_p50`, `latency_p99`, `confidence`, `confidences`, `classes`, `agreement`, `silence`.
        champion: Its figure in words; empty where the canary stands alone.
        canary: Its figure in words.
        against: E-value that the canary is beyond the budget, the largest so far.
        in_favour: E-value that it is within, now.
        deciding: The e-value `against` that rolls back.
        observation_count: Comparisons bet on.
        is_harmful: `against` has reached `deciding`.
        is_proven: The canary is within the budget as surely as was asked for.
    """

    name: str
    champion: str
    canary: str
    against: float
    in_favour: float
    deciding: float
    observation_count: int
    is_harmful: bool
    is_proven: bool


@dataclass(frozen=True)
class Verdict:
    """The decision and why.

    Attributes:
        decision: `promote`, `hold` or `roll_back`.
        reasons: One sentence each.
        evidence: Of all kinds.
        champion_count: Answers of the champion so far.
        canary_count: Answers of the canary.
        elapsed_s: Since the start.
    """

    decision: Decision
    reasons: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    champion_count: int
    canary_count: int
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the verdict that `to_json` described."""
        evidence = tuple(Evidence(**item) for item in values["evidence"])
        return cls(**{**values, "reasons": tuple(values["reasons"]), "evidence": evidence})


_EXPECTED = {
    "errors": "at most {error_increase} more of its answers may fail",
    "confidence": "the mean may be {confidence_drop} lower",
    "agreement": "at least {agreement_floor} on average",
    "silence": "at least {least_share} of its share {canary_share} of the requests",
    "latency_p50": "at most {latency_factor} times the champion's",
    "latency_p99": "at most {latency_factor} times the champion's, but for {tail_margin} of the requests",
    "classes": "a distance of at most {class_shift}",
    "confidences": "a distance of at most {confidence_shift}",
}


def word(name: str, value: float | None) -> str:
    """Return a figure of the evidence `name` in words; latencies come in seconds."""
    if value is None:
        return ""
    if name.startswith("latency"):
        return f"{value * 1000:.1f} ms"
    return f"{value:.1%}".replace("%", " %") if name in ("errors", "silence") else f"{value:.3f}"


def sentence(item: Evidence, counts: Mapping[str, int], config: JudgeConfig) -> str:
    """Say which evidence, its value, what was expected, and after how many answers."""
    shown = f"canary {item.canary or 'without a figure'}"
    if item.champion:
        shown += f", champion {item.champion}"
    expected = _EXPECTED[item.name].format_map(vars(config))
    if item.is_harmful:
        strength = f"e-value {item.against:.0f} against it, {item.deciding:.0f} decides"
    else:
        strength = f"e-value {item.against:.2g} against it and {item.in_favour:.3g} for it"
    return (
        f"{item.name}: {shown}; {expected}; {strength}, "
        f"after {counts['canary']} answers of the canary and {counts['champion']} of the champion"
    )


def reasons_to_hold(
    evidence: Sequence[Evidence],
    counts: Mapping[str, int],
    drifted: Mapping[str, Mapping[str, float]],
    config: JudgeConfig,
    elapsed_s: float,
) -> list[str]:
    """Return what is still lacking for a promotion; empty when nothing is."""
    if not counts["canary"] and not counts["champion"]:
        return ["no traffic: neither champion nor canary has answered yet"]
    lacking = []
    if counts["canary"] < config.min_observations:
        lacking.append(f"{counts['canary']} answers of the canary, expected at least {config.min_observations}")
    if elapsed_s < config.min_duration_s:
        lacking.append(f"{elapsed_s:.0f} s of traffic, expected at least {config.min_duration_s:.0f} s")
    if drifted["canary"]:
        named = ", ".join(f"{name} {value:.3g}" for name, value in sorted(drifted["canary"].items()))
        also = "the champion's drifted too" if drifted["champion"] else "the champion's did not"
        lacking.append(f"drift: the canary's pictures or answers left its reference ({named}); {also}")
    lacking += [sentence(item, counts, config) for item in evidence if not item.is_proven and _is_needed(item)]
    return lacking


def _is_needed(item: Evidence) -> bool:
    """Images without any object leave nothing to say on confidence, and must not hold a canary forever."""
    return item.name != "confidence" or item.observation_count > 0
