"""Run events and exit reports: what the live view, the tests and the retry policy read, and nothing else.

A run event is one JSON line: `time` (seconds since 1970), `run`, `stage`, `kind`, and the values of that kind:

| kind | values |
| --- | --- |
| run_started, run_finished | `name`, `task_names` / `status` (`done`, `failed`, `stopped`), `elapsed_s` |
| stage_started | `pid` |
| heartbeat | none; every 10 s while a stage lives |
| progress | `done`, `total` (null when unknown), `unit`, `label` |
| epoch | `epoch` (from 1), `epoch_count`, `metrics` |
| warning | `message` |
| stage_finished | `elapsed_s`, `figures` (name to number or text; the first is the key figure) |
| stage_failed | `elapsed_s`, `report` (the exit report) |

Stages find their sink in the environment: `VISIONYARD_EVENTS` names a file to append to; without it events go to
standard output, where a cluster's logs keep them. Library calls outside a stage emit nothing.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from types import FrameType
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.errors import PreemptedError, VisionyardError

EVENTS_VARIABLE = "VISIONYARD_EVENTS"
RUN_VARIABLE = "VISIONYARD_RUN"
HEARTBEAT_S = 10.0
# Ten lines a second are smooth to the eye and cost nothing.
PROGRESS_INTERVAL_S = 0.1

Figure = int | float | str


@dataclass(frozen=True)
class ExitReport:
    """Why a stage ended badly.

    Attributes:
        stage: The stage's name.
        exit_class: One of `preempted`, `out_of_memory`, `not_a_number`, `bad_data`, `bad_config`, `disk_full`,
            `store_unreachable`, `parity_failed`, `bug`.
        message: What happened, where, with which value.
        advice: What to do about it.
    """

    stage: str
    exit_class: str
    message: str
    advice: str

    def text(self) -> str:
        """Return the report as the last lines that a failed stage prints."""
        return f"{self.stage} failed ({self.exit_class}): {self.message}\nWhat to do: {self.advice}"


_ADVICE = {
    "preempted": "run the same command again; it goes on where it stopped",
    "out_of_memory": "lower training.batch_size or training.image_size_px, or give the stage more memory",
    "not_a_number": "lower training.learning_rate, or set training.mixed_precision to no",
    "bad_data": "correct the data named above, then run the same command again",
    "bad_config": "correct the setting named above, then run the same command again",
    "disk_full": "free space on the volume named above, then run the same command again",
    "store_unreachable": "check the address, the credentials and the network, then run the same command again",
    "parity_failed": "export at another opset (export.opset) or drop the format that differs (export.formats)",
    "bug": "please report this with the log; it is a fault of Visionyard, not of your data",
}

_PREEMPTED_AGAIN_S = 3.0
_DISK_FULL = (ENOSPC, EDQUOT)
# The words of CUDA; of torch on the CPU and of the kernel; of OpenCV. None of them raises a MemoryError.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "insufficient memory")


def exit_report(stage_name: str, error: BaseException) -> ExitReport:
    """Classify an error into an exit report.

    Args:
        stage_name: The stage it happened in.
        error: What was raised.
    """
    message = str(error) or type(error).__name__
    if isinstance(error, VisionyardError):
        exit_class = error.exit_class
    elif isinstance(error, KeyboardInterrupt):
        exit_class, message = "preempted", "interrupted"
    elif isinstance(error, OSError) and error.errno in _DISK_FULL:
        exit_class, message = "disk_full", f"no space left writing {error.filename or 'a file'}"
    elif isinstance(error, MemoryError) or any(words in message.lower() for words in _OUT_OF_MEMORY):
        exit_class = "out_of_memory"
    else:
        exit_class, message = "bug", f"{type(error).__name__}: {message}"
    return ExitReport(stage=stage_name, exit_class=exit_class, message=message, advice=_ADVICE[exit_class])


class Stage:
    """The running stage: where its events go and what it reports at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[str, Figure] = {}
        self.epoch_listeners: list[Callable[[int, dict[str, float]], None]] = []
        self.started = time.monotonic()
        self._run = os.environ.get(RUN_VARIABLE, "")
        self._path = os.environ.get(EVENTS_VARIABLE, "")
        self._last_progress = 0.0
        self._lock = threading.Lock()

    def emit(self, kind: str, **values: Any) -> None:
        """Append one event; a line is written by one call, so that processes can share the file."""
        append_event(self._path, run=self._run, stage=self.name, kind=kind, **values)

    def progress(self, done: int, total: int | None, unit: str, label: str) -> None:
        """Emit a progress event, at most ten a second; the last one (done == total) always."""
        now = time.monotonic()
        with self._lock:
            if done != total and now - self._last_progress < PROGRESS_INTERVAL_S:
                return
            self._last_progress = now
        self.emit("progress", done=done, total=total, unit=unit, label=label)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stage started."""
        return round(time.monotonic() - self.started, 3)


_current: Stage | None = None


def append_event(path: str | Path, *, run: str, stage: str, kind: str, **values: Any) -> None:
    """Append one event line to a file, or print it when `path` is empty."""
    record = {"time": round(time.time(), 3), "run": run, "stage": stage, "kind": kind, **values}
    line = json.dumps(record, ensure_ascii=False, default=str) + "\n"
    if not path:
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return all whole events of a file, oldest first; a line cut short by a kill is left out; no file: none."""
    if not path.exists():
        return []
    records = []
    # Not splitlines(): JSON leaves other line separators, such as U+2028, inside its texts.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def progress(done: int, total: int | None, *, unit: str, label: str = "") -> None:
    """Tell how far the current stage is.

    Args:
        done: Units finished.
        total: Units in all, None when unknown.
        unit: What is counted, in the singular: `clip`, `image`, `batch`.
        label: What is being worked on now.
    """
    if _current is not None:
        _current.progress(done, total, unit, label)


