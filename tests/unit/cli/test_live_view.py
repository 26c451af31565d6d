"""The live view: from events to what a person sees."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from visionyard.cli.live_view import RunView, StageState, key_metrics
from visionyard.cli.local_run import EventTail
from visionyard.cli.stages import TRAIN_MODEL_STAGES
from visionyard.cli.words import format_duration, format_figure


def _event(stage: str, kind: str, time: float = 0.0, **values: Any) -> dict[str, Any]:
    return {"time": time, "run": "r", "stage": stage, "kind": kind, **values}


def _progress(done: int, total: int | None, time: float) -> dict[str, Any]:
    return _event("train_model", "progress", time, done=done, total=total, unit="batch", label="")


def _view() -> tuple[RunView, io.StringIO]:
    text = io.StringIO()
    return RunView(TRAIN_MODEL_STAGES, Console(file=text, width=120)), text


def test_rate_is_that_of_the_last_seconds():
    state = StageState(TRAIN_MODEL_STAGES[3])
    for second in range(100):
        state.apply(_progress(second, 200, float(second)))
    state.apply(_progress(100 + 40, 200, 110.0))
    assert state.rate() == pytest.approx((140 - 90) / 20)


def test_lines_without_a_terminal():
    view, text = _view()
    view.apply(_event("ingest_dataset", "stage_started", pid=1))
    view.apply(_event("ingest_dataset", "warning", message="2 files left out"))
    view.apply(_event("ingest_dataset", "stage_finished", elapsed_s=1.25, figures={"files": 12}))
    view.apply(_event("train_model", "stage_started", pid=2))
    view.apply(_event("train_model", "epoch", epoch=1, epoch_count=2, metrics={"train_loss": 0.5, "top_1": 0.75}))
    view.apply(_event("train_model", "stage_failed", elapsed_s=3.0, report={"exit_class": "bug"}))
    assert text.getvalue().splitlines() == [
        "Ingest: started",
        "Ingest: note: 2 files left out",
        "Ingest: done in 1.2 s; files 12",
        "Train: started",
        "Train: epoch 1/2 train_loss 0.5 top_1 0.75",
        "Train: failed after 3.0 s",
    ]
    assert view.states["train_model"].status == "failed"


def test_what_an_earlier_try_finished_is_known_and_not_printed_again():
    view, text = _view()
    view.apply(_event("ingest_dataset", "stage_finished", elapsed_s=1.0, figures={"files": 3}), is_new=False)
    view.apply(_event("train_model", "stage_started", pid=2))
    statuses = [state.status for state in view.states.values()]
    assert statuses == ["done", "waiting", "waiting", "running", *["waiting"] * 5]
    assert text.getvalue() == "Train: started\n"


def test_a_stage_that_starts_again_forgets_its_failure():
    view, _ = _view()
    for event in (
        _event("train_model", "stage_failed", elapsed_s=1.0, report={"exit_class": "disk_full"}),
        _event("train_model", "stage_started", pid=2),
    ):
        view.apply(event)
    assert view.states["train_model"].report is None


def test_it_draws_every_state_on_a_terminal():
    text = io.StringIO()
    view = RunView(TRAIN_MODEL_STAGES, Console(file=text, width=100, force_terminal=True, color_system=None))
    with view:
        view.apply(_event("ingest_dataset", "stage_started", pid=1))
        view.apply(_event("ingest_dataset", "stage_finished", elapsed_s=2.0, figures={"files": 3}))
        view.apply(_event("train_model", "stage_started", pid=2))
        view.apply(_progress(1, 10, 1.0))
        view.apply(_progress(5, 10, 3.0))
    drawn = text.getvalue()
    assert "files 3" in drawn
    assert "5/10 batches" in drawn
    assert "2/s" in drawn
    assert "2.5 s left" in drawn


def test_key_metrics_are_the_loss_and_the_main_metric():
    metrics = {"learning_rate": 0.1, "train_box_loss": 2.0, "train_cls_loss": 1.0, "map_50_95": 0.3, "map_50": 0.5}
    assert key_metrics(metrics) == [("train_box_loss", 2.0), ("map_50", 0.5), ("map_50_95", 0.3)]


def test_the_tail_returns_whole_lines_once_and_passes_over_torn_ones(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    path.write_text(json.dumps({"kind": "a"}) + "\n" + '{"kind": "b')
    assert [event["kind"] for event in tail.read()] == ["a"]
    with path.open("a") as stream:
        stream.write('"}\n{"torn\n{"kind": "c"}\n')
    assert [event["kind"] for event in tail.read()] == ["b", "c"]
    assert tail.read() == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (61, "1 m 01 s"), (3725, "1 h 02 m")],
    ids=str,
)
def test_durations(seconds: float, text: str):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345, "12,345"), (0.83456, "0.8346"), (3.0, "3"), ("passed", "passed"), (True, "True")],
    ids=str,
)
def test_figures(value: Any, text: str):
    assert format_figure(value) == text
