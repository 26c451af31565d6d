"""Declared schedules: a YAML file, and the recurring runs of Kubeflow Pipelines made to agree with it.

A recurring run cannot be changed, only made and removed. What it was made from is kept in its description as a digest,
so that one that still agrees is left alone.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from visionyard.cluster.cron import kfp_cron
from visionyard.cluster.kfp_api import KfpApi
from visionyard.config import Section, describe_problems
from visionyard.digests import digest_of
from visionyard.errors import ConfigError

_MARK = "visionyard-schedule: "
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Schedule(Section):
    """One schedule."""

    name: str = Field(pattern=_NAME, description="Its name, and that of the experiment its runs belong to.")
    pipeline: str = Field("retrain", min_length=1, description="Which pipeline.")
    config: Path = Field(description="Run config, relative to this file.")
    profile: str = Field("cpu", min_length=1, description="Profile: one that comes with the package, or a file.")
    cron: str = Field(
        description="Minute, hour, day of month, month, day of week, in the time zone of KFP's scheduler."
    )
    owner: str = Field(min_length=1, description="Whom to ask about it.")
    freshness_hours: float = Field(0, ge=0, description="Stale when no run succeeded for so long; 0: not watched.")
    enabled: bool = Field(True, description="false keeps it without starting runs.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Pipeline parameters beyond the config's.")

    @field_validator("cron")
    @classmethod
    def _is_five_fields(cls, value: str) -> str:
        try:
            kfp_cron(value)
        except ConfigError as error:
            raise ValueError("; ".join(problem.partition(": ")[2] for problem in error.problems)) from None
        return value


class ScheduleFile(Section):
    """A file of schedules."""

    group: str = Field("default", pattern=_NAME, description="Schedules that belong together: --prune looks at these.")
    schedules: list[Schedule] = Field(description="The schedules.")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [schedule.name for schedule in self.schedules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice; each schedule needs a name of its own")
        return self


@dataclass(frozen=True)
class Declared:
    """What a recurring run's description says of its schedule.

    Attributes:
        schedule_id: Of the recurring run.
        name: The schedule's.
        group: Of its file.
        digest: Of everything that it was made from.
        owner: Whom to ask.
        freshness_hours: 0: not watched.
        cron: Six fields, as KFP has it.
        is_enabled: Whether it starts runs.
        experiment_id: Where its runs are.
        created_at: When it was made.
    """

    schedule_id: str
    name: str
    group: str
    digest: str
    owner: str
    freshness_hours: float
    cron: str
    is_enabled: bool
    experiment_id: str
    created_at: str


@dataclass(frozen=True)
class Changes:
    """What an apply did.

    Attributes:
        created: Names made.
        replaced: Names made anew, since something about them differs.
        unchanged: Names left alone.
        removed: Names removed.
        left_over: Names that are no longer declared, but left, since nobody asked for pruning.
    """

    created: list[str]
    replaced: list[str]
    unchanged: list[str]
    removed: list[str]
    left_over: list[str]


def load_schedules(path: Path) -> ScheduleFile:
    """Return the schedules of a file.

    Raises:
        ConfigError: The file is missing or has mistakes; lists all of them.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; docs/schedules.md shows one") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `schedules:` with a list, got {values!r}")
    try:
        return ScheduleFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError([f"{path}: {problem}" for problem in describe_problems(error, ScheduleFile)]) from None


