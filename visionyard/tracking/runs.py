"""Experiment runs in MLflow: one parent a pipeline run, one child a training.

Tracking is on where `MLFLOW_TRACKING_URI` is set (a local run sets it to an SQLite file beside its folders). A run is
found again by its tag, so that a pipeline that was stopped and started again fills the same one. Where KFP's own MLflow
plugin has opened a run for the task (`MLFLOW_RUN_ID`), that one is used. A tracking server that fails never ends a
training: the loss of tracking is told once and the work goes on.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.errors import StorageError
from visionyard.events import RUN_VARIABLE

URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
# Set by KFP's MLflow plugin: the run it opened for this task and will end.
RUN_ID_VARIABLE = "MLFLOW_RUN_ID"
DEFAULT_EXPERIMENT = "visionyard"
RUN_TAG = "visionyard.run"
ROLE_TAG = "visionyard.role"
PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
# No telemetry; a server that is down costs seconds, not the minutes of MLflow's seven tries; and files go through the
# server: left to itself MLflow 3.17 fetches them by signed addresses of the store, a name that often only the server
# knows (`store:9000` of compose.yaml, a Service of a cluster seen from outside).
MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
# MLflow's own limits for one request.
_BATCH_COUNT = 100
_VALUE_LENGTH = 500


@dataclass
class Tracked:
    """A run that is written to; without a client every call does nothing."""

    client: Any = None
    run_id: str = ""

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; nested values are written as text. One that was logged before with another value is left."""
        from mlflow.entities import Param

        self._in_batches(
            [Param(_name(key), str(value)[:_VALUE_LENGTH]) for key, value in sorted(values.items())],
            lambda part: self.client.log_batch(self.run_id, params=part),
        )

    def metrics(self, values: Mapping[str, float], *, step: int, time_ms: int = 0) -> None:
        """Log metrics of a step."""
        from mlflow.entities import Metric

        rows = [Metric(_name(key), float(value), time_ms, step) for key, value in sorted(values.items())]
        self._in_batches(rows, lambda part: self.client.log_batch(self.run_id, metrics=part))

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in sorted(values.items()):
            self._guard(lambda: self.client.set_tag(self.run_id, key, value))  # noqa: B023

    def files(self, path: Path, place: str) -> None:
        """Copy a file or folder into the run's artifacts, below `place`."""
        log = "log_artifacts" if path.is_dir() else "log_artifact"
        self._guard(lambda: getattr(self.client, log)(self.run_id, str(path), place))

    def end(self, *, is_done: bool) -> None:
        """Mark the run as finished or failed."""
        self._guard(lambda: self.client.set_terminated(self.run_id, "FINISHED" if is_done else "FAILED"))

    def _in_batches(self, rows: Sequence[Any], log: Callable[[Sequence[Any]], None]) -> None:
        for start in range(0, len(rows), _BATCH_COUNT):
            self._guard(lambda: log(rows[start : start + _BATCH_COUNT]))  # noqa: B023

    def _guard(self, call: Callable[[], Any]) -> None:
        if self.client is None:
            return
        from mlflow.exceptions import MlflowException

        try:
            call()
        except (MlflowException, OSError) as error:
            events.warn(f"tracking stopped: MLflow at {_uri()} failed: {str(error).splitlines()[0]}")
            self.client = None


