"""Run a pipeline on this machine: start its process, draw its events, stop it cleanly, and say how it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from rich.console import Console

from visionyard.anonymization import input_addresses
from visionyard.atomic import SCRATCH_VARIABLE, write_atomic
from visionyard.cli.container_run import remove_containers
from visionyard.cli.live_view import RunView
from visionyard.cli.pipeline_process import CONTAINERS, SUBPROCESS
from visionyard.cli.run_folder import RunFolder, config_digest, promotion_store
from visionyard.cli.stages import TRAIN_MODEL_STAGES
from visionyard.config import RunConfig, to_parameters
from visionyard.events import EVENTS_VARIABLE, RUN_VARIABLE, append_event
from visionyard.stage_resources import core_count

# After a polite signal a stage writes its exit report; what is still there then is killed.
STOP_GRACE_S = 15.0
_POLL_S = 0.1
PIPELINE = "train_model"


class EventTail:
    """Reads the lines that were added to an events file since it was last asked."""

    def __init__(self, path: Path) -> None:
        """Follow `path`, which may not exist yet."""
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the new whole events, oldest first."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        events = []
        for line in data[:whole].splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:  # a line torn by a kill, completed by the next writer's line
                continue
        return events


def run_locally(
    config: RunConfig,
    folder: RunFolder,
    *,
    data_digest: str,
    console: Console,
    images: Mapping[str, str] | None = None,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, RunView]:
    """Run the pipeline in a child process until it ends or is interrupted.

    Args:
        config: What to run.
        folder: Where; what an earlier try finished there is not done again.
        data_digest: Of the source.
        console: Where the live view is drawn.
        images: Ids of the images by name, when each task runs in a container; None: each is a subprocess.
        digests: Parameters of the pipeline that say what further inputs hold, see `visionyard.cli.inputs`.

    Returns:
        `done`, `failed` or `stopped`; and the view, which knows every stage's end.
    """
    in_containers = images is not None
    if in_containers or folder.status().get("runner") == CONTAINERS:
        remove_containers(folder.path)  # those of a try that was killed hard would go on writing
    _write_request(config, folder, {**digests, "data_digest": data_digest}, images)
    started = time.monotonic()
    tail = EventTail(folder.events)
    view = RunView(TRAIN_MODEL_STAGES, console)
    for event in tail.read():
        view.apply(event, is_new=False)
    append_event(folder.events, run=folder.name, stage="", kind="run_started", name=PIPELINE)
    folder.write_status(
        status="running",
        config_digest=config_digest(config),
        data_digest=data_digest,
        runner=CONTAINERS if in_containers else SUBPROCESS,
    )
    process = _start(folder, experiment=config.name)
    with _interruptible() as interruption, view:
        while process.poll() is None and not interruption:
            _apply_all(view, tail)
            time.sleep(_POLL_S)
        if interruption:
            _stop(process)
    if in_containers:
        remove_containers(folder.path)
    _apply_all(view, tail)
    status = "done" if process.returncode == 0 else "stopped" if interruption else "failed"
    elapsed_s = round(time.monotonic() - started, 3)
    append_event(folder.events, run=folder.name, stage="", kind="run_finished", status=status, elapsed_s=elapsed_s)
    folder.publish_outputs()
    folder.write_status(status=status, elapsed_s=elapsed_s)
    return status, view


def _apply_all(view: RunView, tail: EventTail) -> None:
    for event in tail.read():
        view.apply(event)


def _write_request(
    config: RunConfig, folder: RunFolder, digests: Mapping[str, str], images: Mapping[str, str] | None
) -> None:
    import yaml

    from visionyard.digests import code_digest, digest_of

    arguments = to_parameters(config)
    # Also the file that is looked for beside a model: a container sees what is named.
    _, *spec = input_addresses(config.frames.anonymize) or [""]
    arguments["frames_anonymize_spec"] = spec[0] if spec else ""
    for name in ("data_source", "data_split_file", "frames_anonymize_model", "frames_anonymize_spec"):
        if arguments[name] and "://" not in arguments[name]:
            arguments[name] = str(Path(arguments[name]).expanduser().absolute())
    arguments |= {
        **digests,
        # A rebuilt image ends what is cached of the one before.
        "software_digest": digest_of([code_digest(), images]) if images else code_digest(),
        "training_checkpoints_uri": str(folder.checkpoints.absolute()),
        "promotion_store": config.promotion.store or str(promotion_store(folder.path.parent)),
    }
    request = {
        "package_path": str((folder.path / "pipeline.yaml").absolute()),
        "pipeline_root": str(folder.pipeline_root.absolute()),
        "arguments": arguments,
        "runner": SUBPROCESS if images is None else CONTAINERS,
    }
    write_atomic(folder.path / "request.json", json.dumps(request, indent=1))
    write_atomic(folder.path / "run.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _start(folder: RunFolder, *, experiment: str) -> "subprocess.Popen[bytes]":
    root = folder.path.parent.absolute()
    environment = {
        # Two cores train twice as fast as the one thread that Ultralytics would set.
        "OMP_NUM_THREADS": str(core_count()),
        # How long OpenMP's threads spin before they sleep. Its default is best alone, but beside another busy process
        # validating 100 images took 19 s in place of 7; with no spinning at all training takes half as long again.
        "GOMP_SPINCOUNT": "10000",
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": experiment,
        **os.environ,
        EVENTS_VARIABLE: str(folder.events.absolute()),
        RUN_VARIABLE: folder.name,
        # Each try of a task has another target; what a killed one left is found here.
        SCRATCH_VARIABLE: str((folder.path / "scratch").absolute()),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "visionyard.cli.pipeline_process", PIPELINE, str(folder.path / "request.json")]
    with folder.log.open("ab") as log:
        log.write(f"\n== try started {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        log.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # Signals go to the whole group: a quiet component would outlive its runner.
            start_new_session=True,
        )


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list in place of dying of them."""
    received: list[int] = []

    def note(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the whole process group: politely, then by force."""
    for number, wait_s in ((signal.SIGTERM, STOP_GRACE_S), (signal.SIGKILL, STOP_GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and _group_lives(process):
            time.sleep(_POLL_S)
    process.wait()


def _group_lives(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()  # reaps the leader, which would count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
