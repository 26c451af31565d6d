"""Costs: seconds held and bytes times a price table, held against sums done by hand."""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.http_stand_in import http_stand_in
from visionyard.cluster.attempts import read_attempts
from visionyard.cluster.cost_records import exposition, keep_cost, push
from visionyard.cluster.costs import Prices, RunCost, load_prices, run_cost
from visionyard.errors import ConfigError

TABLE = """
currency: EUR
cpu_hour: 0.036
memory_gb_hour: 0.0036
accelerator_hour: {nvidia.com/gpu: 0.36, h100: 3.6, h100 nvl: 7.2}
node_hour: {g2-standard-4: 0.7}
storage: {stored_gb_month: 0.02, kept_months: 3, read_gb: 0.1, written_gb: 0.2}
"""


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    path = tmp_path / "prices.yaml"
    path.write_text(TABLE)
    return load_prices(path)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, 0.0),
        ({"cpu_count": 2}, 0.036 * 2 / 2),
        ({"memory_bytes": 4e9}, 4 * 0.0036 / 2),
        ({"accelerator_type": "nvidia.com/gpu", "accelerator_count": 2}, 0.36),
        ({"accelerator_type": "NVIDIA H100 80GB HBM3", "accelerator_count": 1}, 1.8),
        ({"accelerator_type": "NVIDIA H100 NVL", "accelerator_count": 1}, 3.6),
        ({"accelerator_type": "unknown", "accelerator_count": 0}, 0.0),
    ],
    ids=["nothing", "cores", "memory", "resource name", "part of the name", "longest key wins", "none held"],
)
def test_half_an_hour_costs_what_the_table_says(prices: Prices, held: dict[str, Any], expected: float):
    assert prices.cost(1800, **held) == pytest.approx(expected)


def test_bytes_are_paid_for_each_month_they_are_kept(prices: Prices):
    cost = prices.storage_cost(stored_bytes=5e9, read_bytes=2e9, written_bytes=1e9)
    assert cost == pytest.approx(5 * 0.02 * 3 + 2 * 0.1 + 1 * 0.2)


def test_a_price_that_is_missing_is_named_with_those_there_are(prices: Prices):
    with pytest.raises(ConfigError, match=r"no price for 'amd.com/gpu'.*h100, h100 nvl, nvidia.com/gpu"):
        prices.cost(1, accelerator_type="amd.com/gpu", accelerator_count=1)
    with pytest.raises(ConfigError, match=r"node_hour: no price for 'n1'.*g2-standard-4"):
        prices.node_price("n1")


def test_every_mistake_of_a_table_is_told_at_once(tmp_path: Path):
    path = tmp_path / "prices.yaml"
    path.write_text("cpu_hour: -1\ngpu_hour: 2\n")
    with pytest.raises(ConfigError) as raised:
        load_prices(path)
    text = str(raised.value)
    assert "currency: missing" in text
    assert "cpu_hour = -1" in text
    assert "gpu_hour: unknown key; did you mean cpu_hour?" in text


def event(time: float, stage: str, kind: str, attempt: str = "", **values: Any) -> dict[str, Any]:
    return {"time": time, "run": "r", "stage": stage, "kind": kind, "attempt": attempt or stage, **values}


GPU = {"cpu_count": 4.0, "memory_bytes": 0, "accelerator_type": "nvidia.com/gpu", "accelerator_count": 1}
CPU = {"cpu_count": 1.0, "memory_bytes": 0, "accelerator_type": "", "accelerator_count": 0}
EVENTS = [
    {"time": 0.0, "run": "r", "stage": "", "kind": "run_started", "name": "train_model"},
    event(0, "train_model", "stage_started", "a", resources=GPU),
    event(100, "train_model", "heartbeat", "a"),
    # It was killed 100 s after its start; the second try ends well.
    event(200, "train_model", "stage_started", "b", resources=GPU),
    event(500, "train_model", "stage_finished", "b", elapsed_s=300.0, usage={"written_bytes": 10**9}, figures={}),
    event(510, "validate_model", "stage_started", resources=CPU),
    event(540, "validate_model", "stage_finished", elapsed_s=30.0, usage={}, figures={"map_50": 0.8, "images": 9}),
]


