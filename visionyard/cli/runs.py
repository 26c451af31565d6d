"""`visionyard runs`: list, watch, logs, cancel."""

import re
import time
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from visionyard.cli.words import format_duration
from visionyard.cluster.kfp_api import KfpApi, find_server
from visionyard.cluster.runs import ENDED, TaskState, failure_of, namespace_of, run_state, task_states
from visionyard.errors import ConfigError, NoAnswerError, VisionyardError

POLL_S = 5.0
# A run goes on while the server restarts, or a port-forward is made anew.
PATIENCE_S = 600.0
_COLOURS = {"SUCCEEDED": "green", "CACHED": "green", "FAILED": "red", "CANCELED": "yellow", "RUNNING": "cyan"}
# More than begin with the same letters; each is answered with its whole pipeline.
_LOOKED_THROUGH = 20
_LAST_LINES = 15
# What KFP's launcher and Argo say of their work, before a stage and after it, when it is no error.
_LAUNCHER = re.compile(r"[IW]\d{4} \d\d:\d\d:\d\d\.\d+ |time=\S+ level=(INFO|WARN) .* argo=true")


def list_command(host: str, namespace: str, *, experiment: str, most: int, console: Console) -> None:
    """Print the newest runs.

    Raises:
        ConfigError: There is no such experiment.
        VisionyardError: The server cannot be reached.
    """
    api = KfpApi(find_server(host, namespace))
    experiment_id = api.find_experiment(experiment) if experiment else ""
    if experiment and not experiment_id:
        raise ConfigError(f"{experiment}: no such experiment; `visionyard runs list` alone lists the runs of all")
    found = api.runs(experiment_id=experiment_id, most=most)
    if not found:
        console.print("no runs")
        return
    # No table: that would break names and ids where the terminal is narrow, or there is none.
    console.print(_row("id", "state", "created", "took", "name"), style="bold", soft_wrap=True)
    for run in found:
        state, created = run_state(run), str(run.get("created_at", ""))
        took = _took(created, str(run.get("finished_at", "") or ""))
        row = _row(str(run["run_id"]), state, created[:16].replace("T", " "), took, str(run.get("display_name", "")))
        console.print(row, style=_COLOURS.get(state, ""), markup=False, soft_wrap=True)


def _row(run_id: str, state: str, created: str, took: str, name: str) -> str:
    return f"{run_id:<36}  {state:<9}  {created:<16}  {took:>9}  {name}"


def watch_command(host: str, namespace: str, run: str, *, console: Console) -> int:
    """Follow a run until it ends; see `watch`."""
    api = KfpApi(find_server(host, namespace))
    return watch(api, _full_id(api, run), console=console)


def watch(api: KfpApi, run_id: str, *, console: Console) -> int:
    """Print each change of a run's stages until it ends; return 0 when it succeeded, else 1.

    Raises:
        VisionyardError: The server refuses, or has not answered for `PATIENCE_S`.
    """
    states: dict[str, str] = {}
    told: set[str] = set()
    last_answer_s = float("-inf")
    while True:
        try:
            # Asked for first, so that the tasks of a run that has ended are those of its end.
            run = api.run(run_id)
            workflow = api.workflow(run_id)
        except NoAnswerError:
            if time.monotonic() - last_answer_s > PATIENCE_S:
                raise
            time.sleep(POLL_S)
            continue
        last_answer_s = time.monotonic()
        for task in task_states(workflow):
            # Argo words one and the same wait in several ways, in turn.
            reason = f"{task.name} {task.state} {task.message.partition(':')[0]}"
            if states.get(task.name) != task.state or reason not in told:
                states[task.name] = task.state
                told.add(reason)
                console.print(_line(task), soft_wrap=True)
        state = run_state(run)
        if state in ENDED:
            break
        time.sleep(POLL_S)
    console.print(f"run {run_id}: {state}", style=_COLOURS.get(state, ""), soft_wrap=True)
    if state in {"SUCCEEDED", "CANCELED"}:
        return 0 if state == "SUCCEEDED" else 1
    if said := failure_of(workflow):
        console.print(said, markup=False, soft_wrap=True)
    _print_reasons(api, run_id, workflow, console)
    return 1


