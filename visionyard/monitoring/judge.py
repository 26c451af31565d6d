"""The judge of a canary: observations in, `promote`, `hold` or `roll_back` out, with reasons in words.

It compares a champion and its canary on split traffic (each answers other requests) or shadow traffic (both answer the
same image) by errors, latency, confidence, classes, agreement and silence, and may be asked at any time and as often as
one likes: its evidence is always valid (see judge_betting.py). It reads no clock and does no input or output; what it
remembers has a fixed size and goes through JSON, so a restarted judge goes on where it was.

    judge = Judge(JudgeConfig(canary_share=0.2), started_s=time.time())
    judge.observe(Answer(latency_s=0.012, confidence=0.93, class_id=7), arm="canary")
    verdict = judge.decide(time.time())
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from visionyard.errors import ArtifactError, ConfigError
from visionyard.monitoring.judge_betting import Contrast
from visionyard.monitoring.judge_config import JudgeConfig
from visionyard.monitoring.judge_evidence import (
    EvidenceSource,
    LatencySketch,
    MeanEvidence,
    MixEvidence,
    TailEvidence,
    Traffic,
)
from visionyard.monitoring.judge_verdict import Decision, Evidence, Verdict, reasons_to_hold, sentence, word

Arm = Literal["champion", "canary"]

SCHEMA_VERSION = 1
_CONFIDENCE_BINS = 10
# Softmax in float32 sums to a little more than 1.
_ROUNDING = 1e-3
# Errors are the rarest evidence and the worst harm: they get this part of the probability of being wrong, others 1.
_PARTS = {"errors": 4}
# A canary with this e-value is not promoted although it is not rolled back either: three to one against it.
_SUSPICIOUS = 3.0


@dataclass(frozen=True)
class Answer:
    """What the judge knows of one request to one arm.

    Attributes:
        latency_s: From request to answer, at least 0; not looked at when `is_error`.
        is_error: No answer came, too late, or with a server error.
        confidence: Of the class, or of the surest box, in [0, 1]; None when nothing was found. One that is not a number
            or outside makes the answer an error.
        class_id: Of the class, or of the surest box; None when nothing was found.
    """

    latency_s: float = 0.0
    is_error: bool = False
    confidence: float | None = None
    class_id: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.latency_s < math.inf:
            raise ConfigError(f"latency_s {self.latency_s!r}: expected seconds, 0 or more")

    @property
    def is_failed(self) -> bool:
        """It is an error, or its confidence is none."""
        return self.is_error or not (self.confidence is None or 0 <= self.confidence <= 1 + _ROUNDING)

    @property
    def has_confidence(self) -> bool:
        """It is an answer, and something was found."""
        return self.confidence is not None and not self.is_failed


class Judge:
    """Champion against canary; see the module.

    Args:
        config: The budgets.
        started_s: When the canary got its first traffic, by the caller's clock; take one that survives restarts.
    """

    def __init__(self, config: JudgeConfig, *, started_s: float) -> None:
        self.config = config
        self.started_s = started_s
        self._counts = {"champion": 0, "canary": 0}
        self._latencies = {"champion": LatencySketch(), "canary": LatencySketch()}
        traffic = _traffic(config)
        alone = Traffic(champion_count=0, is_paired=False)
        self._means = {
            "errors": MeanEvidence(config.error_increase, traffic),
            "confidence": MeanEvidence(config.confidence_drop, traffic),
        }
        if config.mode == "shadow":
            self._means["agreement"] = MeanEvidence(1 - config.agreement_floor, alone)
        else:
            self._means["silence"] = MeanEvidence(1 - config.least_share * config.canary_share, alone)
        self._tails = {
            "latency_p50": TailEvidence(0.50, config.latency_factor, 0.0, traffic),
            "latency_p99": TailEvidence(0.99, config.latency_factor, config.tail_margin, traffic),
        }
        self._mixes = {
            "classes": MixEvidence(config.class_shift, traffic),
            "confidences": MixEvidence(config.confidence_shift, traffic),
        }
        self._drifted: dict[str, dict[str, float]] = {"champion": {}, "canary": {}}
        self._final: Verdict | None = None

    def observe(self, answer: Answer, *, arm: Arm) -> None:
        """Take an answer of split traffic.

        Raises:
            ConfigError: The mode is shadow.
        """
        self._expect("split", "observe_pair")
        # The value is 1 for each request that did not go to the canary: silence is too many of them.
        self._means["silence"].add(float(arm == "champion"), is_canary=True)
        self._add(answer, arm)

    def observe_pair(self, champion: Answer, canary: Answer | None, *, agreement: float | None = None) -> None:
        """Take both answers to one image.

        Args:
            champion: Its answer.
            canary: Its answer; None when none came, which is an error of it.
            agreement: How much of the two predictions is the same, in [0, 1] (see judge_answers.py); None when one of
                them failed.

        Raises:
            ConfigError: The mode is split, or `agreement` is outside [0, 1].
        """
        self._expect("shadow", "observe")
        if agreement is not None and not 0 <= agreement <= 1:
            raise ConfigError(f"agreement {agreement!r}: expected a number in [0, 1]")
        answer = canary or Answer(is_error=True)
        if agreement is not None and not champion.is_failed and not answer.is_failed:
            self._means["agreement"].add(1 - agreement, is_canary=True)
        # Confidences are compared image by image, so one without its counterpart would shift all later pairs.
        is_shared = champion.has_confidence and answer.has_confidence
        self._add(champion, "champion", is_confidence_shared=is_shared)
        self._add(answer, "canary", is_confidence_shared=is_shared)

    def observe_drift(self, arm: Arm, drifted: Mapping[str, float]) -> None:
        """Take what an arm's drift monitor says now; it replaces what it said before.

        A drifted canary is not promoted. It is not rolled back for that either: drift compares with the bundle's own
        reference, so pictures that changed for both arms would bring it about.

        Args:
            arm: Whose monitor.
            drifted: Statistic of each feature that drifted; empty when none did.
        """
        self._drifted[arm] = {name: float(value) for name, value in drifted.items()}

    def decide(self, now_s: float) -> Verdict:
        """Return the verdict at a time; one that is not `hold` is final.

        Args:
            now_s: By the clock of `started_s`.
        """
        if self._final is not None:
            return self._final
        evidence = self._evidence()
        elapsed_s = max(0.0, now_s - self.started_s)
        decision, reasons = self._weigh(evidence, elapsed_s)
        verdict = Verdict(
            decision, reasons, evidence, self._counts["champion"], self._counts["canary"], round(elapsed_s, 3)
        )
        if decision != "hold":
            self._final = verdict
        return verdict

    def to_json(self) -> str:
        """Return everything the judge knows; its size does not grow with the number of answers."""
        state = {
            "schema_version": SCHEMA_VERSION,
            "config": asdict(self.config),
            "started_s": self.started_s,
            "counts": self._counts,
            "latencies": {arm: sketch.to_json() for arm, sketch in self._latencies.items()},
            "sources": {name: source.to_json() for name, source in self._sources().items()},
            "drifted": self._drifted,
            "final": self._final.to_json() if self._final else None,
        }
        return json.dumps(state, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the judge that `to_json` described.

        Raises:
            ArtifactError: It is not such a text, or of another version.
        """
        try:
            state: dict[str, Any] = json.loads(text)
            version = state["schema_version"]
            if version != SCHEMA_VERSION:
                raise ArtifactError(f"judge: schema_version {version!r}, expected {SCHEMA_VERSION}; start a new judge")
            judge = cls(JudgeConfig(**state["config"]), started_s=float(state["started_s"]))
            judge._restore(state)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise ArtifactError(f"judge: not a state written by to_json ({error!r}); start a new judge") from None
        return judge

    def _restore(self, state: dict[str, Any]) -> None:
        self._counts = {arm: int(state["counts"][arm]) for arm in self._counts}
        self._latencies = {arm: LatencySketch(state["latencies"][arm]) for arm in self._latencies}
        for name, source in self._sources().items():
            source.restore(state["sources"][name])
        self._drifted = {arm: dict(state["drifted"][arm]) for arm in self._drifted}
        self._final = Verdict.from_json(state["final"]) if state["final"] else None

    def _expect(self, mode: str, other: str) -> None:
        if self.config.mode != mode:
            raise ConfigError(f"mode {self.config.mode!r}: expected {mode!r} for this; call {other}")

    def _add(self, answer: Answer, arm: Arm, *, is_confidence_shared: bool = True) -> None:
        is_canary = arm == "canary"
        self._counts[arm] += 1
        self._means["errors"].add(float(answer.is_failed), is_canary=is_canary)
        if answer.is_failed:
            return
        for tail in self._tails.values():
            tail.add(answer.latency_s, is_canary=is_canary)
        self._latencies[arm].add(answer.latency_s)
        self._mixes["classes"].add(str(answer.class_id), is_canary=is_canary)
        if answer.confidence is not None and is_confidence_shared:
            confidence = min(answer.confidence, 1.0)
            self._means["confidence"].add(1 - confidence, is_canary=is_canary)
            cell = min(int(confidence * _CONFIDENCE_BINS), _CONFIDENCE_BINS - 1)
            self._mixes["confidences"].add(str(cell), is_canary=is_canary)

    def _weigh(self, evidence: tuple[Evidence, ...], elapsed_s: float) -> tuple[Decision, tuple[str, ...]]:
        harmful = [item for item in evidence if item.is_harmful]
        if harmful:
            return "roll_back", tuple(sentence(item, self._counts, self.config) for item in harmful)
        lacking = reasons_to_hold(evidence, self._counts, self._drifted, self.config, elapsed_s)
        if not lacking:
            return "promote", tuple(sentence(item, self._counts, self.config) for item in evidence if item.is_proven)
        if elapsed_s >= self.config.max_duration_s:
            late = f"undecided after {elapsed_s:.0f} s, the most that was given"
            return self.config.at_timeout, (late, *lacking)
        return "hold", tuple(lacking)

    def _sources(self) -> dict[str, EvidenceSource]:
        return {**self._means, **self._tails, **self._mixes}

    def _evidence(self) -> tuple[Evidence, ...]:
        return tuple(self._of(name, source.contrast) for name, source in self._sources().items())

    def _of(self, name: str, contrast: Contrast) -> Evidence:
        champion, canary = self._figures(name)
        # The kinds share the probability of being wrong, so that the sum holds.
        parts = {source: _PARTS.get(source, 1) for source in self._sources()}
        deciding = sum(parts.values()) / parts[name] / self.config.wrong_rollback
        if name in self._mixes:
            # No single set of cells can show that all sets are alike; that nothing speaks against it must do.
            is_proven = contrast.against.e_value < _SUSPICIOUS
        else:
            is_proven = contrast.in_favour.e_value >= 1 / self.config.wrong_promotion
        return Evidence(
            name=name,
            champion=word(name, champion),
            canary=word(name, canary),
            against=contrast.against.peak,
            in_favour=contrast.in_favour.e_value,
            deciding=deciding,
            observation_count=contrast.against.bet_count,
            is_harmful=contrast.against.peak >= deciding,
            is_proven=is_proven,
        )

    def _figures(self, name: str) -> tuple[float | None, float | None]:
        """Return what a person would compare, champion's and canary's."""
        if name in self._tails:
            level = self._tails[name].level
            return self._latencies["champion"].quantile(level), self._latencies["canary"].quantile(level)
        if name in self._mixes:
            return None, self._mixes[name].distance()
        champion, canary = (self._means[name].mean(is_canary=is_canary) for is_canary in (False, True))
        if name == "errors":
            return champion, canary
        # The others are kept as how much is missing.
        return None if champion is None else 1 - champion, None if canary is None else 1 - canary


def _traffic(config: JudgeConfig) -> Traffic:
    if config.mode == "shadow":
        return Traffic(champion_count=1, is_paired=True)
    return Traffic(champion_count=max(1, round(1 / config.canary_share) - 1), is_paired=False)
