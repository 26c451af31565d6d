"""Run events and exit reports: what the live view, the tests and the retry policy read, and nothing else.

A run event is one JSON line: `time` (seconds since 1970), `run`, `stage`, `kind`, and the values of that kind:

| kind | values |
| --- | --- |
| run_started, run_finished | `name`, `task_names` / `status` (`done`, `failed`, `stopped`), `elapsed_s` |
| stage_started | `pid`, `resources` (what the container holds, see `stage_resources`) |
| heartbeat | none; every 10 s while a stage lives |
| progress | `done`, `total` (null when unknown), `unit`, `label` |
| epoch | `epoch` (from 1), `epoch_count`, `metrics` |
| warning | `message` |
| stage_finished | `elapsed_s`, `usage`, `figures` (name to number or text; the first is the key figure) |
| stage_failed | `elapsed_s`, `usage`, `report` (the exit report) |

Those of a stage also hold `attempt`, which is another for each try; `usage` holds the bytes of the object store that
the stage read and wrote.

Stages find their sink in the environment: `VISIONYARD_EVENTS` names a file to append to, or an s3:// prefix below which
each run has a folder of its own name (`visionyard.storage.event_log`); without it events go to standard output, where a
cluster's logs keep them. Library calls outside a stage emit nothing.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from errno import EDQUOT, ENOSPC
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from visionyard.atomic import write_atomic
from visionyard.errors import PreemptedError, StorageError, VisionyardError
from visionyard.stage_resources import held_resources, limited_core_count

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
            `store_unreachable`, `parity_failed`, `deploy_failed`, `bug`.
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
    "deploy_failed": "correct what is named above, then deploy again; a service that served before goes on as it was",
    "bug": "please report this with the log; it is a fault of Visionyard, not of your data",
}

_OTHER_VERSION = (
    "the image holds another version of Visionyard than the one that made this pipeline: build the images anew, or "
    "submit with the version of the images"
)
# Where KFP writes a component's source in its pod.
_STAGE_FILE = "ephemeral_component.py"

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
    advice = _OTHER_VERSION if exit_class == "bug" and _is_of_another_version(error) else _ADVICE[exit_class]
    return ExitReport(stage=stage_name, exit_class=exit_class, message=message, advice=advice)


def _is_of_another_version(error: BaseException) -> bool:
    """Return whether a stage's own lines did not fit the library: the pipeline brings them, the image the library."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    is_stage = last is not None and last.tb_frame.f_code.co_filename.endswith(_STAGE_FILE)
    return is_stage and isinstance(error, (ImportError, TypeError, AttributeError))


class Sink(Protocol):
    """Where the events of a process go."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Add an event."""

    def keep_report(self, report: ExitReport) -> None:
        """Keep an exit report as `<stage>.exit.json` beside the events."""


@dataclass(frozen=True)
class _StandardOutput:
    def append(self, record: Mapping[str, Any]) -> None:
        sys.stdout.write(event_line(record))
        sys.stdout.flush()

    def keep_report(self, report: ExitReport) -> None:
        """Keep nothing: the log has it."""


@dataclass(frozen=True)
class _File:
    path: Path

    def append(self, record: Mapping[str, Any]) -> None:
        # One call a line, so that processes can share the file.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, event_line(record).encode())
        finally:
            os.close(descriptor)

    def keep_report(self, report: ExitReport) -> None:
        write_atomic(self.path.with_name(f"{report.stage}.exit.json"), report_text(report))


def _open_sink(address: str, *, run: str, stage: str, attempt: str) -> Sink:
    if not address:
        return _StandardOutput()
    if "://" not in address:
        return _File(Path(address))
    sink: Sink = _event_log().EventLog(address, run=run, stage=stage, attempt=attempt)
    return sink


def _event_log() -> Any:
    # By its name: the stores stand above the events, to which they report their progress.
    return import_module("visionyard.storage.event_log")


def event_line(record: Mapping[str, Any]) -> str:
    """Return an event as its line."""
    return json.dumps(record, ensure_ascii=False, default=str) + "\n"


def report_text(report: ExitReport) -> str:
    """Return an exit report as its file."""
    return json.dumps(asdict(report), indent=1)


class Stage:
    """The running stage: where its events go and what it reports at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[str, Figure] = {}
        self.epoch_listeners: list[Callable[[int, dict[str, float]], None]] = []
        self.started = time.monotonic()
        self.usage: dict[str, int] = {}
        self._run = os.environ.get(RUN_VARIABLE, "")
        self._attempt = uuid.uuid4().hex[:12]
        self.sink = _open_sink(os.environ.get(EVENTS_VARIABLE, ""), run=self._run, stage=name, attempt=self._attempt)
        self._last_progress = 0.0
        self._lock = threading.Lock()

    def emit(self, kind: str, **values: Any) -> None:
        """Append one event."""
        self.sink.append(_record(self._run, self.name, kind, {"attempt": self._attempt, **values}))

    def count(self, name: str, amount: int) -> None:
        """Add to a figure of what the stage used."""
        with self._lock:
            self.usage[name] = self.usage.get(name, 0) + amount

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
    """Append one event to a file or below an s3:// prefix, or print it when `path` is empty."""
    sink = _open_sink(str(path), run=run, stage=stage, attempt=uuid.uuid4().hex[:12])
    sink.append(_record(run, stage, kind, values))


def _record(run: str, stage: str, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"time": round(time.time(), 3), "run": run, "stage": stage, "kind": kind, **values}


def read_events(path: Path | str, *, run: str = "") -> list[dict[str, Any]]:
    """Return all whole events, oldest first; a line cut short by a kill is left out; nothing there: none.

    Args:
        path: The file, or the s3:// prefix that VISIONYARD_EVENTS named.
        run: Below a prefix, the run whose events are read.

    Raises:
        StorageError: The store refused or timed out.
    """
    if isinstance(path, str) and "://" in path:
        return sorted(_whole(_event_log().read_text(path, run=run)), key=lambda record: float(record["time"]))
    file = Path(path)
    return _whole(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else []


def _whole(text: str) -> list[dict[str, Any]]:
    records = []
    # Not splitlines(): JSON leaves other line separators, such as U+2028, inside its texts.
    for line in text.split("\n"):
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


def count_bytes(*, read: int = 0, written: int = 0) -> None:
    """Count bytes that the current stage read from the object store or wrote to it."""
    if _current is not None:
        _current.count("read_bytes", read)
        _current.count("written_bytes", written)


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
    current.emit("stage_started", pid=os.getpid(), resources=asdict(held_resources()))
    if count := limited_core_count():
        # torch, which is imported later, takes the node's cores otherwise.
        os.environ.setdefault("OMP_NUM_THREADS", str(count))
    ended = threading.Event()
    threading.Thread(target=_beat, args=(current, ended), daemon=True).start()
    try:
        with _preemptible():
            yield current
        current.emit("stage_finished", elapsed_s=current.elapsed_s, usage=current.usage, figures=current.figures)
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
    # A full disk or a store that is away must not hide the report: the text below is printed in any case.
    try:
        current.emit("stage_failed", elapsed_s=current.elapsed_s, usage=current.usage, report=asdict(report))
        current.sink.keep_report(report)
    except (OSError, StorageError) as failure:
        sys.stderr.write(f"{current.name}: the exit report could not be kept: {failure}\n")
    sys.stderr.write(report.text() + "\n")
    sys.stderr.flush()
