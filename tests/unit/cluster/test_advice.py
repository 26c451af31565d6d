"""Serverless or dedicated: the model, held against sums done by hand."""

import json
from pathlib import Path

import pytest

from visionyard.cluster.advice import (
    MONTH_S,
    Assumptions,
    LoggedRequest,
    RequestLog,
    advise,
    read_lines,
    read_request_log,
    replicas_needed,
    simulate,
)
from visionyard.cluster.costs import Prices, ServerlessPrices
from visionyard.errors import ConfigError, DataError

ONE = Assumptions(cold_start_s=10, idle_s=100, places=1)


def played(*requests: tuple[float, float], assumptions: Assumptions = ONE) -> tuple[float, int, int]:
    result = simulate([LoggedRequest(*one) for one in requests], assumptions)
    return result.instance_s, result.cold_start_count, result.most_instances


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([], (0, 0, 0)),
        ([(0, 1)], (111, 1, 1)),
        ([(0, 1), (50, 1)], (151, 1, 1)),
        ([(0, 1), (111, 1)], (222, 2, 1)),
        ([(0, 1), (110.9, 1)], (211.9, 1, 1)),
        ([(0, 1), (5, 1)], (222, 2, 2)),
        ([(0, 1), (20, 50), (30, 1), (80, 1)], (181 + 111, 2, 2)),
    ],
    ids=[
        "none",
        "one: cold start, work, idle time",
        "a second while it is up",
        "a second when it is just gone",
        "a second just before",
        "a second while the first one starts",
        "the one that was used last is taken",
    ],
)
def test_what_serverless_instances_would_have_done(
    requests: list[tuple[float, float]], expected: tuple[float, int, int]
):
    assert played(*requests) == pytest.approx(expected)


def test_places_share_an_instance():
    two = Assumptions(cold_start_s=0, idle_s=0, places=2)
    assert played((0, 10), (1, 10), (2, 10), assumptions=two) == pytest.approx((11 + 10, 2, 2))


@pytest.mark.parametrize(
    ("requests", "places", "expected"),
    [
        ([(0, 0.001)], 1, 1),
        ([(0, 42)], 1, 1),
        ([(0, 42.1)], 1, 2),
        ([(0, 60), (0, 60), (0, 60)], 1, 5),
        ([(0, 60), (0, 60), (0, 60)], 4, 2),
        ([(30, 60)], 1, 1),
    ],
    ids=["nearly idle", "just at 70 %", "just above", "three at a time", "four places", "over two minutes"],
)
def test_dedicated_replicas_fit_the_busiest_minute(requests: list[tuple[float, float]], places: int, expected: int):
    assumptions = Assumptions(places=places, utilisation=0.7)
    assert replicas_needed([LoggedRequest(*one) for one in requests], assumptions) == expected


PRICES = Prices(currency="EUR", serverless=ServerlessPrices(instance_second=0.001, million_requests=0))


@pytest.mark.parametrize(("replica_hour", "choice"), [(0.1, "dedicated"), (10.0, "serverless")])
def test_the_cheaper_one_is_advised(replica_hour: float, choice: str):
    log = RequestLog([LoggedRequest(hour * 3600.0, 1.0) for hour in range(24)], 0, None)
    advice = advise(log, PRICES, ONE, replica_hour=replica_hour)
    assert advice.choice == choice
    assert advice.dedicated_month == pytest.approx(replica_hour * 720)
    # 24 cold instances of 111 s in the log's span, and the month has so many spans.
    assert advice.serverless_month == pytest.approx(24 * 0.111 * MONTH_S / log.span_s)
    each = advice.serverless_month / (24 * MONTH_S / log.span_s)
    assert advice.break_even_per_day == pytest.approx(replica_hour * 24 / each)


def test_without_an_offer_there_is_no_advice():
    log = RequestLog([LoggedRequest(0, 1)], 0, None)
    with pytest.raises(ConfigError, match=r"serverless: missing in the price table"):
        advise(log, Prices(currency="EUR"), ONE, replica_hour=1)


def line(**values: object) -> str:
    return json.dumps({"time": "2026-11-01T00:00:10Z", "level": "info", "event": "request", **values})


def test_a_log_is_read_as_the_server_writes_it(tmp_path: Path):
    path = tmp_path / "log"
    lines = [
        line(event="ready", since_start_s=4.5),
        line(model="b", duration_ms=2000, status=200),
        line(model="a", duration_ms=500, status=200),
        line(path="/v2", duration_ms=1, status=404),
        line(model="a", duration_ms="x"),
        "Traceback",
        "",
    ]
    path.write_text("\n".join(lines))
    log = read_request_log(read_lines(path))
    starts = [one.start for one in log.requests]
    assert [one.busy_s for one in log.requests] == [2.0, 0.5]
    assert starts[1] - starts[0] == pytest.approx(1.5)
    assert (log.skipped_count, log.cold_start_s) == (1, 4.5)
    assert len(read_request_log(lines, model="a").requests) == 1


def test_a_log_without_requests_or_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no request of model 'a' in the log \(1 lines"):
        read_request_log(["x"], model="a")
    with pytest.raises(ConfigError, match="absent"):
        list(read_lines(tmp_path / "absent"))


def test_assumptions_out_of_range_are_told_at_once():
    with pytest.raises(ConfigError) as raised:
        Assumptions(cold_start_s=-1, places=0, utilisation=0)
    assert len(raised.value.problems) == 3
