"""How soon the judge finds a worse canary, and how often it keeps an equal one, by simulation.

    python benchmarks/canary.py [--runs 200]

Simulates 50 requests/s of a ten-class model: log-normal latencies (median 20 ms, sigma 0.3), confidences of a beta
distribution (mean 0.9), 1 % errors. A canary is worse in one way from its first request on; the judge is asked once a
second. Prints a Markdown table of the share of runs rolled back within 60 s (3,000 requests) and the median time to
it, and for equal canaries the shares promoted and rolled back within ten minutes (30,000 requests). Seeds are 0, 1, 2
and so on; about three minutes on one core with 40 runs.
"""

import argparse
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from visionyard.monitoring.judge import Answer, Judge
from visionyard.monitoring.judge_config import JudgeConfig
from visionyard.monitoring.judge_verdict import Verdict

REQUESTS_PER_S = 50
CLASSES = 10


@dataclass(frozen=True)
class Model:
    """How a simulated model answers.

    Attributes:
        error_rate: Share of requests that fail.
        latency_factor: On every latency.
        tail_rate: Share of requests that take ten times as long.
        confidence: Mean confidence.
        agreement: Share of images on which it says what the champion says (shadow).
        collapse: Share of images that it calls class 0 whatever they are.
        nan_rate: Share of answers whose confidence is not a number.
        is_silent: It never answers.
    """

    error_rate: float = 0.01
    latency_factor: float = 1.0
    tail_rate: float = 0.0
    confidence: float = 0.9
    agreement: float = 0.97
    collapse: float = 0.0
    nan_rate: float = 0.0
    is_silent: bool = False

    def answer(self, rng: random.Random) -> Answer:
        """Return an answer to a random image."""
        if rng.random() < self.error_rate:
            return Answer(is_error=True)
        slow = 10.0 if rng.random() < self.tail_rate else 1.0
        confidence = (
            math.nan if rng.random() < self.nan_rate else rng.betavariate(self.confidence * 9, 9 - self.confidence * 9)
        )
        class_id = 0 if rng.random() < self.collapse else rng.randrange(CLASSES)
        return Answer(0.02 * self.latency_factor * slow * rng.lognormvariate(0, 0.3), False, confidence, class_id)


EQUAL = Model()
WORSE = {
    "errors +5 points": Model(error_rate=0.06),
    "latency x2": Model(latency_factor=2.0),
    "5 % of answers x10 slower": Model(tail_rate=0.05),
    "confidence 0.9 to 0.8": Model(confidence=0.8),
    "half of all images class 0": Model(collapse=0.5),
    "only class 0": Model(collapse=1.0),
    "5 % confidences not a number": Model(nan_rate=0.05),
    "no answer": Model(is_silent=True),
}
WORSE_SHADOW = {**WORSE, "agreement 0.97 to 0.80": Model(agreement=0.8)}


def simulate(
    canary: Model,
    config: JudgeConfig,
    *,
    seed: int,
    duration_s: int = 60,
    champion: Model = EQUAL,
    mirrored: float = 1.0,
    restart: Callable[[Judge], Judge] = lambda judge: judge,
) -> Verdict:
    """Return the first verdict that is not `hold`, or the one at the end.

    Args:
        canary: How it answers.
        config: Its mode decides split or shadow.
        seed: Of all draws.
        duration_s: Of the traffic, at 50 requests/s.
        champion: How it answers.
        mirrored: Shadow: share of the requests that both answer.
        restart: Called once a second; returns the judge to go on with.
    """
    rng, judge = random.Random(seed), Judge(config, started_s=0.0)
    verdict = judge.decide(0.0)
    for second in range(duration_s):
        for _ in range(REQUESTS_PER_S):
            if config.mode == "shadow":
                if rng.random() < mirrored:
                    _pair(judge, champion, canary, rng)
            elif rng.random() >= config.canary_share:
                judge.observe(champion.answer(rng), arm="champion")
            elif not canary.is_silent:
                judge.observe(canary.answer(rng), arm="canary")
        judge = restart(judge)
        verdict = judge.decide(second + 1.0)
        if verdict.decision != "hold":
            break
    return verdict


def _pair(judge: Judge, champion: Model, canary: Model, rng: random.Random) -> None:
    first, second = champion.answer(rng), None if canary.is_silent else canary.answer(rng)
    same = 1.0 if rng.random() < canary.agreement else 0.0
    if second is not None and canary.collapse == 0:
        second = replace(second, class_id=first.class_id)
    judge.observe_pair(first, second, agreement=None if first.is_failed or not second or second.is_failed else same)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    traffics: dict[str, tuple[JudgeConfig, float, dict[str, Model]]] = {
        f"split, {share:.0%} to the canary": (JudgeConfig(canary_share=share), 1.0, WORSE) for share in (0.1, 0.25, 0.5)
    }
    traffics |= {
        f"shadow, {share:.0%} mirrored": (JudgeConfig(mode="shadow"), share, WORSE_SHADOW) for share in (0.25, 1.0)
    }
    print("| traffic | canary | rolled back in 60 s | median s |\n| --- | --- | ---: | ---: |")
    for traffic, (config, mirrored, worse) in traffics.items():
        for kind, canary in worse.items():
            found = [simulate(canary, config, seed=seed, mirrored=mirrored) for seed in range(runs)]
            times = [verdict.elapsed_s for verdict in found if verdict.decision == "roll_back"]
            median = f"{statistics.median(times):.0f}" if times else "-"
            print(f"| {traffic} | {kind} | {len(times) / runs:.1%} | {median} |", flush=True)
    print("\n| traffic | equal canary, ten minutes: promoted | rolled back | median s to promotion |")
    print("| --- | ---: | ---: | ---: |")
    for traffic, (config, mirrored, _) in traffics.items():
        ends = [simulate(EQUAL, config, seed=seed, duration_s=600, mirrored=mirrored) for seed in range(runs)]
        promoted = [verdict.elapsed_s for verdict in ends if verdict.decision == "promote"]
        back = sum(verdict.decision == "roll_back" for verdict in ends)
        median = f"{statistics.median(promoted):.0f}" if promoted else "-"
        print(f"| {traffic} | {len(promoted) / runs:.1%} | {back / runs:.1%} | {median} |", flush=True)


if __name__ == "__main__":
    main()
