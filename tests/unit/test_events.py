"""Run events and exit reports: what a stage writes while it lives and when it ends, well, badly or killed."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visionyard import errors, events


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("VISIONYARD_EVENTS", str(path))
    monkeypatch.setenv("VISIONYARD_RUN", "digits-1")
    return path


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Any]:
    """Start Python code whose events go to `tmp_path/events.jsonl`; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "VISIONYARD_EVENTS": str(tmp_path / "events.jsonl"), "VISIONYARD_RUN": "r"}
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def kinds(path: Path) -> list[str]:
    return [record["kind"] for record in events.read_events(path)]


def wait_for(path: Path, kind: str) -> None:
    deadline = time.monotonic() + 20
    while kind not in kinds(path):
        assert time.monotonic() < deadline, f"no {kind} in {path}"
        time.sleep(0.02)


def test_a_stage_tells_its_beginning_what_happens_and_its_end(sink: Path) -> None:
    with events.stage("train-model") as stage:
        events.progress(1, 4, unit="batch", label="epoch 1")
        events.epoch(1, 2, {"loss": 0.5})
        events.warn("2 images without labels")
        events.figures(map_50=0.8, clips=3)
        events.figures(note="ok")
        assert stage.elapsed_s >= 0
    started, progress, epoch, warning, finished = events.read_events(sink)
    assert {record["run"] for record in (started, progress, epoch, warning, finished)} == {"digits-1"}
    assert {record["stage"] for record in (started, progress, epoch, warning, finished)} == {"train-model"}
    assert abs(started["time"] - time.time()) < 60
    assert (started["kind"], started["pid"]) == ("stage_started", os.getpid())
    assert progress | {"kind": "progress", "done": 1, "total": 4, "unit": "batch", "label": "epoch 1"} == progress
    assert epoch | {"kind": "epoch", "epoch": 1, "epoch_count": 2, "metrics": {"loss": 0.5}} == epoch
    assert warning | {"kind": "warning", "message": "2 images without labels"} == warning
    assert finished["kind"] == "stage_finished"
    assert list(finished["figures"].items()) == [("map_50", 0.8), ("clips", 3), ("note", "ok")]
    assert finished["elapsed_s"] >= 0


def test_outside_a_stage_nothing_is_told(sink: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events.progress(1, 2, unit="clip")
    events.epoch(1, 2, {})
    events.warn("nobody hears")
    events.figures(count=1)
    assert not sink.exists()
    assert capsys.readouterr() == ("", "")


def test_without_a_file_events_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("VISIONYARD_EVENTS", raising=False)
    with events.stage("ingest"):
        pass
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["kind"] for record in records] == ["stage_started", "stage_finished"]


def test_progress_is_told_ten_times_a_second_and_at_the_end(sink: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100 + 0.03 * step for step in range(1000)])
    monkeypatch.setattr(events.time, "monotonic", lambda: next(clock))
    with events.stage("ingest"):
        for done in range(11):
            events.progress(done, 10, unit="clip")
    told = [record["done"] for record in events.read_events(sink) if record["kind"] == "progress"]
    assert told == [0, 4, 8, 10]


def test_progress_of_unknown_length_is_slowed_too(sink: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.time, "monotonic", lambda: 100.0)
    with events.stage("ingest"):
        for done in range(9):
            events.progress(done, None, unit="byte")
    told = [(record["done"], record["total"]) for record in events.read_events(sink) if record["kind"] == "progress"]
    assert told == [(0, None)]


