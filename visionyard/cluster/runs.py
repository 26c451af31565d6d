"""Runs on the cluster: how far their stages are, and which pod did which stage."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})


@dataclass(frozen=True)
class TaskState:
    """One task of a run.

    Attributes:
        name: Its name in the pipeline.
        state: `PENDING`, `RUNNING`, `SUCCEEDED`, `SKIPPED` (from the cache), `FAILED`, `CANCELED`.
        started: When, as the API writes it; empty: not yet.
        ended: When; empty: not yet.
        pods: Names of the pods that ran it, oldest first.
    """

    name: str
    state: str
    started: str
    ended: str
    pods: tuple[str, ...]


def task_states(run: Mapping[str, Any]) -> list[TaskState]:
    """Return the tasks of a run in the order in which they started; drivers and graphs are left out.

    The API lists nodes of the workflow: a task's node has its executor's pod below it, unless it is that pod itself.

    Args:
        run: As the API returns it.
    """
    details = run.get("run_details", {}).get("task_details", [])
    by_pod = {detail.get("pod_name", ""): detail for detail in details}
    found = []
    for detail in details:
        name = str(detail.get("display_name", ""))
        if name in {"root", run.get("display_name")} or name.endswith("-driver") or name.startswith("executor"):
            continue
        executors = _executors_below(detail, by_pod)
        if detail.get("child_tasks") and not executors and _has_stages_below(detail, by_pod):
            continue
        pods = executors or [str(detail.get("pod_name", ""))]
        found.append(
            TaskState(
                name=name,
                state=str(detail.get("state", "") or "PENDING"),
                started=str(detail.get("start_time", "") or ""),
                ended=_time(detail.get("end_time")),
                pods=tuple(pod for pod in pods if pod),
            )
        )
    return sorted(found, key=lambda task: (task.started or "~", task.name))


def _children(detail: Mapping[str, Any], by_pod: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    names = [child.get("pod_name", "") for child in detail.get("child_tasks") or []]
    return [by_pod[name] for name in names if name in by_pod]


def _executors_below(detail: Mapping[str, Any], by_pod: Mapping[str, Any]) -> list[str]:
    """Return the pods of a task's executors: its children, or below a retry."""
    found = []
    for child in _children(detail, by_pod):
        if str(child.get("display_name", "")).startswith("executor"):
            found += _executors_below(child, by_pod) or [str(child["pod_name"])]
    return found


def _has_stages_below(detail: Mapping[str, Any], by_pod: Mapping[str, Any]) -> bool:
    return any(not str(child.get("display_name", "")).endswith("-driver") for child in _children(detail, by_pod))


def _time(value: Any) -> str:
    text = str(value or "")
    return "" if text.startswith(("0001-", "1970-")) else text
