"""From Alertmanager's alerts to runs: which alerts count, and when a run is started for them.

At most one run of a model is on its way, and after a start there is a quiet time. What was started is written down
before it is: a receiver that dies in between starts nothing twice, and the alert, which Alertmanager repeats, starts
the run after the quiet time.
"""

import fnmatch
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionyard import storage
from visionyard.config import Section, describe_problems
from visionyard.config.loading import ConfigReader
from visionyard.errors import ArtifactError, RequestError, VisionyardError

Decision = Literal["started", "quiet", "running"]
_SHOWN_PROBLEMS = 5


class AlertRule(Section):
    """Alerts that count: all parts must match."""

    alert: str = Field(default="VisionyardDrift", min_length=1, description="Name of the alert; * stands for anything.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels it must have; * stands for anything.")


class ReceiverConfig(Section):
    """The whole of `receiver.yaml`."""

    models: dict[str, dict[str, Any]] = Field(
        min_length=1, description="Models that are trained again, each with the pipeline's parameters for it."
    )
    rules: list[AlertRule] = Field(
        default_factory=lambda: [AlertRule()], min_length=1, description="Alerts that count: any of these."
    )
    model_label: str = Field(default="model", min_length=1, description="The label that holds the model's name.")
    pipeline: str = Field(default="retrain", min_length=1, description="Which pipeline is started.")
    profile: str = Field(default="cpu", min_length=1, description="Which pods its stages get: a name or a file.")
    store: str = Field(default="", description="s3:// prefix that replaces the profile's.")
    experiment: str = Field(default="drift", min_length=1, description="Group of runs they belong to.")
    quiet_s: float = Field(default=21600.0, ge=0, description="No further run of a model so long after a start.")
    state: str = Field(
        default="receiver-state.json",
        min_length=1,
        description="File or s3:// address that keeps what was started.",
    )


_READER = ConfigReader(ReceiverConfig, "VISIONYARD_RECEIVE_", "quiet_s=3600", "docs/drift-retraining.md shows one")


def load_receiver_config(path: Path, *, environment: Mapping[str, str] | None = None) -> ReceiverConfig:
    """Read `receiver.yaml` and lay variables such as VISIONYARD_RECEIVE_QUIET_S=3600 over it.

    Raises:
        ConfigError: The file is missing or any value is wrong; it lists all mistakes.
    """
    return _READER.load(path, (), environment)


class _Open(BaseModel):
    # Alertmanager adds keys from version to version.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Alert(_Open):
    """One alert of a notification."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]


class AlertGroup(_Open):
    """A notification of Alertmanager, version 4 of its webhook."""

    version: Literal["4"]
    alerts: list[Alert]


def parse_alerts(body: bytes) -> AlertGroup:
    """Return a notification.

    Raises:
        RequestError: It is no JSON, or not what version 4 of Alertmanager's webhook sends.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not JSON; expected a notification of Alertmanager's webhook") from None
    if not isinstance(values, dict):
        raise RequestError(f"expected an object with version and alerts, got {type(values).__name__}")
    try:
        return AlertGroup.model_validate(values)
    except ValidationError as error:
        problems = describe_problems(error, AlertGroup)[:_SHOWN_PROBLEMS]
        raise RequestError("not a notification of Alertmanager: " + "; ".join(problems)) from None


def models_to_train(group: AlertGroup, config: ReceiverConfig) -> tuple[list[str], list[str]]:
    """Return the models that firing alerts ask to train, and those they name that the config does not know; sorted."""
    named = {
        alert.labels.get(config.model_label, "")
        for alert in group.alerts
        if alert.status == "firing" and any(_matches(alert.labels, rule) for rule in config.rules)
    }
    return sorted(named & config.models.keys()), sorted(named - config.models.keys())


def _matches(labels: Mapping[str, str], rule: AlertRule) -> bool:
    wanted = {"alertname": rule.alert, **rule.labels}
    return all(fnmatch.fnmatchcase(labels.get(name, ""), pattern) for name, pattern in wanted.items())


class Starter(Protocol):
    """Starts runs and knows how they are."""

    def start(self, model: str, parameters: Mapping[str, Any]) -> str:
        """Start a run and return its id.

        Raises:
            VisionyardError: It was not started.
        """

    def is_running(self, run_id: str) -> bool:
        """Return whether a run has not ended.

        Raises:
            VisionyardError: Nobody knows.
        """


class Debouncer:
    """Starts at most one run of a model at a time, and none within the quiet time."""

    def __init__(self, config: ReceiverConfig, starter: Starter, *, clock: Callable[[], float] = time.time) -> None:
        """Read what earlier receivers started.

        Raises:
            ArtifactError: The state is not one, or of another version.
            StorageError: The store refused or timed out.
        """
        self._config, self._starter, self._clock = config, starter, clock
        self._lock = threading.Lock()
        self._models = _read_state(config.state)

    def ask(self, model: str) -> Decision:
        """Start a run of a model, unless one is on its way or was started a short while ago.

        Raises:
            VisionyardError: It should have been started and was not; asking again is right.
        """
        with self._lock:
            before = self._models.get(model)
            if before and self._clock() - before["started_at"] < self._config.quiet_s:
                return "quiet"
            if before and before["run_id"] and self._starter.is_running(before["run_id"]):
                return "running"
            earlier, now = self._models, {**self._models, model: {"started_at": self._clock(), "run_id": ""}}
            self._write(now)
            self._models = now
            try:
                run_id = self._starter.start(model, self._config.models[model])
            except VisionyardError:
                self._models = earlier
                self._write(earlier)
                raise
            now[model]["run_id"] = run_id
            self._write(now)
            return "started"

    def last_starts(self) -> dict[str, float]:
        """Return when a run of each model was last started, in seconds since 1970."""
        with self._lock:
            return {model: entry["started_at"] for model, entry in self._models.items()}

    def _write(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        text = json.dumps({"schema_version": 1, "models": models}, indent=1, sort_keys=True) + "\n"
        storage.write_bytes(self._config.state, text.encode())


def _read_state(address: str) -> dict[str, dict[str, Any]]:
    if not storage.exists(address):
        return {}
    try:
        values = json.loads(storage.read_bytes(address))
        if values["schema_version"] != 1:
            raise ValueError
        return {
            str(model): {"started_at": float(entry["started_at"]), "run_id": str(entry["run_id"])}
            for model, entry in values["models"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(
            f"{storage.shown(address)}: not the state of a receiver of this version; remove it, or name another place"
        ) from None


def unknown_models_told(names: Iterable[str], config: ReceiverConfig) -> str:
    """Return a sentence about models that alerts named and the config does not know."""
    known = ", ".join(sorted(config.models))
    return f"alerts name {', '.join(repr(name) for name in names)} in label {config.model_label}; known here: {known}"
