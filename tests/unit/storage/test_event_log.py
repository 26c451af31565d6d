"""Run events in an object store: a real server, a stage that ends well, badly, hard, and with the store away."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.http_stand_in import http_stand_in
from visionyard import events, storage
from visionyard.errors import DataError, StorageError


@pytest.fixture
def prefix(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VISIONYARD_EVENTS", f"{s3}/events")
    monkeypatch.setenv("VISIONYARD_RUN", "digits-1")
    return f"{s3}/events"


def kinds(prefix: str, run: str = "digits-1") -> list[str]:
    return [record["kind"] for record in events.read_events(prefix, run=run)]


def test_a_stage_is_read_as_it_was_told(prefix: str):
    with events.stage("train_model"):
        assert kinds(prefix) == ["stage_started"]
        events.warn("a \u2028 line")
        events.epoch(1, 2, {"loss": 0.5})
        events.figures(map_50=0.8)
    records = events.read_events(prefix, run="digits-1")
    assert [record["kind"] for record in records] == ["stage_started", "warning", "epoch", "stage_finished"]
    assert records[1]["message"] == "a \u2028 line"
    assert records[3]["figures"] == {"map_50": 0.8}
    assert records[3]["usage"]["written_bytes"] > 0
    assert kinds(prefix, "digits-2") == []


def test_heartbeats_are_written_over_and_take_the_latest_progress_along(prefix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    with events.stage("train_model"):
        events.progress(3, 9, unit="batch")
        deadline = time.monotonic() + 20
        while kinds(prefix).count("heartbeat") < 1:
            assert time.monotonic() < deadline
        first = next(one for one in events.read_events(prefix, run="digits-1") if one["kind"] == "heartbeat")
        while max(one["time"] for one in events.read_events(prefix, run="digits-1")) <= first["time"]:
            assert time.monotonic() < deadline
    assert sorted(kinds(prefix)) == ["heartbeat", "progress", "stage_finished", "stage_started"]


def test_a_failed_stage_leaves_its_report(prefix: str):
    with pytest.raises(SystemExit), events.stage("ingest_dataset"):
        raise DataError("a.jpg: truncated")
    report = json.loads(storage.read_bytes(f"{prefix}/digits-1/ingest_dataset.exit.json"))
    assert (report["exit_class"], report["message"]) == ("bad_data", "a.jpg: truncated")
    assert events.read_events(prefix, run="digits-1")[-1]["report"] == report


def test_a_killed_stage_leaves_its_beginning_beside_the_next_try(prefix: str):
    code = "import time; from visionyard import events\n"
    code += "with events.stage('train_model'): print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ) as child:
        assert child.stdout and child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGKILL)
    with events.stage("train_model"):
        pass
    records = [one for one in events.read_events(prefix, run="digits-1") if one["kind"] != "heartbeat"]
    assert [one["kind"] for one in records] == ["stage_started", "stage_started", "stage_finished"]
    assert records[0]["attempt"] != records[1]["attempt"] == records[2]["attempt"]


def test_a_store_that_is_away_ends_no_stage_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with http_stand_in(503) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        monkeypatch.setenv("VISIONYARD_EVENTS", "s3://bucket/events")
        with events.stage("train_model"):
            events.warn("one")
        with pytest.raises(SystemExit), events.stage("train_model"):
            raise DataError("a.jpg: truncated")
    text = capsys.readouterr().err
    assert text.count("run events are not written") == 2
    assert "the exit report could not be kept" in text
    assert "What to do:" in text
    assert "s3cret" not in text


def test_what_could_not_be_written_goes_with_the_next_part(
    prefix: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
):
    with http_stand_in(503) as server, events.stage("train_model"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        events.warn("while it was away")
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    assert kinds(prefix) == ["stage_started", "warning", "stage_finished"]


@pytest.mark.parametrize("run", ["a/b", ".."])
def test_a_run_that_would_leave_the_prefix_is_refused(run: str):
    with pytest.raises(StorageError, match="expected a name without slashes"):
        events.read_events("s3://bucket/events", run=run)


def test_a_file_works_as_before(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    events.append_event(path, run="r", stage="", kind="run_started", name="train_model")
    path.write_text(path.read_text() + '{"torn')
    (record,) = events.read_events(path)
    assert record["name"] == "train_model"
