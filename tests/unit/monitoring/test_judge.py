"""The judge: a worse canary is rolled back within 60 s, an equal one is kept; by simulation with fixed seeds.

The traffic comes from benchmarks/canary.py: 50 requests/s, a quarter of them to the canary or all mirrored.
"""

import importlib.util
import json
import math
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from visionyard.errors import ArtifactError, ConfigError
from visionyard.monitoring.judge import Answer, Judge
from visionyard.monitoring.judge_config import JudgeConfig

SPLIT = JudgeConfig()
SHADOW = JudgeConfig(mode="shadow")
RUNS = 20


@pytest.fixture(scope="module")
def traffic() -> Iterator[ModuleType]:
    path = Path(__file__).parents[3] / "benchmarks" / "canary.py"
    spec = importlib.util.spec_from_file_location("canary_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def verdicts(
    traffic: ModuleType, canary: dict[str, Any], config: JudgeConfig, *, runs: int = RUNS, **options: Any
) -> list[Any]:
    return [traffic.simulate(traffic.Model(**canary), config, seed=seed, **options) for seed in range(runs)]


@pytest.mark.parametrize("config", [SPLIT, SHADOW], ids=["split", "shadow"])
@pytest.mark.parametrize(
    ("canary", "named", "least"),
    [
        pytest.param({"error_rate": 0.06}, "errors", 0.95, id="errors +5 points"),
        pytest.param({"nan_rate": 0.05}, "errors", 0.95, id="confidences not a number"),
        pytest.param({"latency_factor": 2.0}, "latency_p50", 1.0, id="latency x2"),
        pytest.param({"confidence": 0.8}, "confidence", 1.0, id="confidence drop"),
        pytest.param({"collapse": 1.0}, "classes", 1.0, id="one class only"),
        pytest.param({"collapse": 0.5}, "classes", 1.0, id="half of them one class"),
    ],
)
def test_a_worse_canary_is_rolled_back_within_60_s(
    traffic: ModuleType, config: JudgeConfig, canary: dict[str, Any], named: str, least: float
) -> None:
    found = verdicts(traffic, canary, config)
    rolled_back = [verdict for verdict in found if verdict.decision == "roll_back"]
    assert len(rolled_back) / len(found) >= least
    assert all(verdict.elapsed_s <= 60 for verdict in rolled_back)
    right = [any(reason.startswith(f"{named}:") for reason in verdict.reasons) for verdict in rolled_back]
    assert sum(right) / len(right) >= 0.9


@pytest.mark.parametrize("mirrored", [1.0, 0.25], ids=["all mirrored", "a quarter mirrored"])
def test_a_canary_that_agrees_too_little_is_rolled_back_within_60_s(traffic: ModuleType, mirrored: float) -> None:
    found = verdicts(traffic, {"agreement": 0.8}, SHADOW, mirrored=mirrored)
    assert {verdict.decision for verdict in found} == {"roll_back"}
    assert all(verdict.reasons[0].startswith("agreement: canary 0.") for verdict in found)


@pytest.mark.parametrize("config", [SPLIT, SHADOW], ids=["split", "shadow"])
def test_a_canary_that_never_answers_is_rolled_back(traffic: ModuleType, config: JudgeConfig) -> None:
    found = verdicts(traffic, {"is_silent": True}, config)
    assert {verdict.decision for verdict in found} == {"roll_back"}
    named = "silence" if config is SPLIT else "errors"
    assert all(verdict.reasons[0].startswith(f"{named}:") for verdict in found)


@pytest.mark.parametrize("config", [SPLIT, SHADOW], ids=["split", "shadow"])
def test_an_equal_canary_is_promoted_within_ten_minutes_and_not_rolled_back(
    traffic: ModuleType, config: JudgeConfig
) -> None:
    found = verdicts(traffic, {}, config, runs=8, duration_s=600)
    assert "roll_back" not in {verdict.decision for verdict in found}
    promoted = [verdict for verdict in found if verdict.decision == "promote"]
    assert len(promoted) / len(found) >= 0.95
    assert all(verdict.elapsed_s >= config.min_duration_s for verdict in promoted)
    assert {reason.split(":")[0] for reason in promoted[0].reasons} >= {"errors", "latency_p99", "confidence"}