def epoch(number: int, epoch_count: int, metrics: Mapping[str, float]) -> None:
    """Tell that a training epoch ended; `number` counts from 1."""
    if _current is not None:
        _current.emit("epoch", epoch=number, epoch_count=epoch_count, metrics=dict(metrics))
        for listener in _current.epoch_listeners:
            listener(number, dict(metrics))


def on_epoch(listener: Callable[[int, dict[str, float]], None]) -> None:
    """Call `listener(epoch, metrics)` after each training epoch of the current stage, as the tracker does."""
    if _current is not None:
        _current.epoch_listeners.append(listener)


def warn(message: str) -> None:
    """Tell something the user should know that does not end the stage."""
    if _current is not None:
        _current.emit("warning", message=message)


def figures(**values: Figure) -> None:
    """Add figures to the stage's finishing event; the first one named is its key figure."""
    if _current is not None:
        _current.figures.update(values)


def _beat(stage: Stage, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        stage.emit("heartbeat")


def _raise_preempted(_signum: int, _frame: FrameType | None) -> None:
    # Where it happens to be raised in a destructor or a callback it is swallowed, so it is raised again until it ends
    # the stage; the interval leaves time to clean up.
    signal.setitimer(signal.ITIMER_REAL, _PREEMPTED_AGAIN_S)
    raise PreemptedError("received SIGTERM")


@contextmanager
def _preemptible() -> Iterator[None]:
    """Turn SIGTERM into a PreemptedError of the main thread; elsewhere Python takes no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise_preempted) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Run a stage: announce it, beat while it lives, and turn its end into an event.

    An error becomes an exit report: an event, the file `<stage>.exit.json` beside the events, and the last lines on
    standard error, after which the process exits with 1. SIGTERM is an error of class `preempted`.

    Args:
        name: The stage's name, as the pipeline shows it.

    Yields:
        The running stage.

    Raises:
        SystemExit: With 1, after the stage failed and was reported.
    """
    global _current
    current = _current = Stage(name)
    current.emit("stage_started", pid=os.getpid())
    ended = threading.Event()
    threading.Thread(target=_beat, args=(current, ended), daemon=True).start()
    try:
        with _preemptible():
            yield current
        current.emit("stage_finished", elapsed_s=current.elapsed_s, figures=current.figures)
    # A library that calls sys.exit() ends the stage badly too.
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        _report_failure(current, error)
        raise SystemExit(1) from None
    finally:
        ended.set()
        _current = None


def _report_failure(current: Stage, error: BaseException) -> None:
    report = exit_report(current.name, error)
    if report.exit_class == "bug":
        traceback.print_exception(error)
    # A full disk must not hide its own report: the text below is printed in any case.
    try:
        current.emit("stage_failed", elapsed_s=current.elapsed_s, report=asdict(report))
        if events_path := os.environ.get(EVENTS_VARIABLE, ""):
            path = Path(events_path).with_name(f"{current.name}.exit.json")
            write_atomic(path, json.dumps(asdict(report), indent=1))
    except OSError as failure:
        sys.stderr.write(f"{current.name}: the exit report could not be kept: {failure}\n")
    sys.stderr.write(report.text() + "\n")
    sys.stderr.flush()
