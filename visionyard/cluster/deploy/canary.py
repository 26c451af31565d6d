"""A canary on KServe: started beside what serves, looked at, judged, and ended."""

import json
from typing import Any, Protocol

from visionyard import events
from visionyard.cluster.deploy.canary_ways import (
    SHARE_TOLERANCE,
    Way,
    find_way,
    observed_share,
    pods_for_share,
)
from visionyard.cluster.deploy.judging import Arms
from visionyard.cluster.deploy.kserve_manifests import (
    AUTOSCALER_CLASS,
    SERVICE_LABEL,
    canary_arm,
    inference_service,
    rolled_back,
    split_service,
)
from visionyard.cluster.deploy.kserve_state import is_knative, is_serving, names_of
from visionyard.cluster.deploy.kube import AUTOSCALER, INFERENCE_SERVICE, SERVICE, Cluster, Manifest
from visionyard.cluster.deploy.reasons import event_counts, is_ready, new_warnings, pod_troubles, pods_of
from visionyard.cluster.deploy.record import CANARY, CANARY_ARM, Served, canary_text
from visionyard.cluster.deploy.waiting import Progress, wait_until_served
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError
from visionyard.monitoring.judge_verdict import Verdict

# How many pods there were before numbers of pods split the traffic.
BEFORE = "visionyard.dev/before-canary"
# The Service over both arms, where there is one.
SPLIT = "visionyard.dev/split-service"


class CanaryJudge(Protocol):
    """Watches a canary until it has decided; `judge_canary` is one."""

    def __call__(self, addresses: Any, *, share: float, least_answers: int, duration_s: float) -> Verdict:
        """Return the verdict; see `judge_canary`."""


