"""Which way a cluster splits traffic, and how many pods that takes."""

from typing import Any

import pytest

from visionyard.cluster.deploy.canary_ways import SHARE_TOLERANCE, Pods, find_way, observed_share, pods_for_share
from visionyard.cluster.deploy.kube import HTTP_ROUTE, POD, Kind
from visionyard.cluster.deploy.record import Served
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError

STABLE, CANARY = Served("a" * 64, "s3://b/a", "onnx"), Served("b" * 64, "s3://b/b", "onnx")


class FakeCluster:
    """What is installed, and what lies in the namespace."""

    namespace = "vision"

    def __init__(self, groups: set[str], *, has_canary: bool = True, objects: dict[Kind, Any] | None = None) -> None:
        self._groups, self._has_canary, self._objects = groups, has_canary, objects or {}

    def groups(self) -> set[str]:
        return self._groups

    def knows_field(self, kind: Kind, schema: str, path: str) -> bool:
        return self._has_canary and (schema, path) == ("InferenceService", "spec.canary")

    def get(self, kind: Kind, name: str) -> Any:
        return self._objects.get(kind, {}).get(name)

    def list(self, kind: Kind, *, labels: str = "") -> Any:
        return [pod for label, pods in self._objects.get(kind, {}).items() if label in labels for pod in pods]


def settings(**values: Any) -> DeploymentConfig:
    return DeploymentConfig(target="kserve", name="digits", store_uri="s3://b/x", **values)


GATEWAY = "gateway.networking.k8s.io"


@pytest.mark.parametrize(
    ("mode", "groups", "route", "way"),
    [
        pytest.param("Knative", {"serving.knative.dev"}, False, "knative", id="knative"),
        pytest.param("Standard", {GATEWAY}, True, "gateway", id="gateway with a route"),
        pytest.param("Standard", {GATEWAY}, False, "replicas", id="gateway that KServe does not use"),
        pytest.param("Standard", set(), False, "replicas", id="nothing"),
        pytest.param("Standard", {"serving.knative.dev"}, False, "replicas", id="knative there, but not the mode"),
    ],
)
def test_what_is_installed_decides(mode: str, groups: set[str], route: bool, way: str) -> None:
    objects = {HTTP_ROUTE: {"digits-predictor": {}}} if route else {}
    if route:
        objects[HTTP_ROUTE]["digits-predictor"] = {"kind": "HTTPRoute"}
    assert find_way(FakeCluster(groups, objects=objects), settings(mode=mode)) == way


@pytest.mark.parametrize(
    ("mode", "has_canary", "match"),
    [
        pytest.param("Knative", True, r"no API serving\.knative\.dev.*Standard", id="no knative"),
        pytest.param("Standard", False, r"no spec\.canary.*ignores it: all traffic would go", id="older KServe"),
    ],
)
def test_what_would_be_ignored_is_refused(mode: str, has_canary: bool, match: str) -> None:
    with pytest.raises(DeployError, match=match):
        find_way(FakeCluster(set(), has_canary=has_canary), settings(mode=mode))


@pytest.mark.parametrize(
    ("percent", "least", "most", "pods"),
    [
        pytest.param(50, 1, 2, Pods(1, 2), id="half"),
        pytest.param(25, 1, 8, Pods(1, 4), id="a quarter"),
        pytest.param(25, 6, 8, Pods(2, 7), id="a quarter of at least six"),
        pytest.param(10, 1, 20, Pods(1, 7), id="a tenth, near enough"),
        pytest.param(1, 1, 20, Pods(1, 17), id="a hundredth, near enough"),
    ],
)
def test_the_fewest_pods_that_give_a_share(percent: int, least: int, most: int, pods: Pods) -> None:
    found = pods_for_share(percent, least=least, most=most)
    assert found == pods
    assert abs(found.share - percent / 100) <= SHARE_TOLERANCE


@pytest.mark.parametrize("percent", range(1, 51))
def test_both_arms_have_pods_whatever_is_asked(percent: int) -> None:
    found = pods_for_share(percent, least=1, most=100)
    assert 1 <= found.canary < found.total


def test_a_share_that_takes_more_pods_says_how_many() -> None:
    with pytest.raises(DeployError, match=r"canary_percent 10: .* takes 7 here, and deployment\.max_replicas is 3"):
        pods_for_share(10, least=1, most=3)


def _pod(*, ready: bool) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"name": "p", "labels": {}}, "status": {"conditions": conditions}}


def test_the_split_is_seen_in_ready_pods() -> None:
    pods = {STABLE.label: [_pod(ready=True)] * 3, CANARY.label: [_pod(ready=True), _pod(ready=False)]}
    live = {"metadata": {"name": "digits"}}
    assert observed_share(FakeCluster(set(), objects={POD: pods}), "replicas", live, STABLE, CANARY) == 0.25
    assert observed_share(FakeCluster(set()), "replicas", live, STABLE, CANARY) == 0.0


@pytest.mark.parametrize(
    ("rules", "share"),
    [
        pytest.param([{"digits-predictor": 75, "digits-canary-predictor": 25}], 0.25, id="as asked"),
        pytest.param([{"digits-predictor": 1}], 0.0, id="no canary in it"),
        pytest.param(
            [{"digits-predictor": 75, "digits-canary-predictor": 25}, {"digits-predictor": 1}],
            0.0,
            id="gRPC forgotten",
        ),
        pytest.param([], 0.0, id="no rules"),
    ],
)
def test_the_split_is_seen_in_a_routes_weights(rules: list[dict[str, int]], share: float) -> None:
    refs = [{"backendRefs": [{"name": name, "weight": weight} for name, weight in rule.items()]} for rule in rules]
    cluster = FakeCluster({GATEWAY}, objects={HTTP_ROUTE: {"digits-predictor": {"spec": {"rules": refs}}}})
    assert observed_share(cluster, "gateway", {"metadata": {"name": "digits"}}, STABLE, CANARY) == share


def test_the_split_is_seen_in_knatives_traffic() -> None:
    traffic = [{"latestRevision": True, "percent": 20}, {"latestRevision": False, "percent": 80}]
    live = {"metadata": {"name": "digits"}, "status": {"components": {"predictor": {"traffic": traffic}}}}
    assert observed_share(FakeCluster(set()), "knative", live, STABLE, CANARY) == 0.2
    assert observed_share(FakeCluster(set()), "knative", {"metadata": {"name": "digits"}}, STABLE, CANARY) == 0.0