def test_heartbeats_while_the_stage_lives(sink: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    with events.stage("train-model"):
        wait_for(sink, "heartbeat")
    time.sleep(0.15)
    count = kinds(sink).count("heartbeat")
    time.sleep(0.15)
    assert kinds(sink).count("heartbeat") == count


def _with_errno(number: int) -> OSError:
    return OSError(number, os.strerror(number), "shards/train-00001.tar")


@pytest.mark.parametrize(
    ("error", "exit_class", "message"),
    [
        pytest.param(errors.ConfigError(["a: wrong", "b: wrong"]), "bad_config", "a: wrong\nb: wrong", id="config"),
        pytest.param(errors.DataError("clip.mp4: empty"), "bad_data", "clip.mp4: empty", id="data"),
        pytest.param(errors.MediaError("x"), "bad_data", "x", id="media"),
        pytest.param(errors.SplitError("x"), "bad_data", "x", id="split"),
        pytest.param(errors.ArtifactError("x"), "bad_data", "x", id="artifact"),
        pytest.param(errors.StorageError("x"), "store_unreachable", "x", id="storage"),
        pytest.param(errors.ModelError("x"), "bad_config", "x", id="model"),
        pytest.param(errors.NotANumberError("loss nan"), "not_a_number", "loss nan", id="not a number"),
        pytest.param(errors.ParityError("x"), "parity_failed", "x", id="parity"),
        pytest.param(errors.PreemptedError("received SIGTERM"), "preempted", "received SIGTERM", id="preempted"),
        pytest.param(errors.DataError(), "bad_data", "DataError", id="no message"),
        pytest.param(KeyboardInterrupt(), "preempted", "interrupted", id="Ctrl-C"),
        pytest.param(
            _with_errno(errno.ENOSPC), "disk_full", "no space left writing shards/train-00001.tar", id="disk full"
        ),
        pytest.param(OSError(errno.ENOSPC, "full"), "disk_full", "no space left writing a file", id="disk, no name"),
        pytest.param(
            _with_errno(errno.EDQUOT), "disk_full", "no space left writing shards/train-00001.tar", id="quota"
        ),
        pytest.param(MemoryError(), "out_of_memory", "MemoryError", id="memory"),
        pytest.param(
            RuntimeError("CUDA out of memory. Tried"), "out_of_memory", "CUDA out of memory. Tried", id="CUDA"
        ),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            "out_of_memory",
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
            id="torch on the CPU",
        ),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory", "[Errno 12] ", id="kernel"),
        pytest.param(RuntimeError("(-4:Insufficient memory) x"), "out_of_memory", "(-4:Insufficient", id="OpenCV"),
        pytest.param(ZeroDivisionError("division by zero"), "bug", "ZeroDivisionError: division by zero", id="bug"),
        pytest.param(_with_errno(errno.EACCES), "bug", "PermissionError: [Errno 13]", id="another OSError"),
        pytest.param(SystemExit(3), "bug", "SystemExit: 3", id="exit of a library"),
    ],
)
def test_errors_get_a_class_a_message_and_advice(error: BaseException, exit_class: str, message: str) -> None:
    report = events.exit_report("train-model", error)
    assert report.exit_class == exit_class
    assert report.message.startswith(message)
    assert report.text() == f"train-model failed ({exit_class}): {report.message}\nWhat to do: {report.advice}"
    assert len(report.advice) > 20


@pytest.mark.parametrize(
    ("source", "is_of_another"),
    [
        ("from visionyard.nowhere import x", True),
        ("import json; json.dumps({}, verdict=1)", False),
        ("len(1, verdict=2)", True),
        ("1 / 0", False),
    ],
    ids=["no such module", "deeper down", "no such argument", "another fault"],
)
def test_a_stage_that_does_not_fit_the_images_library_is_told_as_such(source: str, is_of_another: bool) -> None:
    with pytest.raises(Exception) as caught:
        exec(compile(source, "/tmp/tmp.DY3/ephemeral_component.py", "exec"))
    report = events.exit_report("promote-model", caught.value)
    assert ("another version of Visionyard" in report.advice) == is_of_another
    assert report.exit_class == "bug"


def test_a_failed_stage_leaves_its_report_everywhere(sink: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, events.stage("prepare-dataset"):
        raise errors.SplitError("one clip only")
    assert caught.value.code == 1
    report = {
        "stage": "prepare-dataset",
        "exit_class": "bad_data",
        "message": "one clip only",
        "advice": "correct the data named above, then run the same command again",
    }
    failed = events.read_events(sink)[-1]
    assert (failed["kind"], failed["report"]) == ("stage_failed", report)
    assert json.loads((sink.parent / "prepare-dataset.exit.json").read_text()) == report
    assert capsys.readouterr().err == (
        "prepare-dataset failed (bad_data): one clip only\n"
        "What to do: correct the data named above, then run the same command again\n"
    )


def test_only_a_bug_shows_its_traceback(sink: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), events.stage("ingest"):
        {}["key"]
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-2] == "ingest failed (bug): KeyError: 'key'"


def test_a_library_that_exits_ends_the_stage_badly(sink: Path) -> None:
    with pytest.raises(SystemExit) as caught, events.stage("train-model"):
        sys.exit(0)
    assert caught.value.code == 1
    assert kinds(sink) == ["stage_started", "stage_failed"]