class Canary:
    """The canary of one service."""

    def __init__(
        self,
        cluster: Cluster,
        config: DeploymentConfig,
        options: dict[str, Any],
        *,
        patience_s: float,
        judge: CanaryJudge,
    ) -> None:
        """Change nothing yet.

        Args:
            cluster: Where.
            config: Of the service.
            options: The target's own, checked.
            patience_s: How long a canary must be stuck to be given up.
            judge: Watches it and decides.
        """
        self._cluster, self._config, self._options = cluster, config, options
        self._patience_s, self._judge = patience_s, judge

    def prepare(self) -> None:
        """Make the Service over both arms where it will be needed, so that clients call it from the start."""
        if find_way(self._cluster, self._config) == "replicas":
            service = split_service(self._config.name, namespace=self._cluster.namespace)
            self._cluster.apply(SERVICE, service)
            mark = {"metadata": {"annotations": {SPLIT: service["metadata"]["name"]}}}
            self._cluster.patch(INFERENCE_SERVICE, self._config.name, mark)

    def run(self, served: Served, history: list[Served], live: Manifest) -> Verdict:
        """Start a canary, see that it gets its share, and judge it.

        Args:
            served: The bundle to try.
            history: What the service serves, newest first.
            live: The service, without a canary.

        Returns:
            The verdict; the canary is still there.

        Raises:
            DeployError: It does not come to serve, or not with its share; it was ended then.
        """
        way = find_way(self._cluster, self._config)
        before = event_counts(self._cluster)
        share = self._start(way, served, history, live)
        try:
            wait_until_served(
                lambda: self._look(way, share, before, history[0], served),
                what=f"the canary of InferenceService {self._config.name}",
                timeout_s=self._config.timeout_s,
                patience_s=self._patience_s,
            )
        except DeployError as error:
            self.abandon(self._live(), history)
            raise DeployError(f"{error}; it was ended, and {history[0].digest[:12]} serves on") from None
        events.warn(f"{self._config.name}: {served.digest[:12]} gets {share:.0%} of the traffic, by way of {way}")
        arms = Arms(self._cluster, f"{SERVICE_LABEL}={self._config.name}", history[0], served)
        return self._judge(
            arms.addresses,
            share=share,
            least_answers=self._config.canary_requests,
            duration_s=self._config.canary_duration_s,
        )

    def end(self) -> None:
        """Take the canary away from a service that serves its bundle already."""
        live = self._live()
        change = {"metadata": {"annotations": {CANARY: None, BEFORE: None}}, "spec": {"canary": None}}
        self._cluster.patch(INFERENCE_SERVICE, self._config.name, change)
        self._remove_autoscaler(live)

    def abandon(self, live: Manifest, history: list[Served]) -> None:
        """End the canary of a service: all traffic is for what served before.

        Args:
            live: The service.
            history: What it serves, newest first.
        """
        change = rolled_back(history[0], history, live)
        annotations = live["metadata"].get("annotations") or {}
        change["metadata"]["annotations"] |= {CANARY: None, BEFORE: None}
        change["spec"]["canary"] = None
        if BEFORE in annotations:
            earlier = json.loads(annotations[BEFORE])
            change["metadata"]["annotations"][AUTOSCALER_CLASS] = earlier.pop(AUTOSCALER_CLASS)
            change["spec"]["predictor"] |= earlier
        self._cluster.patch(INFERENCE_SERVICE, self._config.name, change)
        self._remove_autoscaler(live)

    def _start(self, way: Way, served: Served, history: list[Served], live: Manifest) -> float:
        """Ask for the canary; return the share it is to get."""
        percent = self._config.canary_percent
        annotations = {CANARY: canary_text(served)}
        if way == "knative":
            manifest = inference_service(
                self._config, self._options, served, history, namespace=self._cluster.namespace
            )
            manifest["metadata"]["annotations"] |= annotations
            manifest["spec"]["predictor"]["canaryTrafficPercent"] = percent
            self._cluster.apply(INFERENCE_SERVICE, manifest)
            return percent / 100
        predictor = canary_arm(self._config, self._options, served)
        change: Manifest = {
            "metadata": {"annotations": annotations},
            "spec": {"canary": [{"trafficPercent": percent, "predictor": predictor}]},
        }
        share = percent / 100
        if way == "replicas":
            pods = pods_for_share(percent, least=self._config.min_replicas, most=self._config.max_replicas)
            share = pods.share
            # An autoscaler would change the share while the canary is judged.
            annotations |= {BEFORE: _sizes(live), AUTOSCALER_CLASS: "none"}
            predictor["minReplicas"] = pods.canary
            change["spec"]["predictor"] = {"minReplicas": pods.total, "maxReplicas": pods.total}
            self.prepare()
        self._cluster.patch(INFERENCE_SERVICE, self._config.name, change)
        return share

    def _look(self, way: Way, share: float, before: dict[str, int], stable: Served, canary: Served) -> Progress:
        live = self._live()
        pods = pods_of(self._cluster, canary, labels=f"{SERVICE_LABEL}={self._config.name}")
        troubles = [
            *pod_troubles(pods),
            *new_warnings(self._cluster, before, names=names_of(self._config.name), has_pods=bool(pods)),
        ]
        statuses = live.get("status", {}).get("canaryStatuses") or []
        is_up = is_serving(live) if way == "knative" else any(e["name"] == CANARY_ARM and e["ready"] for e in statuses)
        is_up = is_up and any(map(is_ready, pods))
        observed = observed_share(self._cluster, way, live, stable, canary)
        reasons = [trouble.text for trouble in troubles]
        if is_up and abs(observed - share) > SHARE_TOLERANCE:
            reasons.append(f"its share of the traffic is {observed:.0%}, expected {share:.0%} by way of {way}")
        return Progress(
            is_done=is_up and abs(observed - share) <= SHARE_TOLERANCE,
            is_stuck=any(trouble.is_stuck for trouble in troubles),
            reasons=tuple(reasons),
            shown=f"{'up' if is_up else 'not up yet'}, {observed:.0%} of the traffic",
        )

    def _remove_autoscaler(self, live: Manifest) -> None:
        """Remove what KServe leaves behind when a canary goes that had an autoscaler."""
        if is_knative(live) or BEFORE in (live["metadata"].get("annotations") or {}):
            return
        try:
            self._cluster.delete(AUTOSCALER, f"{self._config.name}-{CANARY_ARM}-predictor")
        except DeployError as error:
            events.warn(f"the autoscaler of the ended canary stays, which scales nothing: {error}")

    def _live(self) -> Manifest:
        live = self._cluster.get(INFERENCE_SERVICE, self._config.name)
        if live is None:
            raise DeployError(f"InferenceService {self._config.name}: somebody removed it during its canary")
        return live


def _sizes(live: Manifest) -> str:
    predictor = live["spec"]["predictor"]
    sizes = {name: predictor.get(name) for name in ("minReplicas", "maxReplicas")}
    sizes[AUTOSCALER_CLASS] = (live["metadata"].get("annotations") or {}).get(AUTOSCALER_CLASS)
    return json.dumps(sizes)