@pytest.mark.parametrize(
    "canary",
    [
        pytest.param({"error_rate": 0.02}, id="errors"),
        pytest.param({"latency_factor": 1.25}, id="latency"),
        pytest.param({"confidence": 0.85}, id="confidence"),
        pytest.param({"collapse": 0.22}, id="classes"),
    ],
)
def test_a_canary_exactly_at_a_budget_is_kept(traffic: ModuleType, canary: dict[str, Any]) -> None:
    found = verdicts(traffic, canary, SPLIT, runs=10, duration_s=60)
    assert sum(verdict.decision == "roll_back" for verdict in found) <= 1


@pytest.mark.parametrize(
    "canary",
    [{"error_rate": 0.03}, {"latency_factor": 1.35}, {"confidence": 0.84}],
    ids=["errors", "latency", "confidence"],
)
def test_a_canary_slightly_beyond_a_budget_is_not_promoted(traffic: ModuleType, canary: dict[str, Any]) -> None:
    found = verdicts(traffic, canary, SPLIT, runs=6, duration_s=100)
    assert sum(verdict.decision == "promote" for verdict in found) <= 1


def test_a_canary_that_breaks_after_five_good_minutes_is_rolled_back_within_another(traffic: ModuleType) -> None:
    rng, config = random.Random(5), JudgeConfig(min_duration_s=3000.0)
    judge, broken = Judge(config, started_s=0.0), traffic.Model(latency_factor=2.0)
    for number in range(300 * 50):
        arm, model = ("canary", traffic.EQUAL) if number % 4 == 0 else ("champion", traffic.EQUAL)
        judge.observe(model.answer(rng), arm=arm)
    assert judge.decide(300.0).decision == "hold"
    for number in range(60 * 50):
        is_canary = number % 4 == 0
        judge.observe((broken if is_canary else traffic.EQUAL).answer(rng), arm="canary" if is_canary else "champion")
    assert judge.decide(360.0).decision == "roll_back"


def test_load_that_slows_both_arms_is_not_held_against_the_canary(traffic: ModuleType) -> None:
    """Latencies swing by a factor of five within each minute."""
    rng, judge = random.Random(3), Judge(SPLIT, started_s=0.0)
    for number in range(12_000):
        slow = 3 + 2 * math.sin(2 * math.pi * number / 3000)
        model = traffic.Model(latency_factor=slow)
        judge.observe(model.answer(rng), arm="canary" if rng.random() < 0.25 else "champion")
    assert judge.decide(240.0).decision != "roll_back"


def test_no_traffic_is_held_and_said_so() -> None:
    verdict = Judge(SPLIT, started_s=100.0).decide(160.0)
    assert verdict.decision == "hold"
    assert verdict.reasons == ("no traffic: neither champion nor canary has answered yet",)


@pytest.mark.parametrize("at_timeout", ["hold", "roll_back"])
def test_after_the_longest_duration_the_configured_word_comes_with_the_reason(at_timeout: Any) -> None:
    judge = Judge(JudgeConfig(at_timeout=at_timeout, max_duration_s=300.0), started_s=0.0)
    assert judge.decide(299.0).decision == "hold"
    verdict = judge.decide(300.0)
    assert verdict.decision == at_timeout
    assert verdict.reasons[0] == "undecided after 300 s, the most that was given"


