"""What a canary is allowed: the budgets by which the judge decides."""

import math
from dataclasses import dataclass
from typing import Literal

from visionyard.errors import ConfigError

Mode = Literal["split", "shadow"]


@dataclass(frozen=True)
class JudgeConfig:
    """Budgets of a canary against its champion.

    The defaults of the budgets are choices, not findings: what a team may lose without noticing. A canary exactly at
    a budget counts as good.

    Attributes:
        mode: `split`: each request is answered by one of the two. `shadow`: both answer the same image.
        canary_share: Split only: the canary's share of the requests, in (0, 1). At 50 requests/s a quarter shows five
            points more errors within 60 s in more than 95 of 100 runs, a tenth in about 70 (benchmarks/canary.py).
        error_increase: Errors (an answer that is not a number counts) of the canary beyond the champion's, as a share
            of its requests, in (0, 1).
        latency_factor: The canary's latencies may be this many times the champion's, at least 1.
        tail_margin: Share of its requests by which the canary may be beyond `latency_factor` times the champion's
            99th percentile more often than the champion is beyond that percentile, in (0, 1).
        agreement_floor: Shadow only: least mean agreement, in (0, 1).
        confidence_drop: Of the mean confidence, in (0, 1).
        confidence_shift: Total variation distance of the confidences in ten bins, in (0, 1). Wide: another model may
            well be surer or less sure of itself.
        class_shift: Total variation distance of the classes answered, "nothing found" being one, in (0, 1).
        least_share: Split only: of its `canary_share`, what the canary must answer not to count as silent, in (0, 1).
        min_observations: Answers of the canary before it can be promoted.
        min_duration_s: Time before it can be promoted: some faults come with age.
        max_duration_s: After this the verdict is `at_timeout`, with the reason.
        at_timeout: `hold` leaves the choice to a person; `roll_back` frees the canary's resources.
        wrong_rollback: Probability that a canary within all budgets is ever rolled back, at most; in (0, 1).
        wrong_promotion: Probability that one beyond a budget is ever promoted, at most; in (0, 1).
    """

    mode: Mode = "split"
    canary_share: float = 0.25
    error_increase: float = 0.01
    latency_factor: float = 1.25
    tail_margin: float = 0.01
    agreement_floor: float = 0.9
    confidence_drop: float = 0.05
    confidence_shift: float = 0.4
    class_shift: float = 0.2
    least_share: float = 0.1
    min_observations: int = 300
    min_duration_s: float = 60.0
    max_duration_s: float = 3600.0
    at_timeout: Literal["hold", "roll_back"] = "hold"
    wrong_rollback: float = 0.05
    wrong_promotion: float = 0.05

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)!r}: expected more than 0 and less than 1"
            for name in (
                *("canary_share", "error_increase", "tail_margin", "agreement_floor", "confidence_drop"),
                *("confidence_shift", "class_shift", "least_share", "wrong_rollback", "wrong_promotion"),
            )
            if not 0 < getattr(self, name) < 1
        ]
        if self.mode not in ("split", "shadow"):
            problems.append(f"mode {self.mode!r}: expected split or shadow")
        if self.at_timeout not in ("hold", "roll_back"):
            problems.append(f"at_timeout {self.at_timeout!r}: expected hold or roll_back")
        if not 1 <= self.latency_factor < math.inf:
            problems.append(f"latency_factor {self.latency_factor!r}: expected at least 1")
        if self.min_observations < 1:
            problems.append(f"min_observations {self.min_observations!r}: expected at least 1")
        if not 0 <= self.min_duration_s < self.max_duration_s < math.inf:
            problems.append(
                f"min_duration_s {self.min_duration_s!r} and max_duration_s {self.max_duration_s!r}: expected 0 or "
                "more, and the second beyond the first"
            )
        if problems:
            raise ConfigError(problems)