def test_a_report_that_cannot_be_kept_is_still_printed(
    sink: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit), events.stage("prepare-dataset"):
        monkeypatch.setattr(events, "write_atomic", full)
        raise OSError(errno.ENOSPC, "No space left on device", "shards/train-00000.tar")
    shown = capsys.readouterr().err
    assert "prepare-dataset: the exit report could not be kept" in shown
    assert "prepare-dataset failed (disk_full): no space left writing shards/train-00000.tar" in shown


def test_after_a_stage_the_signal_handler_is_the_old_one(sink: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with events.stage("ingest"):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_preemption_that_was_swallowed_is_raised_again(sink: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_PREEMPTED_AGAIN_S", 0.05)
    with pytest.raises(SystemExit), events.stage("train-model"):
        with contextlib.suppress(errors.PreemptedError):  # as in a destructor
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        time.sleep(10)
    assert kinds(sink) == ["stage_started", "stage_failed"]
    assert events.read_events(sink)[-1]["report"]["exit_class"] == "preempted"
    time.sleep(0.1)  # after the stage there is no alarm any more


def test_a_stage_runs_outside_the_main_thread(sink: Path) -> None:
    def work() -> None:
        with events.stage("ingest"):
            events.warn("hello")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert kinds(sink) == ["stage_started", "warning", "stage_finished"]


SLEEPER = """
import time
from visionyard import events
with events.stage("train-model"):
    events.warn("ready")
    time.sleep(60)
"""


def test_sigterm_is_reported_as_preempted(child: Any, tmp_path: Path) -> None:
    process = child(SLEEPER)
    wait_for(tmp_path / "events.jsonl", "warning")
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=20)
    assert process.returncode == 1
    assert shown == (
        "train-model failed (preempted): received SIGTERM\n"
        "What to do: run the same command again; it goes on where it stopped\n"
    )
    assert kinds(tmp_path / "events.jsonl") == ["stage_started", "warning", "stage_failed"]
    assert json.loads((tmp_path / "train-model.exit.json").read_text())["exit_class"] == "preempted"


def test_a_killed_stage_shows_as_started_and_never_ended(child: Any, tmp_path: Path) -> None:
    process = child(SLEEPER)
    wait_for(tmp_path / "events.jsonl", "warning")
    process.kill()
    process.communicate(timeout=20)
    assert kinds(tmp_path / "events.jsonl") == ["stage_started", "warning"]
    assert not (tmp_path / "train-model.exit.json").exists()


def test_two_processes_share_a_file_without_mixing_lines(child: Any, tmp_path: Path) -> None:
    code = """
import os
from visionyard.events import append_event
for number in range(2000):
    append_event(os.environ["VISIONYARD_EVENTS"], run="r", stage={stage!r}, kind="warning", n=number, text="x" * 500)
"""
    first, second = child(code.format(stage="a")), child(code.format(stage="b"))
    assert (first.wait(timeout=30), second.wait(timeout=30)) == (0, 0)
    path = tmp_path / "events.jsonl"
    records = events.read_events(path)
    assert len(records) == len(path.read_text().splitlines()) == 4000
    for stage in ("a", "b"):
        assert [record["n"] for record in records if record["stage"] == stage] == list(range(2000))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b'{"kind": "a"}\n{"kind": "b"', ["a"], id="torn last line"),
        pytest.param(b'{"kind": "a"}\n{"kind": "\xc3', ["a"], id="torn inside a letter"),
        pytest.param(b'{"kind": "a"}\n{"ki\n{"kind": "c"}\n', ["a", "c"], id="torn in the middle"),
        pytest.param(b'{"kind": "a"}\n\n{"kind": "b"}\n', ["a", "b"], id="blank line"),
        pytest.param('{"kind": "a\u2028b\x85c"}\n'.encode(), ["a\u2028b\x85c"], id="line separators inside a text"),
    ],
)
def test_reading_takes_whole_lines_only(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    assert kinds(path) == expected


def test_reading_no_file_gives_no_events(tmp_path: Path) -> None:
    assert events.read_events(tmp_path / "none.jsonl") == []


def test_any_text_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    text = 'Zürich "quoted"\nnew line \u2028 \x85 \t'
    events.append_event(path, run="r", stage="s", kind="warning", message=text, file=Path("a/b"))
    (record,) = events.read_events(path)
    assert (record["message"], record["file"]) == (text, "a/b")