@dataclass
class TrainingRun:
    """The child run of a training."""

    tracked: Tracked

    def log_training(
        self, plan: Mapping[str, Any], metadata: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
    ) -> None:
        """Log the settled values, the digests, and every epoch (again, for those from before a restart)."""
        if self.tracked.client is None:
            return
        self.tracked.params({key: value for key, value in plan.items() if key != "architecture"})
        self.tracked.tags({key: str(value) for key, value in metadata.items() if key.endswith("_digest")})
        for row in history:
            self.log_epoch(int(row["epoch"]), {key: value for key, value in row.items() if key != "epoch"})

    def log_epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1."""
        if self.tracked.client is not None:
            self.tracked.metrics(metrics, step=number)


@contextmanager
def training_run() -> Iterator[TrainingRun]:
    """Open the child run of this training; each epoch of the stage is logged into it."""
    tracked = _open("training")
    run = TrainingRun(tracked)
    events.on_epoch(run.log_epoch)
    try:
        yield run
    except BaseException:
        tracked.end(is_done=False)
        raise
    if RUN_ID_VARIABLE not in os.environ:
        tracked.end(is_done=True)


def log_result(*, bundle: Path, report: Path, evaluation: Path) -> None:
    """Log what a pipeline run ended with into its parent run: metrics, digests, bundle and report."""
    import json

    tracked = _open("pipeline")
    if tracked.client is None:
        return
    manifest = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
    metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    overall = {f"test_{name}": value for name, value in metrics["overall"].items() if isinstance(value, (int, float))}
    tracked.metrics(overall, step=0)
    tracked.params({key: manifest[key] for key in ("task", "plugin", "preset", "classes") if key in manifest})
    tracked.tags({key: str(value) for key, value in manifest.items() if key.endswith("_digest")})
    tracked.files(bundle, "bundle")
    tracked.files(report, "report")
    tracked.end(is_done=True)


def log_figures(values: Mapping[str, float], *, tags: Mapping[str, str], is_done: bool) -> None:
    """Log figures about the whole pipeline run, such as its cost, into the parent run, and mark how it ended."""
    if _uri() and find_spec("mlflow") is None:
        events.warn(f"not tracked: this environment has no MLflow to reach {_uri()} with; install mlflow-skinny")
        return
    tracked = _open("pipeline")
    if tracked.client is not None:
        tracked.metrics(values, step=0)
        tracked.tags(tags)
        tracked.end(is_done=is_done)


def keep_files(files: Mapping[str, Path], place: str) -> str:
    """Copy folders into the artifacts of the parent run and return its id.

    Args:
        files: Folder name to folder.
        place: Where in the artifacts they go.

    Raises:
        StorageError: There is no tracking server, or it cannot be reached.
        MlflowException: It refused the files.
    """
    tracked = _open("pipeline")
    if tracked.client is None:
        raise StorageError(f"nothing can be kept in MLflow at {_uri() or URI_VARIABLE}: it cannot be reached")
    for name, folder in sorted(files.items()):
        tracked.client.log_artifacts(tracked.run_id, str(folder), f"{place}/{name}")
    if RUN_ID_VARIABLE not in os.environ:
        tracked.end(is_done=True)
    return tracked.run_id


def end_pipeline_run(*, is_done: bool) -> None:
    """Mark the parent run as finished or failed."""
    _open("pipeline").end(is_done=is_done)


def _uri() -> str:
    return os.environ.get(URI_VARIABLE, "")


def _name(key: str) -> str:
    # MLflow allows letters, digits, and _ - . / and spaces.
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in key)


def _open(role: str) -> Tracked:
    """Return the run of this pipeline (`pipeline`) or of its training (`training`), made when it is not there yet."""
    if not _uri():
        return Tracked()
    for name, value in MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=_uri())
        if RUN_ID_VARIABLE in os.environ:
            return Tracked(client, os.environ[RUN_ID_VARIABLE])
        experiment_id = _experiment(client)
        parent = _find_or_make(client, experiment_id, "pipeline", {})
        if role == "pipeline":
            return Tracked(client, parent)
        return Tracked(client, _find_or_make(client, experiment_id, role, {PARENT_TAG: parent}))
    except (MlflowException, OSError) as error:
        events.warn(f"not tracked: MLflow at {_uri()} failed: {str(error).splitlines()[0]}")
        return Tracked()


def _experiment(client: Any) -> str:
    name = os.environ.get(EXPERIMENT_VARIABLE, DEFAULT_EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if _uri().startswith("sqlite:///"):
        # Beside the database: MLflow's default is a folder below wherever the process happens to run.
        location = (Path(_uri().removeprefix("sqlite:///")).parent / "mlartifacts" / name).absolute().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _find_or_make(client: Any, experiment_id: str, role: str, tags: Mapping[str, str]) -> str:
    run = os.environ.get(RUN_VARIABLE, "")
    found = client.search_runs(
        [experiment_id], filter_string=f"tags.`{RUN_TAG}` = '{run}' and tags.`{ROLE_TAG}` = '{role}'", max_results=1
    )
    if found and run:
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING")
        return run_id
    name = run if role == "pipeline" else f"{run} {role}"
    made = client.create_run(experiment_id, tags={RUN_TAG: run, ROLE_TAG: role, NAME_TAG: name.strip() or role, **tags})
    return str(made.info.run_id)
