"""`visionyard schedule`: list, apply, delete."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from visionyard.cli.compile import make_package
from visionyard.cli.inputs import unknown_digests
from visionyard.cli.submit import load_chosen
from visionyard.cluster.kfp_api import KfpApi, find_server
from visionyard.cluster.profiles import Profile, profile_names
from visionyard.cluster.schedules import (
    Schedule,
    ScheduleFile,
    apply_schedules,
    declared_schedules,
    delete_schedules,
    is_stale,
    last_success,
    load_schedules,
)
from visionyard.cluster.submit import (
    find_unfit,
    find_unreachable,
    find_unreachable_parameters,
    run_parameters,
    runtime_config,
)
from visionyard.config import load_run_config, to_parameters
from visionyard.digests import code_digest
from visionyard.errors import ConfigError


def list_command(host: str, namespace: str, *, is_check: bool, console: Console) -> int:
    """Print the schedules; return 1 when one is stale and that was asked for."""
    api = KfpApi(find_server(host, namespace))
    stale = []
    table = Table("schedule", "group", "cron (seconds first)", "owner", "last success", "state", box=None)
    for one in declared_schedules(api):
        succeeded_at = last_success(api, one)
        if is_stale(one, succeeded_at):
            stale.append(one.name)
        state = "off" if not one.is_enabled else "stale" if one.name in stale else "on"
        table.add_row(one.name, one.group, one.cron, one.owner, succeeded_at or "never", state)
    console.print(table if table.row_count else "no schedules")
    return 1 if stale and is_check else 0


def apply_command(host: str, namespace: str, file: Path, *, store: str, is_pruning: bool, console: Console) -> None:
    """Make the server's schedules agree with a file.

    Raises:
        ConfigError: The file, or a config or profile that it names, is wrong; nothing was changed.
        VisionyardError: The server cannot be reached or refuses.
    """
    schedules = load_schedules(file)
    requests = _requests(file, schedules, store)
    changes = apply_schedules(
        KfpApi(find_server(host, namespace)),
        schedules,
        lambda schedule: requests[schedule.name],
        is_pruning=is_pruning,
        note=lambda line: console.print(line, markup=False, soft_wrap=True),
    )
    console.print(
        f"{len(changes.created)} created, {len(changes.replaced)} replaced, {len(changes.unchanged)} unchanged, "
        f"{len(changes.removed)} removed"
    )
    if changes.left_over:
        console.print(
            f"not in the file, but left: {', '.join(changes.left_over)}; --prune removes them", soft_wrap=True
        )


def delete_command(host: str, namespace: str, names: list[str], *, console: Console) -> None:
    """Remove schedules by name."""
    for name in delete_schedules(KfpApi(find_server(host, namespace)), names):
        console.print(f"{name}: removed", markup=False)


def _requests(file: Path, schedules: ScheduleFile, store: str) -> dict[str, Mapping[str, Any]]:
    """Return what each schedule's runs are made from; all mistakes of all schedules are told at once."""
    load = cache(lambda name: load_chosen(name, store))
    requests: dict[str, Mapping[str, Any]] = {}
    problems: list[str] = []
    for schedule in schedules.schedules:
        try:
            requests[schedule.name] = _request(file, schedule, load(_profile_name(file, schedule)))
        except ConfigError as error:
            problems += [f"{schedule.name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return requests


def _profile_name(file: Path, schedule: Schedule) -> str:
    is_shipped = schedule.profile in profile_names()
    return schedule.profile if is_shipped else str(file.parent / schedule.profile)


def _request(file: Path, schedule: Schedule, profile: Profile) -> dict[str, Any]:
    config = load_run_config(file.parent / schedule.config)
    problems = find_unreachable(config) + find_unreachable_parameters(schedule.parameters) + find_unfit(profile)
    if problems:
        raise ConfigError(problems)
    shaping = {**to_parameters(config), **schedule.parameters}
    # The source is looked at anew by each run: what its content will be is not known now.
    package = make_package(schedule.pipeline, profile, shaping).without_cached_source(unknown_digests(config))
    parameters = run_parameters(config, package, profile, data_digest="", software_digest=code_digest())
    parameters |= schedule.parameters
    package.check(parameters)
    return {
        "pipeline_spec": package.to_json(),
        "runtime_config": runtime_config(parameters, profile),
        "service_account": profile.service_account,
    }