def test_a_run_costs_all_its_tries_the_killed_ones_too(prices: Prices):
    cost = run_cost(EVENTS, prices, run="digits-1", stored_bytes=10**9)
    train, validate = cost.stages
    assert (train.try_count, train.elapsed_s, train.cpu_s, train.accelerator_s) == (2, 400.0, 1600.0, 400.0)
    assert train.cost == pytest.approx(400 / 3600 * (4 * 0.036 + 0.36) + 0.2)
    assert validate.cost == pytest.approx(30 / 3600 * 0.036)
    assert cost.stored_cost == pytest.approx(0.06)
    assert cost.total == pytest.approx(train.cost + validate.cost + 0.06)
    assert (cost.metric, cost.metric_value) == ("map_50", 0.8)
    assert cost.per_point == pytest.approx(cost.total / 80)


def test_tries_at_the_same_time_are_told_apart():
    mixed = [
        event(0, "benchmark_node", "stage_started", "a", resources=CPU),
        event(1, "benchmark_node", "stage_started", "b", resources=GPU),
        event(5, "benchmark_node", "stage_finished", "b", elapsed_s=4.0, figures={}),
        event(9, "benchmark_node", "stage_failed", "a", elapsed_s=9.0, report={"exit_class": "bug"}),
    ]
    assert [(one.status, one.elapsed_s, one.resources.accelerator_count) for one in read_attempts(mixed)] == [
        ("failed", 9.0, 0),
        ("done", 4.0, 1),
    ]


def test_a_run_without_events_or_metric_has_no_cost_per_point(prices: Prices):
    cost = run_cost([], prices)
    assert (cost.total, cost.per_point, cost.to_json()["per_point"]) == (0, None, None)


@pytest.fixture
def cost(prices: Prices) -> RunCost:
    return run_cost(EVENTS, prices, run='a"b\\c')


def test_prometheus_reads_the_exposition(cost: RunCost):
    from prometheus_client.parser import text_string_to_metric_families

    found = {
        (sample.name, sample.labels.get("stage", "")): sample
        for family in text_string_to_metric_families(exposition(cost))
        for sample in family.samples
    }
    total = found["visionyard_run_cost", ""]
    assert total.value == pytest.approx(cost.total)
    assert total.labels == {"run": 'a"b\\c', "currency": "EUR"}
    assert found["visionyard_run_stage_cost", "train_model"].value == pytest.approx(cost.stages[0].cost)
    assert found["visionyard_run_accelerator_seconds", ""].value == 400


def test_a_push_replaces_the_group_of_its_run(cost: RunCost, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with http_stand_in(200) as gateway:
        monkeypatch.setenv("PUSHGATEWAY_URL", gateway.url + "/")
        assert keep_cost(cost, is_done=True) == []
    (sent,) = gateway.sent
    assert (sent.method, sent.path) == ("PUT", "/metrics/job/visionyard_run/run/a%22b%5Cc")
    assert sent.body.decode() == exposition(cost)


def test_a_gateway_that_refuses_or_is_away_is_told(cost: RunCost, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("visionyard.storage.base._FIRST_WAIT_S", 0.001)
    with http_stand_in(400) as gateway:
        assert push(cost, gateway.url) == [f"the cost was not pushed to {gateway.url}: it answered with status 400"]
    (problem,) = push(cost, gateway.url)
    assert "the connection was refused" in problem
    with http_stand_in(503, 502, 200) as gateway:
        assert push(cost, gateway.url) == []
    assert len(gateway.sent) == 3


@pytest.mark.filterwarnings("ignore")  # MLflow and Alembic warn of their own dependencies
def test_mlflow_keeps_the_cost_beside_the_run(cost: RunCost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("VISIONYARD_RUN", "r")
    monkeypatch.delenv("PUSHGATEWAY_URL", raising=False)
    keep_cost(cost, is_done=False)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("visionyard").experiment_id])
    assert run.data.metrics["cost_total"] == pytest.approx(cost.total)
    assert run.data.metrics["cost_accelerator_s"] == 400
    assert run.data.tags["cost_currency"] == "EUR"
    assert run.info.status == "FAILED"