def logs_command(host: str, namespace: str, run: str, *, stage: str, console: Console) -> None:
    """Print what the pods of a stage printed, or those of all failed stages.

    Raises:
        ConfigError: The run has no such stage.
        VisionyardError: The logs are gone, or the server cannot be reached.
    """
    api = KfpApi(find_server(host, namespace))
    run_id = _full_id(api, run)
    workflow = api.workflow(run_id)
    tasks = task_states(workflow)
    wanted = stage.replace("_", "-")
    chosen = [task for task in tasks if task.name == wanted] if stage else _failed(tasks)
    if not chosen:
        known = ", ".join(task.name for task in tasks) or "none has started"
        raise ConfigError(f"{stage or 'failed stages'}: there is none in run {run_id}; its stages: {known}")
    for task in chosen:
        if not task.pods:
            console.print(f"{task.name}: {_why_no_pod(task)}", markup=False, soft_wrap=True)
        for pod in task.pods:
            console.print(f"== {task.name} ({pod})", style="bold", soft_wrap=True)
            log = api.pod_log(run_id, pod, namespace=namespace_of(workflow))
            console.print(log, markup=False, soft_wrap=True)


def cancel_command(host: str, namespace: str, run: str, *, console: Console) -> None:
    """Stop a run."""
    api = KfpApi(find_server(host, namespace))
    run_id = _full_id(api, run)
    api.cancel_run(run_id)
    console.print(f"{run_id}: asked to stop; submit it again to go on from its checkpoints", soft_wrap=True)


def _full_id(api: KfpApi, text: str) -> str:
    if len(text) >= 36:
        return text
    found = [str(run["run_id"]) for run in api.runs(most=_LOOKED_THROUGH, where=("IS_SUBSTRING", "run_id", text))]
    found = [run_id for run_id in found if run_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} runs begin so, give more letters" if found else "no run begins so"
    raise ConfigError(f"{text}: {problem}; `visionyard runs list` shows their ids")


def _line(task: TaskState) -> str:
    took = _took(task.started, task.ended) if task.state in {"SUCCEEDED", "FAILED"} else ""
    words = [f"[{_COLOURS.get(task.state, 'white')}]{task.state.lower():>10}[/]  {task.name}", took]
    message = escape(task.message) if task.state in {"PENDING", "FAILED"} else ""
    return "  ".join(word for word in [*words, message] if word)


def _why_no_pod(task: TaskState) -> str:
    if task.state == "CACHED":
        return "taken from the cache, no pod ran"
    return f"{task.state.lower()}, no pod ran" + (f": {task.message}" if task.message else "")


def _failed(tasks: list[TaskState]) -> list[TaskState]:
    return [task for task in tasks if task.state == "FAILED"]


def _print_reasons(api: KfpApi, run_id: str, workflow: dict[str, Any], console: Console) -> None:
    """Print the last lines of each failed stage, where its exit report stands."""
    for task in _failed(task_states(workflow)):
        if not task.pods:
            continue
        try:
            log = api.pod_log(run_id, task.pods[-1], namespace=namespace_of(workflow))
        except VisionyardError as error:
            console.print(f"{task.name}: {error}", markup=False, soft_wrap=True)
            continue
        console.print(f"== {task.name}", style="bold")
        console.print("\n".join(_own_lines(log.rstrip().splitlines())[-_LAST_LINES:]), markup=False, soft_wrap=True)


def _own_lines(lines: list[str]) -> list[str]:
    """Return what a stage itself printed: without the launcher's words and the inputs that it prints before."""
    inputs_end = next((number for number, line in enumerate(lines) if line.lstrip().startswith('"outputFile":')), -1)
    rest = lines[inputs_end + 1 :]
    while inputs_end >= 0 and rest and rest[0].strip() == "}":
        rest = rest[1:]
    return [line for line in rest if not _LAUNCHER.match(line)]


def _took(start: str, end: str) -> str:
    if not start or not end or end.startswith(("0001-", "1970-")):
        return ""
    return format_duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
