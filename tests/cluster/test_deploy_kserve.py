"""Deploying by KServe against a real API server with KServe's own definitions; a stand-in plays its controller."""

import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.cluster.kube import KubectlError, Namespace, kubectl, wait_for
from tests.fixtures.kserve_stand_in import StandIn
from tests.fixtures.plain_bundle import write_plain_bundle
from visionyard.cluster.deploy.kserve import KServeTarget
from visionyard.cluster.deploy.kube import Cluster
from visionyard.config import DeploymentConfig
from visionyard.errors import ConfigError, DeployError
from visionyard.inference.bundle import Bundle
from visionyard.monitoring.judge_verdict import Decision, Verdict
from visionyard.storage import exists

pytestmark = pytest.mark.cluster

NAME = "digits"
CRDS = Path(os.environ.get("VISIONYARD_SHARED_CRDS", Path(__file__).parents[3] / "shared" / "crds"))


@pytest.fixture(scope="session")
def kserve(cluster: None) -> None:
    """See that KServe's definitions are there; put them there where they are at hand."""
    try:
        kubectl("get", "crd", "inferenceservices.serving.kserve.io")
    except KubectlError:
        path = CRDS / "serving.kserve.io_inferenceservices.yaml"
        if not path.exists():
            pytest.skip(f"needs KServe's CRDs on the cluster, or in {CRDS} (set VISIONYARD_SHARED_CRDS)")
        kubectl("apply", "--server-side", "-f", str(path))
        # `kubectl wait` and jsonpath refuse a definition that has no conditions yet.
        wait_for(is_served, what="KServe's definitions")


def is_served() -> bool:
    try:
        kubectl("get", "inferenceservices.serving.kserve.io", "--all-namespaces")
    except KubectlError:
        return False
    return True


@pytest.fixture
def stand_in(kserve: None, namespace: Namespace) -> Iterator[StandIn]:
    with StandIn(namespace.name).running() as running:
        yield running


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    return [write_plain_bundle(tmp_path / content, content=content) for content in ("one", "two", "three")]


Targets = Callable[..., KServeTarget]


@pytest.fixture
def target(stand_in: StandIn, bucket: str) -> Targets:
    def make(judge: Any = None, **settings: Any) -> KServeTarget:
        values = {"target": "kserve", "name": NAME, "store_uri": f"{bucket}/bundles", "timeout_s": 120, **settings}
        cluster = Cluster.connect(stand_in.namespace)
        config = DeploymentConfig(**values)
        return KServeTarget(config, cluster, patience_s=0.5, **({"judge": judge} if judge else {}))

    return make


def verdict(decision: Decision) -> Callable[..., Verdict]:
    def judge(addresses: Any, **asked: Any) -> Verdict:
        judge.asked = {**asked, "addresses": addresses()}  # type: ignore[attr-defined]
        return Verdict(decision, ("because the test says so",), (), 100, 50, 1.0)

    return judge


def digest(bundle: Path) -> str:
    return Bundle.open(bundle).digest


def live(namespace: Namespace) -> dict[str, Any]:
    return namespace.get("inferenceservice", NAME)


