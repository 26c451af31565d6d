"""How a cluster can split traffic between two bundles: what is installed decides, and the split is looked at.

| way | takes | the split |
| --- | --- | --- |
| knative | mode Knative and Knative Serving | `canaryTrafficPercent`, seen in status.components.predictor.traffic |
| gateway | `spec.canary`, and a route of the Gateway API for the service | weights, seen in the HTTPRoute |
| replicas | `spec.canary` | numbers of pods behind a Service of ours, seen by counting those that are ready |

Each way would be accepted and ignored where its part is missing: then another one is taken, or the canary is refused.
"""

from dataclasses import dataclass
from typing import Any, Literal

from visionyard.cluster.deploy.kserve_manifests import SERVICE_LABEL
from visionyard.cluster.deploy.kube import HTTP_ROUTE, INFERENCE_SERVICE, Cluster, Manifest
from visionyard.cluster.deploy.reasons import is_ready, pods_of
from visionyard.cluster.deploy.record import CANARY_ARM, Served
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError

Way = Literal["knative", "gateway", "replicas"]

# How far numbers of pods may be from the share that was asked for: at a quarter, a pod more or less of ten.
SHARE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Pods:
    """Numbers of pods that split the traffic.

    Attributes:
        canary: Of the canary.
        total: Of both arms.
    """

    canary: int
    total: int

    @property
    def share(self) -> float:
        """The canary's, in (0, 1)."""
        return self.canary / self.total


def find_way(cluster: Cluster, config: DeploymentConfig) -> Way:
    """Return how this cluster splits the traffic of a service.

    Raises:
        DeployError: Not at all; says why and what to do.
    """
    groups = cluster.groups()
    if config.mode == "Knative":
        if "serving.knative.dev" not in groups:
            raise DeployError(
                "deployment.mode Knative: the cluster has no API serving.knative.dev; install Knative Serving, or set "
                "deployment.mode to Standard"
            )
        return "knative"
    if not cluster.knows_field(INFERENCE_SERVICE, "InferenceService", "spec.canary"):
        raise DeployError(
            "deployment.canary_percent: the installed KServe has no spec.canary, and in Standard mode it takes "
            "canaryTrafficPercent and ignores it: all traffic would go to the new bundle; update KServe, set "
            "deployment.mode to Knative, or deployment.canary_percent to 0"
        )
    # The API being there does not say that KServe routes by it; its route for this service does.
    if HTTP_ROUTE.group in groups and cluster.get(HTTP_ROUTE, f"{config.name}-predictor"):
        return "gateway"
    return "replicas"


def pods_for_share(percent: int, *, least: int, most: int) -> Pods:
    """Return the fewest pods whose numbers give a share, at least one of each arm.

    Args:
        percent: The canary's share, 1 to 50.
        least: Fewest pods in all.
        most: Most pods in all.

    Raises:
        DeployError: No number up to `most` comes near; says how many it takes.
    """
    wanted = percent / 100
    for total in range(max(2, least), most + 1):
        pods = Pods(min(max(1, round(wanted * total)), total - 1), total)
        if abs(pods.share - wanted) <= SHARE_TOLERANCE:
            return pods
    needed = next(
        total for total in range(2, 102) if abs(max(1, round(wanted * total)) / total - wanted) <= SHARE_TOLERANCE
    )
    raise DeployError(
        f"deployment.canary_percent {percent}: without a gateway or Knative traffic is split by numbers of pods, which "
        f"takes {max(needed, least)} here, and deployment.max_replicas is {most}; raise it, or ask for another share"
    )


def observed_share(cluster: Cluster, way: Way, live: Manifest, stable: Served, canary: Served) -> float:
    """Return the canary's share as the cluster shows it, in [0, 1].

    Args:
        cluster: Where.
        way: How traffic is split.
        live: The InferenceService now.
        stable: The bundle of the one arm.
        canary: Of the other.
    """
    if way == "knative":
        traffic = live.get("status", {}).get("components", {}).get("predictor", {}).get("traffic", [])
        return float(sum(each.get("percent") or 0 for each in traffic if each.get("latestRevision"))) / 100
    if way == "gateway":
        route = cluster.get(HTTP_ROUTE, f"{live['metadata']['name']}-predictor") or {}
        return _route_share(route, f"{live['metadata']['name']}-{CANARY_ARM}-predictor")
    labels = f"{SERVICE_LABEL}={live['metadata']['name']}"
    counts = [sum(map(is_ready, pods_of(cluster, served, labels=labels))) for served in (stable, canary)]
    return counts[1] / sum(counts) if sum(counts) else 0.0


def _route_share(route: dict[str, Any], backend: str) -> float:
    """Return the smallest share that any rule of a route gives to a backend."""
    shares = []
    for rule in route.get("spec", {}).get("rules", []):
        weights = {each["name"]: each.get("weight", 1) for each in rule.get("backendRefs", [])}
        shares.append(weights.get(backend, 0) / (sum(weights.values()) or 1))
    return min(shares, default=0.0)
