"""Tracking into a real MLflow store: one parent, one child, found again after a restart; it never ends a training."""

import json
from pathlib import Path

import pytest

from visionyard import events, tracking
from visionyard.events import EVENTS_VARIABLE, RUN_VARIABLE

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and Alembic warn of their own dependencies


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells")
    monkeypatch.setenv(RUN_VARIABLE, "cells-1")
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    return MlflowClient(tracking_uri=uri)


def _runs(store) -> dict[str, object]:
    experiment = store.get_experiment_by_name("cells")
    return {run.data.tags["visionyard.role"]: run for run in store.search_runs([experiment.experiment_id])}


def _train(epochs: int, *, fails: bool = False) -> None:
    history = []
    with events.stage("train_model"), tracking.training_run() as run:
        for number in range(1, epochs + 1):
            history.append({"epoch": number, "top_1": number / 10})
            events.epoch(number, epochs, {"top_1": number / 10})
        if fails:
            raise ValueError("a fault")
        run.log_training({"seed": 3, "options": {"a": 1}, "architecture": {}}, {"dataset_digest": "d"}, history)


def test_a_training_is_a_child_with_params_curves_and_digests(store):
    _train(2)
    runs = _runs(store)
    child, parent = runs["training"], runs["pipeline"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.params == {"seed": "3", "options": "{'a': 1}"}
    assert child.data.tags["dataset_digest"] == "d"
    curve = store.get_metric_history(child.info.run_id, "top_1")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.1), (2, 0.2)]


def test_a_training_that_starts_again_fills_the_same_run(store):
    with pytest.raises(SystemExit):
        _train(1, fails=True)
    assert _runs(store)["training"].info.status == "FAILED"
    _train(3)
    child = _runs(store)["training"]
    assert child.info.status == "FINISHED"
    curve = store.get_metric_history(child.info.run_id, "top_1")
    assert sorted({point.step for point in curve}) == [1, 2, 3]


def test_the_result_goes_into_the_parent(store, tmp_path: Path):
    bundle, evaluation, report = tmp_path / "bundle", tmp_path / "evaluation", tmp_path / "report.html"
    bundle.mkdir()
    evaluation.mkdir()
    (bundle / "model.json").write_text(json.dumps({"task": "detection", "dataset_digest": "abc", "plugin": "p"}))
    (evaluation / "metrics.json").write_text(json.dumps({"overall": {"map_50": 0.75}}))
    report.write_text("<html></html>")
    tracking.log_result(bundle=bundle, report=report, evaluation=evaluation)
    parent = _runs(store)["pipeline"]
    assert parent.data.metrics == {"test_map_50": 0.75}
    assert parent.data.tags["dataset_digest"] == "abc"
    places = [item.path for item in store.list_artifacts(parent.info.run_id, "bundle")]
    assert places == ["bundle/model.json"]
    assert (tmp_path / "mlartifacts/cells").is_dir()


def test_a_run_that_kfp_opened_is_used(store, monkeypatch: pytest.MonkeyPatch):
    experiment = store.create_experiment("theirs")
    theirs = store.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.info.run_id)
    _train(1)
    run = store.get_run(theirs.info.run_id)
    assert run.data.metrics == {"top_1": 0.1}
    assert run.info.status == "RUNNING"
    assert store.get_experiment_by_name("cells") is None


@pytest.mark.parametrize("place", ["sqlite:///{file}/mlflow.db", "http://127.0.0.1:9"], ids=["no folder", "no server"])
def test_a_store_that_fails_is_told_and_does_not_end_the_training(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "events.jsonl"
    (tmp_path / "file").write_text("not a folder")
    uri = place.format(file=tmp_path / "file")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv(EVENTS_VARIABLE, str(log))
    _train(1)
    kinds = [event["kind"] for event in events.read_events(log)]
    assert "stage_finished" in kinds
    assert f"not tracked: MLflow at {uri}" in log.read_text()


def test_without_an_address_nothing_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    monkeypatch.chdir(tmp_path)
    _train(1)
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]