@pytest.mark.parametrize("config", [SPLIT, SHADOW], ids=["split", "shadow"])
def test_a_judge_restarted_every_second_says_the_same(traffic: ModuleType, config: JudgeConfig) -> None:
    canary = traffic.Model(error_rate=0.06)

    def restart(judge: Judge) -> Judge:
        return Judge.from_json(judge.to_json())

    for seed in range(3):
        plain = traffic.simulate(canary, config, seed=seed)
        assert traffic.simulate(canary, config, seed=seed, restart=restart) == plain


def test_a_final_verdict_stays_after_better_times_and_a_restart(traffic: ModuleType) -> None:
    judge, rng = Judge(SPLIT, started_s=0.0), random.Random(1)
    for _ in range(400):
        judge.observe(Answer(is_error=True), arm="canary")
        judge.observe(traffic.EQUAL.answer(rng), arm="champion")
    first = judge.decide(8.0)
    assert first.decision == "roll_back"
    for _ in range(2000):
        judge.observe(traffic.EQUAL.answer(rng), arm="canary")
        judge.observe(traffic.EQUAL.answer(rng), arm="champion")
    assert judge.decide(100.0) == first
    assert Judge.from_json(judge.to_json()).decide(200.0) == first


def test_the_state_does_not_grow(traffic: ModuleType) -> None:
    judge, rng = Judge(SPLIT, started_s=0.0), random.Random(2)

    def feed(count: int) -> int:
        for number in range(count):
            answer = Answer(rng.random(), confidence=rng.random(), class_id=rng.randrange(10**9))
            judge.observe(answer, arm="canary" if number % 4 == 0 else "champion")
        return len(judge.to_json())

    assert feed(8000) > 0.9 * feed(8000)
    assert len(judge.to_json()) < 300_000


def test_the_reasons_name_figures_budget_and_counts() -> None:
    judge = Judge(SPLIT, started_s=0.0)
    for _ in range(100):
        judge.observe(Answer(is_error=True), arm="canary")
        for _ in range(3):
            judge.observe(Answer(0.02, confidence=0.9, class_id=1), arm="champion")
    verdict = judge.decide(8.0)
    assert verdict.decision == "roll_back"
    assert verdict.reasons[0].startswith(
        "errors: canary 100.0 %, champion 0.0 %; at most 0.01 more of its answers may fail; e-value "
    )
    assert verdict.reasons[0].endswith("after 100 answers of the canary and 300 of the champion")
    assert json.loads(json.dumps(verdict.to_json()))["decision"] == "roll_back"


def test_drift_of_the_canary_withholds_the_promotion_only(traffic: ModuleType) -> None:
    judge, rng = Judge(SPLIT, started_s=0.0), random.Random(0)
    for number in range(20_000):
        judge.observe(traffic.EQUAL.answer(rng), arm="canary" if number % 4 == 0 else "champion")
    judge.observe_drift("canary", {"brightness": 0.41})
    held = judge.decide(400.0)
    assert held.decision == "hold"
    assert held.reasons == (
        "drift: the canary's pictures or answers left its reference (brightness 0.41); the champion's did not",
    )
    judge.observe_drift("canary", {})
    assert judge.decide(401.0).decision == "promote"


def test_images_without_any_object_do_not_hold_a_canary_forever() -> None:
    judge = Judge(SPLIT, started_s=0.0)
    rng = random.Random(0)
    for number in range(20_000):
        answer = Answer(0.02 * rng.lognormvariate(0, 0.3))
        judge.observe(answer, arm="canary" if number % 4 == 0 else "champion")
    assert judge.decide(400.0).decision == "promote"


def test_a_detector_that_finds_nothing_any_more_is_rolled_back() -> None:
    judge = Judge(SPLIT, started_s=0.0)
    for number in range(400):
        is_canary = number % 4 == 0
        answer = Answer(0.02) if is_canary else Answer(0.02, confidence=0.8, class_id=number % 5)
        judge.observe(answer, arm="canary" if is_canary else "champion")
    verdict = judge.decide(8.0)
    assert verdict.decision == "roll_back"
    assert verdict.reasons[0].startswith("classes: canary 1.000; a distance of at most 0.2")


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf, -0.1, 1.5])
def test_a_confidence_that_is_none_is_a_failure(confidence: float) -> None:
    assert Answer(0.1, confidence=confidence, class_id=1).is_failed


