"""What an InferenceService's status says, and what it does not.

`Ready` stays True while an update fails, since the old pod serves. In Standard mode `observedGeneration` is that of the
Deployment, not of the service, and right after a change the status still describes the state before. So a bundle counts
as served when modelStatus says so *and* a ready pod carries its digest and none another one.
"""

from collections.abc import Mapping
from typing import Any

from visionyard.cluster.deploy.kserve_manifests import MODE, SERVICE_LABEL
from visionyard.cluster.deploy.kube import INFERENCE_SERVICE, Cluster, Manifest
from visionyard.cluster.deploy.reasons import (
    Trouble,
    event_counts,
    is_of,
    is_ready,
    new_warnings,
    pod_troubles,
    pods_of,
)
from visionyard.cluster.deploy.record import CANARY_ARM, Served
from visionyard.cluster.deploy.waiting import Progress

_FAILED = ("BlockedByFailedLoad", "InvalidSpec")


def address_of(live: Mapping[str, Any]) -> str:
    """Return the address inside the cluster; `status.url` has no Service behind it in Standard mode."""
    return str(live.get("status", {}).get("address", {}).get("url", ""))


def is_serving(live: Mapping[str, Any]) -> bool:
    """Return whether a service is up with the bundle it is meant to serve."""
    status = live.get("status", {}).get("modelStatus", {})
    return status.get("transitionStatus") == "UpToDate" and _target_state(status) == "Loaded"


def state_in_words(live: Mapping[str, Any]) -> str:
    """Return modelStatus and Ready in a few words."""
    model = live.get("status", {}).get("modelStatus", {})
    conditions = live.get("status", {}).get("conditions", [])
    ready = next((each["status"] for each in conditions if each["type"] == "Ready"), "Unknown")
    transition = model.get("transitionStatus") or "no status yet"
    return f"{transition}, model {_target_state(model) or 'unknown'}, Ready {ready}"


def is_knative(live: Mapping[str, Any]) -> bool:
    """Return whether Knative runs a service."""
    annotations = live["metadata"].get("annotations") or {}
    return (live.get("status", {}).get("deploymentMode") or annotations.get(MODE)) in ("Knative", "Serverless")


def stable_labels(name: str) -> str:
    """Return the selector of a service's pods without those of a canary."""
    return f"{SERVICE_LABEL}={name},app!=isvc.{name}-{CANARY_ARM}-predictor"


def names_of(name: str) -> str:
    """Return a regular expression of what KServe makes for a service."""
    return rf"{name}|{name}(-{CANARY_ARM})?-predictor.*"


class ServiceWatch:
    """Looks at a service on its way to serve a bundle; knows what was there before it was changed."""

    def __init__(self, cluster: Cluster, name: str, served: Served, *, before: Manifest | None) -> None:
        """Remember what is there; make it before the change.

        Args:
            cluster: Where.
            name: Of the InferenceService.
            served: The bundle that is to serve.
            before: The service before the change, None when it is new.
        """
        self._cluster, self._name, self._served = cluster, name, served
        self._before = before or {}
        self._events = event_counts(cluster)

    def look(self, applied: Mapping[str, Any]) -> Progress:
        """Look once.

        Args:
            applied: What the change returned.
        """
        live = self._cluster.get(INFERENCE_SERVICE, self._name)
        if live is None:
            return Progress(False, True, ("somebody removed it",), "gone")
        pods = pods_of(self._cluster, None, labels=stable_labels(self._name))
        new = [pod for pod in pods if is_of(pod, self._served)]
        # Knative takes the traffic from old pods and lets them end when it likes.
        old = [] if is_knative(live) else [pod for pod in pods if is_ready(pod) and not is_of(pod, self._served)]
        troubles = [
            *_model_troubles(live, is_news=self._is_news(live)),
            *pod_troubles(new),
            *new_warnings(self._cluster, self._events, names=names_of(self._name), has_pods=bool(new)),
        ]
        has_taken_over = any(map(is_ready, new)) and not old
        return Progress(
            is_done=is_serving(live) and (has_taken_over or self._is_unchanged(applied)),
            is_stuck=any(trouble.is_stuck for trouble in troubles),
            reasons=tuple(trouble.text for trouble in troubles),
            shown=state_in_words(live),
        )

    def _is_unchanged(self, applied: Mapping[str, Any]) -> bool:
        """Tell a change that changed nothing: a service scaled to zero has no pod to show, and needs none."""
        generation = self._before.get("metadata", {}).get("generation")
        return generation is not None and applied["metadata"].get("generation") == generation

    def _is_news(self, live: Mapping[str, Any]) -> bool:
        """Tell a failure of this change from one that an earlier change left in the status."""
        return bool(live.get("status", {}).get("modelStatus") != self._before.get("status", {}).get("modelStatus"))


def _model_troubles(live: Mapping[str, Any], *, is_news: bool) -> list[Trouble]:
    status = live.get("status", {}).get("modelStatus", {})
    if status.get("transitionStatus") not in _FAILED:
        return []  # lastFailureInfo stays after recovery, so it alone says nothing
    failure = status.get("lastFailureInfo") or {}
    words = [status["transitionStatus"], failure.get("reason", ""), " ".join(failure.get("message", "").split())]
    if failure.get("exitCode"):
        words.append(f"exit code {failure['exitCode']}")
    return [Trouble(f"modelStatus: {', '.join(filter(None, words))}", is_stuck=is_news)]


def _target_state(model_status: Mapping[str, Any]) -> str:
    return str((model_status.get("states") or {}).get("targetModelState", ""))
