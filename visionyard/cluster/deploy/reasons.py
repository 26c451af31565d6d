"""Why a bundle does not come to serve, in the words of pods and events."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from visionyard.cluster.deploy.kube import EVENT, POD, Cluster, Manifest
from visionyard.cluster.deploy.record import DIGEST_LABEL, Served

# Waiting for these reasons does not end by waiting longer. A pod that may not be scheduled yet is not among them: an
# autoscaler may bring its node.
_STUCK = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}
_SHOWN_CHARACTERS = 600


@dataclass(frozen=True)
class Trouble:
    """What stands in the way.

    Attributes:
        text: Who says what.
        is_stuck: It does not pass by itself.
    """

    text: str
    is_stuck: bool


def pods_of(cluster: Cluster, served: Served | None, *, labels: str) -> list[Manifest]:
    """Return the pods of a service that are not ending; of one bundle, or of all."""
    chosen = f"{labels},{DIGEST_LABEL}={served.label}" if served else labels
    return [pod for pod in cluster.list(POD, labels=chosen) if not is_ending(pod)]


def is_ending(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod was told to end."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_of(pod: Mapping[str, Any], served: Served) -> bool:
    """Return whether a pod was made for a bundle."""
    return bool(pod["metadata"].get("labels", {}).get(DIGEST_LABEL) == served.label)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod takes requests."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def pod_troubles(pods: Iterable[Mapping[str, Any]]) -> list[Trouble]:
    """Return what keeps pods from running, the same words once."""
    found: dict[str, Trouble] = {}
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        for each in status.get("conditions", []):
            if each["type"] == "PodScheduled" and each["status"] == "False":
                text = each.get("message", "")
                found.setdefault(text, Trouble(f"pod {name}: not scheduled: {text}", is_stuck=False))
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            if trouble := _container_trouble(name, container):
                found.setdefault(trouble.text.partition(": ")[2], trouble)
    return list(found.values())


def event_counts(cluster: Cluster) -> dict[str, int]:
    """Return how often each warning of the namespace happened so far, so that later ones can be told from them."""
    return {event["metadata"]["uid"]: int(event.get("count") or 1) for event in _warnings(cluster)}


def new_warnings(cluster: Cluster, before: Mapping[str, int], *, names: str, has_pods: bool) -> list[Trouble]:
    """Return the warnings since `before` about a service and what belongs to it.

    Args:
        cluster: Where.
        before: From `event_counts`.
        names: Regular expression of what belongs to it.
        has_pods: Whether there are pods: then a refusal to make one was overcome.
    """
    found = {}
    for event in _warnings(cluster):
        about = event.get("involvedObject", {})
        is_new = int(event.get("count") or 1) > before.get(event["metadata"]["uid"], 0)
        is_ours = re.fullmatch(names, about.get("name", ""))
        if is_new and is_ours:
            text = f"{about.get('kind')} {about['name']}: {event.get('reason')}: {_short(event.get('message', ''))}"
            # A pod that admission refuses is asked for again and again under new names: once is enough to read.
            kind = (about.get("kind"), about["name"], event.get("reason"))
            found[kind] = Trouble(text, is_stuck=event.get("reason") == "FailedCreate" and not has_pods)
    return list(found.values())


def _warnings(cluster: Cluster) -> list[Manifest]:
    # Asked for once a second: a busy namespace has thousands of other events.
    return cluster.list(EVENT, fields="type=Warning")


def _container_trouble(pod: str, status: Mapping[str, Any]) -> Trouble | None:
    waiting = status.get("state", {}).get("waiting") or {}
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    name = f"pod {pod}: container {status['name']}"
    said = f", it ended with {ended['exitCode']} {ended.get('reason', '')}" if ended.get("exitCode") else ""
    if said and ended.get("message"):
        said += f": {_short(ended['message'])}"
    if waiting.get("reason") in _STUCK:
        words = f"{waiting['reason']}: {_short(waiting.get('message', ''))}" if not said else waiting["reason"]
        return Trouble(f"{name}: {words}{said}", is_stuck=True)
    if said and not status.get("ready"):
        return Trouble(f"{name}{said}", is_stuck=False)
    return None


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN_CHARACTERS else f"... {words[-_SHOWN_CHARACTERS:]}"