@pytest.mark.parametrize("confidence", [None, 0.0, 1.0, 1.0000002], ids=["none", "0", "1", "rounded"])
def test_a_confidence_at_the_border_is_none(confidence: float | None) -> None:
    assert not Answer(0.1, confidence=confidence, class_id=1).is_failed


@pytest.mark.parametrize("latency_s", [math.nan, math.inf, -1.0])
def test_a_latency_that_is_none_is_refused(latency_s: float) -> None:
    with pytest.raises(ConfigError, match=r"latency_s (nan|inf|-1.0): expected seconds"):
        Answer(latency_s)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"canary_share": 0.0}, "canary_share 0.0: expected more than 0"),
        ({"error_increase": math.nan}, "error_increase nan: expected more than 0"),
        ({"agreement_floor": 1.0}, "agreement_floor 1.0: expected more than 0 and less than 1"),
        ({"latency_factor": 0.5}, "latency_factor 0.5: expected at least 1"),
        ({"min_observations": 0}, "min_observations 0: expected at least 1"),
        ({"min_duration_s": 60.0, "max_duration_s": 30.0}, r"max_duration_s 30.0: expected 0 or more"),
        ({"mode": "both"}, "mode 'both': expected split or shadow"),
        ({"at_timeout": "promote"}, "at_timeout 'promote': expected hold or roll_back"),
    ],
)
def test_a_wrong_budget_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        JudgeConfig(**values)


def test_all_wrong_budgets_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        JudgeConfig(canary_share=2.0, latency_factor=0.1, min_observations=0)
    assert len(caught.value.problems) == 3


def test_each_mode_takes_its_own_observations() -> None:
    with pytest.raises(ConfigError, match="mode 'shadow': expected 'split' for this; call observe_pair"):
        Judge(SHADOW, started_s=0.0).observe(Answer(0.1), arm="canary")
    with pytest.raises(ConfigError, match="mode 'split': expected 'shadow' for this; call observe"):
        Judge(SPLIT, started_s=0.0).observe_pair(Answer(0.1), Answer(0.1), agreement=1.0)


@pytest.mark.parametrize("agreement", [math.nan, -0.1, 1.1])
def test_an_agreement_outside_0_to_1_is_refused(agreement: float) -> None:
    with pytest.raises(ConfigError, match=r"agreement (nan|-0.1|1.1): expected"):
        Judge(SHADOW, started_s=0.0).observe_pair(Answer(0.1), Answer(0.1), agreement=agreement)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 1, "config": {"mode": 3}, "started_s": 0}'],
    ids=["empty", "list", "nothing", "little", "config"],
)
def test_a_state_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="judge: not a state written by to_json"):
        Judge.from_json(text)


def test_a_state_of_another_version_is_refused() -> None:
    text = Judge(SPLIT, started_s=0.0).to_json().replace('"schema_version": 1', '"schema_version": 2')
    with pytest.raises(ArtifactError, match="schema_version 2, expected 1"):
        Judge.from_json(text)


def test_the_worked_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "canary.md").read_text(encoding="utf-8")
    code, printed = re.findall(r"```python\n(import random.*?)```.*?```text\n(.*?)```", page, re.DOTALL)[0]
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_the_budgets_of_the_page_are_the_defaults() -> None:
    assert (SPLIT.error_increase, SPLIT.latency_factor, SPLIT.tail_margin) == (0.01, 1.25, 0.01)
    assert (SPLIT.confidence_drop, SPLIT.confidence_shift, SPLIT.class_shift) == (0.05, 0.4, 0.2)
    assert (SPLIT.agreement_floor, SPLIT.least_share, SPLIT.canary_share) == (0.9, 0.1, 0.25)