def test_a_bundle_goes_to_the_store_and_is_served(
    target: Targets, bundles: list[Path], namespace: Namespace, bucket: str
) -> None:
    done = target(min_replicas=2, max_replicas=4, gpu_count=1).deploy(bundles[0])
    assert (done.outcome, done.digest) == ("deployed", digest(bundles[0]))
    assert done.url == f"http://{NAME}-predictor.{namespace.name}.svc.cluster.local"
    assert exists(f"{bucket}/bundles/{digest(bundles[0])}/model.json")
    predictor = live(namespace)["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == f"{bucket}/bundles/{digest(bundles[0])}"
    assert predictor["model"]["runtime"] == "visionyard-onnx"
    assert predictor["model"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 4)
    status = target().status()
    assert (status.digest, status.replicas, status.canary, status.problems) == (digest(bundles[0]), 2, "", ())
    assert status.state == "UpToDate, model Loaded, Ready True"


def test_an_update_waits_for_its_own_pods_not_for_the_old_ones(target: Targets, bundles: list[Path]) -> None:
    # Right after the change the status still tells of the bundle before, which is loaded.
    target().deploy(bundles[0])
    done = target().deploy(bundles[1])
    assert done.digest == digest(bundles[1])
    assert target().status().replicas == 1
    assert target().status().previous == (digest(bundles[0]),)


def test_the_same_again_changes_nothing(target: Targets, bundles: list[Path], namespace: Namespace) -> None:
    target().deploy(bundles[0])
    generation = live(namespace)["metadata"]["generation"]
    target().deploy(bundles[0])
    assert live(namespace)["metadata"]["generation"] == generation
    assert target().status().previous == ()


def test_a_failed_load_is_told_and_the_old_one_serves_on(
    target: Targets, bundles: list[Path], stand_in: StandIn
) -> None:
    target().deploy(bundles[0])
    stand_in.failing = {digest(bundles[1])}
    with pytest.raises(DeployError, match=r"BlockedByFailedLoad.*HeadObject.*exit code 1.*was brought back") as raised:
        target().deploy(bundles[1])
    assert "storage-initializer" in str(raised.value)
    # Ready was True all the while, which is why it is not asked.
    assert target().status().digest == digest(bundles[0])
    stand_in.failing = set()
    # The failure info of before stays in the status; it must not end this one.
    assert target().deploy(bundles[2]).digest == digest(bundles[2])


@pytest.mark.parametrize(
    ("settings", "spoil", "match"),
    [
        pytest.param(
            {},
            lambda stand_in, found: stand_in.failing.add(found),
            r"BlockedByFailedLoad.*HeadObject.*left as it is",
            id="failed load",
        ),
        pytest.param(
            {},
            lambda stand_in, found: stand_in.unpullable.add(found),
            r"pod digits-predictor-.*ImagePullBackOff.*nowhere",
            id="image that cannot be pulled",
        ),
        pytest.param(
            {"options": {"runtime": "nowhere"}},
            lambda stand_in, found: None,
            r"InvalidSpec, NoSupportingRuntime",
            id="no runtime",
        ),
        pytest.param(
            {"service_account": "bare"},
            lambda stand_in, found: stand_in.accounts_without_secret.add("bare"),
            r'ReplicaSet digits-predictor-.*FailedCreate.*secrets "visionyard-s3" not found',
            id="missing secret",
        ),
    ],
)
def test_what_does_not_come_to_serve_says_why(
    settings: dict[str, Any],
    spoil: Callable[..., None],
    match: str,
    target: Targets,
    bundles: list[Path],
    stand_in: StandIn,
) -> None:
    spoil(stand_in, digest(bundles[0]))
    with pytest.raises(DeployError, match=match):
        target(**settings).deploy(bundles[0])


def test_rollback_goes_back_one_bundle_at_a_time(target: Targets, bundles: list[Path], namespace: Namespace) -> None:
    for bundle in bundles:
        target(min_replicas=2, max_replicas=2).deploy(bundle)
    assert target().rollback().digest == digest(bundles[1])
    assert target().status().digest == digest(bundles[1])
    assert live(namespace)["spec"]["predictor"]["minReplicas"] == 2, "all but the bundle stays"
    assert target().rollback().digest == digest(bundles[0])
    with pytest.raises(DeployError, match="nothing to roll back to"):
        target().rollback()


def test_a_service_that_is_not_there(target: Targets) -> None:
    for ask in (target().rollback, target().status):
        with pytest.raises(DeployError, match=r"InferenceService digits: there is none in namespace"):
            ask()


CANARY = {"canary_percent": 25, "min_replicas": 2, "max_replicas": 8}


def test_a_canary_by_numbers_of_pods_is_promoted(
    target: Targets, bundles: list[Path], stand_in: StandIn, namespace: Namespace
) -> None:
    target(**CANARY).deploy(bundles[0])
    judge = verdict("promote")
    done = target(judge, **CANARY).deploy(bundles[1])
    assert (done.outcome, done.digest) == ("promoted", digest(bundles[1]))
    assert judge.asked["share"] == pytest.approx(0.25, abs=0.05)
    assert [len(arm) for arm in judge.asked["addresses"]] == [3, 1]
    assert done.url == f"http://{NAME}-split.{namespace.name}.svc.cluster.local"
    assert namespace.get("service", f"{NAME}-split")["spec"]["selector"]["component"] == "predictor"
    after = live(namespace)
    assert "canary" not in after["spec"]
    assert (after["spec"]["predictor"]["minReplicas"], after["spec"]["predictor"]["maxReplicas"]) == (2, 8)
    assert after["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"
    assert target().status().canary == ""


def test_a_canary_that_is_worse_is_rolled_back_and_never_took_all_traffic(
    target: Targets, bundles: list[Path], stand_in: StandIn, namespace: Namespace
) -> None:
    target(**CANARY).deploy(bundles[0])
    done = target(verdict("roll_back"), **CANARY).deploy(bundles[1])
    assert (done.outcome, done.digest, done.reasons) == (
        "rolled back",
        digest(bundles[0]),
        ("because the test says so",),
    )
    uris = {spec["predictor"]["model"]["storageUri"][-64:] for spec in stand_in.requests}
    assert uris == {digest(bundles[0])}, "the canary was never the predictor"
    after = live(namespace)
    assert "canary" not in after["spec"]
    assert (after["spec"]["predictor"]["minReplicas"], after["spec"]["predictor"]["maxReplicas"]) == (2, 8)
    assert target().status().previous == ()


def test_a_canary_that_does_not_load_is_ended(target: Targets, bundles: list[Path], stand_in: StandIn) -> None:
    target(**CANARY).deploy(bundles[0])
    stand_in.failing = {digest(bundles[1])}
    with pytest.raises(DeployError, match=r"the canary.*HeadObject.*was ended, and .* serves on"):
        target(verdict("promote"), **CANARY).deploy(bundles[1])
    assert target().status().canary == ""


def test_a_canary_that_is_silently_ignored_is_refused(
    target: Targets, bundles: list[Path], stand_in: StandIn, namespace: Namespace
) -> None:
    target(**CANARY).deploy(bundles[0])
    stand_in.is_canary_ignored = True
    with pytest.raises(DeployError, match=r"the canary of InferenceService digits did not come to serve within 10 s"):
        target(verdict("promote"), **CANARY, timeout_s=10).deploy(bundles[1])
    assert "canary" not in live(namespace)["spec"]


def test_a_canary_left_by_a_killed_deployment_is_ended_first(
    target: Targets, bundles: list[Path], namespace: Namespace
) -> None:
    target(**CANARY).deploy(bundles[0])

    def killed(addresses: Any, **asked: Any) -> Verdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target(killed, **CANARY).deploy(bundles[1])
    assert target().status().canary.startswith(digest(bundles[1])[:12])
    done = target(verdict("promote"), **CANARY).deploy(bundles[2])
    assert done.digest == digest(bundles[2])
    with pytest.raises(KeyboardInterrupt):
        target(killed, **CANARY).deploy(bundles[1])
    assert target().rollback().reasons == ("the canary was ended",)
    assert "canary" not in live(namespace)["spec"]
    assert target().status().digest == digest(bundles[2])


def test_knative_needs_knative(target: Targets, bundles: list[Path]) -> None:
    settings = {"mode": "Knative", "scale_metric": "concurrency", "canary_percent": 20}
    with pytest.raises(DeployError, match=r"the cluster has no API serving\.knative\.dev"):
        target(**settings).deploy(bundles[0])


def test_a_split_that_the_pods_cannot_give_is_refused(target: Targets, bundles: list[Path]) -> None:
    target().deploy(bundles[0])
    with pytest.raises(DeployError, match=r"takes 4 here, and deployment\.max_replicas is 2"):
        target(canary_percent=20, max_replicas=2).deploy(bundles[1])


def test_an_unknown_field_is_refused_by_the_server_not_dropped(target: Targets, bundles: list[Path]) -> None:
    settings = {"options": {"tolerations": [{"key": "nvidia.com/gpu", "operater": "Exists"}]}}
    with pytest.raises(DeployError, match=r"operater.*"):
        target(**settings).deploy(bundles[0])


def test_a_name_that_becomes_too_long(target: Targets, namespace: Namespace) -> None:
    with pytest.raises(ConfigError, match=r"at most 63 are allowed; make it \d+ shorter"):
        target(name="d" * 40)


class _Metrics(BaseHTTPRequestHandler):
    """One arm's `/metrics`: forty requests more at each look, all fine or a third failed."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.looks += 1
        failed = server.looks * 14 if server.is_bad else 0
        labels = 'model="digits",protocol="http"'
        count = server.looks * 40
        lines = [
            f'visionyard_serving_requests_total{{{labels},status="200"}} {count - failed}',
            f'visionyard_serving_requests_total{{{labels},status="500"}} {failed}',
            f'visionyard_serving_request_seconds_bucket{{{labels},le="0.02"}} {count}',
            f'visionyard_serving_request_seconds_bucket{{{labels},le="+Inf"}} {count}',
        ]
        self.send_response(200)
        self.end_headers()
        self.wfile.write("\n".join(lines).encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_the_judge_reads_the_arms_themselves(target: Targets, bundles: list[Path], stand_in: StandIn) -> None:
    servers = []
    try:
        for bundle, address in ((bundles[0], "127.0.0.21"), (bundles[1], "127.0.0.22")):
            server: Any = ThreadingHTTPServer((address, 8080), _Metrics)
            server.looks, server.is_bad = 0, address.endswith("22")
            Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
            stand_in.addresses[digest(bundle)[:16]] = address
        settings = {"canary_percent": 50, "min_replicas": 2, "max_replicas": 2}
        target(**settings).deploy(bundles[0])
        done = target(**settings, canary_duration_s=60).deploy(bundles[1])
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    assert done.outcome == "rolled back"
    assert done.reasons[0].startswith("errors: canary")


def test_history_is_kept_on_the_service(target: Targets, bundles: list[Path], namespace: Namespace) -> None:
    target().deploy(bundles[0])
    kept = json.loads(live(namespace)["metadata"]["annotations"]["visionyard.dev/deployed"])
    assert [entry["digest"] for entry in kept] == [digest(bundles[0])]
