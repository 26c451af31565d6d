"""`visionyard cost`: what is printed, and the exit codes of mistakes."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from visionyard import storage
from visionyard.cli.app import app
from visionyard.cli.live_view import RunView
from visionyard.cli.run_folder import RunFolder
from visionyard.cli.summary import print_success
from visionyard.config import RunConfig
from visionyard.errors import ConfigError
from visionyard.events import append_event

PRICES = "currency: EUR\ncpu_hour: 0.36\nstorage: {stored_gb_month: 1}\n"
OFFER = "node_hour: {small: 0.1}\nserverless: {instance_second: 0.00003}\n"


@pytest.fixture
def prices(tmp_path: Path) -> str:
    (tmp_path / "prices.yaml").write_text(PRICES + OFFER)
    return str(tmp_path / "prices.yaml")


def a_run(events: str, run: str) -> None:
    held = {"cpu_count": 2.0}
    append_event(events, run=run, stage="validate_model", kind="stage_started", attempt="a", resources=held)
    values = {"elapsed_s": 100.0, "figures": {"map_50": 0.5}}
    append_event(events, run=run, stage="validate_model", kind="stage_finished", attempt="a", **values)


def test_the_report_of_a_local_run(tmp_path: Path, prices: str):
    folder = tmp_path / "runs/digits-1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"schema_version": 1, "status": "done"}')
    a_run(str(folder / "events.jsonl"), "digits-1")
    textfile = tmp_path / "cost.prom"
    command = ["cost", "report", "digits-1", "--runs", str(tmp_path / "runs"), "--prices", prices]
    done = CliRunner().invoke(app, [*command, "--textfile", str(textfile)])
    assert done.exit_code == 0, done.output
    assert "digits-1: 0.0200 EUR" in done.output
    assert "0.000400 EUR for each point of map_50 (0.5000)" in done.output
    (line,) = [line for line in textfile.read_text().splitlines() if line.startswith("visionyard_run_cost{")]
    assert line.startswith('visionyard_run_cost{run="digits-1",currency="EUR"} ')
    assert float(line.split()[-1]) == pytest.approx(0.02)


def test_the_report_of_a_run_in_a_store_counts_what_it_left(s3: str, prices: str):
    a_run(f"{s3}/events", "4711")
    storage.write_bytes(f"{s3}/artifacts/model", b"x" * 10**6)
    command = ["cost", "report", "4711", "--events", f"{s3}/events", "--store", f"{s3}/artifacts", "--json"]
    done = CliRunner().invoke(app, [*command, "--prices", prices])
    assert done.exit_code == 0, done.output
    cost = json.loads(done.output)
    assert cost["stored_bytes"] == 10**6
    assert cost["total"] == pytest.approx(0.02 + 0.001)


def test_a_run_without_events_is_a_mistake(s3: str, prices: str):
    done = CliRunner().invoke(app, ["cost", "report", "4711", "--events", f"{s3}/events", "--prices", prices])
    assert isinstance(done.exception, ConfigError)
    assert "no events of run '4711'" in str(done.exception)


def test_the_advice_says_what_it_assumed(tmp_path: Path, prices: str):
    log = tmp_path / "log"
    lines = [
        {"time": "2026-11-01T00:00:00Z", "event": "ready", "since_start_s": 4.5},
        {"time": "2026-11-01T00:00:10Z", "event": "request", "model": "shapes", "duration_ms": 50},
        {"time": "2026-11-01T06:00:10Z", "event": "request", "model": "shapes", "duration_ms": 50},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + "Traceback\n")
    done = CliRunner().invoke(app, ["cost", "advise", str(log), "--prices", prices, "--node", "small"])
    assert done.exit_code == 0, done.output
    assert "serverless: 2.19 EUR a month serverless, 72.00 dedicated" in done.output
    assert "2 requests (100.0%) wait 4.5 s for a cold start" in done.output
    assert "less than a day" in done.output
    assert "1 lines are no JSON" in done.output


@pytest.mark.parametrize(
    ("prices", "expected"),
    [("currency: 3", "Cost     not known: currency = 3"), ("", "")],
    ids=["a wrong table", "no table"],
)
def test_a_local_run_ends_well_without_a_price_table(
    prices: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    a_run(str(tmp_path / "events.jsonl"), "digits-1")
    (tmp_path / "prices.yaml").write_text(prices)
    monkeypatch.setenv("VISIONYARD_PRICES", str(tmp_path / "prices.yaml") if prices else "")
    console = Console(width=200)
    config = RunConfig.model_validate({"name": "digits", "data": {"source": "clips"}})
    print_success(console, RunView([], console), RunFolder(tmp_path), config)
    costs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Cost")]
    assert len(costs) == bool(expected)
    assert all(line.startswith(expected) for line in costs)