def recurring_run(schedule: Schedule, group: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schedule as the API takes it: no catch-up, one run at a time, six fields of cron.

    Args:
        schedule: The schedule.
        group: Of its file.
        request: `pipeline_spec`, `runtime_config` and `service_account` of its runs.
    """
    body: dict[str, Any] = {
        "display_name": schedule.name,
        "max_concurrency": "1",
        "no_catchup": True,
        "mode": "ENABLE" if schedule.enabled else "DISABLE",
        "trigger": {"cron_schedule": {"cron": kfp_cron(schedule.cron)}},
        **request,
    }
    mark = {
        "group": group,
        "owner": schedule.owner,
        "freshness_hours": schedule.freshness_hours,
    }
    mark["digest"] = digest_of({**body, **mark})
    return {**body, "description": f"Owner: {schedule.owner}\n{_MARK}{json.dumps(mark, sort_keys=True)}"}


def declared(recurring: Mapping[str, Any]) -> Declared | None:
    """Return what a recurring run says of its schedule; None when it is none of ours."""
    _, found, text = str(recurring.get("description", "")).partition(_MARK)
    if not found:
        return None
    try:
        mark = json.loads(text)
        return Declared(
            schedule_id=str(recurring["recurring_run_id"]),
            name=str(recurring["display_name"]),
            group=str(mark["group"]),
            digest=str(mark["digest"]),
            owner=str(mark["owner"]),
            freshness_hours=float(mark["freshness_hours"]),
            cron=str(recurring.get("trigger", {}).get("cron_schedule", {}).get("cron", "")),
            is_enabled=recurring.get("status") != "DISABLED",
            experiment_id=str(recurring.get("experiment_id", "")),
            created_at=str(recurring.get("created_at", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # someone edited the description by hand


def declared_schedules(api: KfpApi) -> list[Declared]:
    """Return the schedules of this package that the server has, by name."""
    found = [one for one in map(declared, api.schedules()) if one is not None]
    return sorted(found, key=lambda one: (one.name, one.created_at))


def apply_schedules(
    api: KfpApi,
    file: ScheduleFile,
    request_of: Callable[[Schedule], Mapping[str, Any]],
    *,
    is_pruning: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Changes:
    """Make the server's recurring runs agree with a file; applied twice, the second time changes nothing.

    A changed schedule is made before its old self is removed, so that a failure in between leaves one too many, which
    the next apply removes, rather than none.

    Args:
        api: The server.
        file: The schedules.
        request_of: Returns `pipeline_spec`, `runtime_config` and `service_account` of a schedule's runs.
        is_pruning: Remove schedules of this group that the file no longer holds.
        note: Called with a line for each change.

    Raises:
        ConfigError: A schedule's config, profile or pipeline is wrong; nothing was changed.
        VisionyardError: The server cannot be reached or refuses.
    """
    bodies = [recurring_run(schedule, file.group, request_of(schedule)) for schedule in file.schedules]
    existing: dict[str, list[Declared]] = {}
    for one in declared_schedules(api):
        if one.group == file.group:
            existing.setdefault(one.name, []).append(one)
    changes = Changes([], [], [], [], [])
    for body in bodies:
        _apply_one(api, body, existing.pop(body["display_name"], []), changes, note)
    for name, old in sorted(existing.items()):
        if is_pruning:
            _remove(api, old)
            note(f"{name}: removed")
        (changes.removed if is_pruning else changes.left_over).append(name)
    return changes


def _apply_one(
    api: KfpApi, body: dict[str, Any], old: list[Declared], changes: Changes, note: Callable[[str], None]
) -> None:
    name = str(body["display_name"])
    wanted = declared({**body, "recurring_run_id": ""})
    same = [one for one in old if wanted is not None and one.digest == wanted.digest]
    if not same:
        api.create_schedule({**body, "experiment_id": api.ensure_experiment(name)})
        note(f"{name}: {'replaced' if old else 'created'}")
    _remove(api, [one for one in old if one not in same[:1]])
    (changes.unchanged if same else changes.replaced if old else changes.created).append(name)


def _remove(api: KfpApi, schedules: Iterable[Declared]) -> None:
    for one in schedules:
        api.delete_schedule(one.schedule_id)


def delete_schedules(api: KfpApi, names: Iterable[str]) -> list[str]:
    """Remove schedules by name and return those removed.

    Raises:
        ConfigError: One of them is not there; nothing was removed.
    """
    present = declared_schedules(api)
    wanted = list(names)
    known = {one.name for one in present}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            [f"{name}: no such schedule; known: {', '.join(sorted(known)) or 'none'}" for name in missing]
        )
    chosen = [one for one in present if one.name in wanted]
    _remove(api, chosen)
    return sorted({one.name for one in chosen})


def last_success(api: KfpApi, schedule: Declared) -> str:
    """Return when a run of a schedule last succeeded, as the API writes it; empty: none did."""
    runs = api.runs(experiment_id=schedule.experiment_id, most=3, where=("EQUALS", "state", "SUCCEEDED"))
    return max((str(run.get("finished_at", "")) for run in runs), default="")


def is_stale(schedule: Declared, succeeded_at: str, now: datetime | None = None) -> bool:
    """Return whether a schedule is watched, enabled, and had no success for longer than it may.

    One that never had any is given the same time from when it was made.
    """
    since = succeeded_at or schedule.created_at
    if not schedule.is_enabled or not schedule.freshness_hours or not since:
        return False
    then = datetime.fromisoformat(since)
    return (now or datetime.now(UTC)) - then > timedelta(hours=schedule.freshness_hours)
