"""Runs on the cluster: how far their stages are, and which pod did which stage.

Read from the Argo workflow that a run became. The tasks that the v2beta1 API lists name neither their pods nor
themselves in a way that says which is a try of which (API server of KFP 2.17, `toApiPipelineTaskDetail`).
"""

import base64
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionyard.errors import VisionyardError

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
# KFP's names for templates of the workflow; a pod with labels or retries has a prefix before them.
_EXECUTOR, _DRIVERS = "system-container-executor", ("system-container-driver", "system-dag-driver")
_STATES = {
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Skipped": "SKIPPED",
    "Omitted": "SKIPPED",
    "Failed": "FAILED",
    "Error": "FAILED",
}
# KFP installs Argo with a retry for every template, so that a node may be a try of another: `w(0).root(0).train-model`.
_TRIES, _IS_TRY = re.compile(r"\(\d+\)(?=\.|$)"), re.compile(r"\(\d+\)$")
_POD_NAMES = "workflows.argoproj.io/pod-name-format"


@dataclass(frozen=True)
class TaskState:
    """One task of a run.

    Attributes:
        name: Its name in the pipeline.
        state: `PENDING`, `RUNNING`, `SUCCEEDED`, `CACHED`, `SKIPPED` (a condition, or a failure before it), `FAILED`.
        started: When, as Argo writes it; empty: not yet.
        ended: When; empty: not yet.
        pods: Names of the pods that ran it, oldest first.
        message: Why it waits or failed, in Argo's words; empty when there is nothing to say.
    """

    name: str
    state: str
    started: str = ""
    ended: str = ""
    pods: tuple[str, ...] = ()
    message: str = ""


def task_states(workflow: Mapping[str, Any]) -> list[TaskState]:
    """Return the tasks of a run in the order in which they started; drivers that did their work are left out.

    Args:
        workflow: The run's workflow; empty for a run that has not begun.

    Raises:
        VisionyardError: The workflow's nodes are kept where the API cannot read them.
    """
    tries: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for node in sorted(_nodes(workflow), key=lambda node: (str(node.get("startedAt") or "~"), str(node["name"]))):
        tries[_TRIES.sub("", str(node["name"]))].append(node)
    found = []
    tasks = {path for path, nodes in tries.items() if _template(nodes).endswith(_EXECUTOR)}
    for path, nodes in tries.items():
        if path in tasks:
            driver = tries.get(f"{path}-driver", [])
            found.append(_task(workflow, nodes, tries.get(f"{path}.executor", []), driver))
        elif _template(nodes) in _DRIVERS and path.removesuffix("-driver") not in tasks:
            found += [_of_driver(workflow, nodes)] if _top(nodes)["state"] == "FAILED" else []
    return sorted(found, key=lambda task: (task.started or "~", task.name))


def run_state(run: Mapping[str, Any]) -> str:
    """Return the state of a run; `CANCELED` too where KFP calls a run that was asked to stop `FAILED`.

    Args:
        run: As the API returns it.
    """
    state = str(run.get("state", ""))
    was_asked_to_stop = any(one.get("state") == "CANCELING" for one in run.get("state_history") or [])
    return "CANCELED" if state == "FAILED" and was_asked_to_stop else state


def failure_of(workflow: Mapping[str, Any]) -> str:
    """Return what the engine says of a run as a whole, such as why it could not begin; empty: nothing."""
    return str(workflow.get("status", {}).get("message", ""))


def namespace_of(workflow: Mapping[str, Any]) -> str:
    """Return where the pods of a run are; empty: it has not begun."""
    return str(workflow.get("metadata", {}).get("namespace", ""))


def _nodes(workflow: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = workflow.get("status", {})
    packed = status.get("compressedNodes")
    if packed:
        # Argo packs the nodes of a workflow that is too large for one object.
        yield from json.loads(gzip.decompress(base64.b64decode(packed))).values()
    elif status.get("offloadNodeStatusVersion"):
        raise VisionyardError(
            "the workflow's nodes are in Argo's own database (nodeStatusOffLoad), which the API of Kubeflow Pipelines "
            "does not show; look at the run in its page"
        )
    else:
        yield from (status.get("nodes") or {}).values()


def _template(nodes: Sequence[Mapping[str, Any]]) -> str:
    return str(nodes[0].get("templateName", ""))


def _task(
    workflow: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    executors: Sequence[Mapping[str, Any]],
    driver: Sequence[Mapping[str, Any]],
) -> TaskState:
    top = _top(nodes)
    if driver and _top(driver)["state"] == "FAILED":
        return _of_driver(workflow, driver, name=top["name"])
    pods = [node for node in executors if node.get("type") == "Pod"]
    state, message = top["state"], top["message"]
    if state == "SUCCEEDED" and not pods and any(node.get("type") == "Skipped" for node in executors):
        state, message = "CACHED", ""
    elif state in {"RUNNING", "FAILED"} and pods:
        last = pods[-1]
        state = "PENDING" if state == "RUNNING" and last.get("phase") == "Pending" else state
        message = str(last.get("message", "")) or message
    elif state == "RUNNING":
        state = "PENDING"
    return TaskState(top["name"], state, top["started"], top["ended"], _pod_names(workflow, pods), message)


def _of_driver(workflow: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], *, name: str = "") -> TaskState:
    """Return a task whose driver failed: the pod before it, in which KFP works out what it runs with."""
    top = _top(nodes)
    pods = [node for node in nodes if node.get("type") == "Pod"]
    said = str(pods[-1].get("message", "")) if pods else ""
    message = f"its driver failed: {said or top['message']}"
    return TaskState(name or top["name"], "FAILED", top["started"], top["ended"], _pod_names(workflow, pods), message)


def _top(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what a node says that may have been tried more than once: the one that is no try speaks for all."""
    top = next((node for node in reversed(nodes) if not _IS_TRY.search(str(node["name"]))), nodes[-1])
    return {
        "name": _IS_TRY.sub("", str(top.get("displayName", ""))),
        "state": _STATES.get(str(top.get("phase", "")), "PENDING"),
        "started": str(top.get("startedAt") or ""),
        "ended": str(top.get("finishedAt") or ""),
        "message": str(top.get("message", "")),
    }


def _pod_names(workflow: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of pods: the workflow's, the template's, and the last part of the node's id."""
    metadata = workflow.get("metadata", {})
    if metadata.get("annotations", {}).get(_POD_NAMES) == "v1":
        return tuple(str(pod["id"]) for pod in pods)
    name = str(metadata.get("name", ""))
    return tuple(f"{name}-{pod['templateName']}-{str(pod['id']).rpartition('-')[2]}" for pod in pods)
