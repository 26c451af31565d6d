"""From metrics to answers: the server's own series, read back."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from visionyard.cluster.deploy.canary_metrics import ArmsWatch, Sample, answers_of, read_sample
from visionyard.cluster.deploy.judging import judge_canary
from visionyard.errors import NoAnswerError
from visionyard.monitoring.judge import Judge
from visionyard.monitoring.judge_config import JudgeConfig
from visionyard.monitoring.metrics import ServingMetrics


def test_what_the_server_writes_is_read_back() -> None:
    metrics = ServingMetrics()
    for seconds in (0.011, 0.012, 0.3):
        metrics.observe_request("digits", protocol="http", status="200", seconds=seconds)
    metrics.observe_request("digits", protocol="grpc", status="OK", seconds=0.004)
    metrics.observe_request("digits", protocol="http", status="503", seconds=20.0)
    metrics.drift_statistic.labels("digits", "brightness").set(0.4)
    metrics.drift_statistic.labels("digits", "sharpness").set(0.1)
    metrics.drift_detected.labels("digits", "brightness").set(1)
    metrics.drift_detected.labels("digits", "sharpness").set(0)
    sample = read_sample(metrics.exposition().decode())
    assert sample.statuses == {"200": 3, "OK": 1, "503": 1}
    assert {bound: number for bound, number in sample.slower.items() if number} == {
        0.005: 1,
        0.015: 2,
        0.5: 1,
        float("inf"): 1,
    }
    assert sample.drifted == {"brightness": 0.4}


@pytest.mark.parametrize(
    ("statuses", "fine", "failed"),
    [
        pytest.param({"200": 5}, 5, 0, id="fine"),
        pytest.param({"200": 3, "500": 1, "504": 1}, 3, 2, id="the server's fault"),
        pytest.param({"200": 4, "400": 1, "INVALID_ARGUMENT": 2}, 4, 0, id="the caller's fault is nobody's here"),
        pytest.param({"OK": 2, "UNAVAILABLE": 1}, 2, 1, id="gRPC"),
        pytest.param({}, 0, 0, id="nothing"),
    ],
)
def test_statuses_become_answers(statuses: dict[str, int], fine: int, failed: int) -> None:
    sample = Sample(Counter(statuses), Counter({0.02: sum(statuses.values())}))
    answers = answers_of(sample, random.Random(0))
    assert sum(not answer.is_error for answer in answers) == fine
    assert sum(answer.is_error for answer in answers) == failed


def test_latencies_are_spread_within_their_step() -> None:
    sample = Sample(Counter({"200": 4}), Counter({0.02: 2, 0.03: 2}))
    latencies = sorted(answer.latency_s for answer in answers_of(sample, random.Random(0)))
    assert latencies == pytest.approx([0.005, 0.015, 0.0225, 0.0275])


def test_a_pod_that_started_anew_counts_from_zero() -> None:
    before, now = Sample(Counter({"200": 90})), Sample(Counter({"200": 7}))
    assert now.since(before).statuses == {"200": 7}
    assert Sample(Counter({"200": 97})).since(before).statuses == {"200": 7}


def _text(requests: int, *, failed: int = 0, bound: str = "0.02") -> str:
    labels = 'model="digits",protocol="http"'
    return "\n".join(
        [
            f'visionyard_serving_requests_total{{{labels},status="200"}} {requests - failed}',
            f'visionyard_serving_requests_total{{{labels},status="500"}} {failed}',
            f'visionyard_serving_request_seconds_bucket{{{labels},le="0.01"}} 0',
            f'visionyard_serving_request_seconds_bucket{{{labels},le="0.02"}} {requests if bound == "0.02" else 0}',
            f'visionyard_serving_request_seconds_bucket{{{labels},le="0.1"}} {requests}',
        ]
    )


def _judged(*, silent: range = range(0), **canary: object) -> str:
    """Return the verdict on a canary with a quarter of 80 requests at each look, as `canary` says.

    Args:
        silent: Looks at which the cluster does not say where the pods are.
        canary: Options of its answers.
    """
    asked = count()
    looks: dict[str, Iterator[int]] = {"champion": count(1), "canary": count(1)}

    def read(address: str) -> str:
        look = next(looks[address])
        if address == "champion":
            return _text(60 * look)
        options = dict(canary)
        share = options.pop("failing", 0.0)
        return _text(20 * look, failed=round(20 * look * float(str(share))), **options)  # type: ignore[arg-type]

    def addresses() -> tuple[list[str], list[str]]:
        if next(asked) in silent:
            raise NoAnswerError("the cluster does not answer")
        return ["champion"], ["canary"]

    now = iter(range(0, 100_000, 5))
    verdict = judge_canary(
        addresses,
        share=0.25,
        least_answers=300,
        duration_s=3000,
        read=read,
        clock=lambda: float(next(now)),
        sleep=lambda _: None,
    )
    return verdict.decision


@pytest.mark.parametrize(
    ("canary", "decision"),
    [
        pytest.param({}, "promote", id="alike"),
        pytest.param({"failing": 0.2}, "roll_back", id="a fifth fails"),
        pytest.param({"bound": "0.1"}, "roll_back", id="slower"),
        pytest.param({"silent": range(2, 6)}, "promote", id="the cluster is silent for a while"),
    ],
)
def test_the_judge_decides_by_the_metrics(canary: dict[str, Any], decision: str) -> None:
    assert _judged(**canary) == decision


def test_without_traffic_a_canary_is_rolled_back_in_the_end() -> None:
    now = iter(range(0, 100_000, 5))
    verdict = judge_canary(
        lambda: (["a"], ["b"]),
        share=0.25,
        least_answers=300,
        duration_s=100,
        read=lambda _: "",
        clock=lambda: float(next(now)),
        sleep=lambda _: None,
    )
    assert verdict.decision == "roll_back"
    assert "no traffic" in verdict.reasons[1]


def test_a_pod_that_does_not_answer_is_told_and_left_out() -> None:
    def read(address: str) -> str:
        if address == "gone":
            raise OSError("connection refused")
        return _text(10)

    watch = ArmsWatch(Judge(JudgeConfig(), started_s=0.0), read)
    watch.look(["here", "gone"], ["also-here"])
    assert watch.unread == ("gone: connection refused",)
