"""The model server's image as a Deployment: probes, rolling update under load, drain, autoscaler, metrics."""

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.cluster.kube import Namespace, pod, pod_spec, wait_for
from tests.fixtures.s3_server import S3Server, s3_client
from visionyard.storage import upload_folder

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NAME = "server"
LABELS = {"app.kubernetes.io/name": NAME}
ASKING = Path(__file__).with_name("asking.py")


def deployment(image: str, bundle: str) -> dict[str, Any]:
    """Return two servers of a bundle that lies in the store, replaced one by one."""
    health = {"port": "http", "path": "/v2/health/live"}
    container = {
        "args": [bundle, "--name", "boxes"],
        "envFrom": [{"secretRef": {"name": "visionyard-s3"}}],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 8081}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "startupProbe": {"httpGet": health, "periodSeconds": 1, "failureThreshold": 120},
        "livenessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5},
        "readinessProbe": {
            "httpGet": {"port": "http", "path": "/v2/health/ready"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        # The signal and the Service's forgetting of the pod start together; until all nodes know, requests still come.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    }
    spec = pod_spec(image, container=container, scratch="256Mi", terminationGracePeriodSeconds=45)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": LABELS},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }


def service() -> dict[str, Any]:
    """Return the Service of the two servers."""
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": LABELS, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "labels": LABELS}, "spec": spec}


def asking_pod(name: str, image: str, *arguments: str) -> dict[str, Any]:
    """Return a pod that asks the server as `asking.py` says."""
    picture = np.full((80, 96, 3), 120, np.uint8)
    picture[20:36, 20:36] = (220, 40, 30)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    container = {
        "command": ["python3", "-c", ASKING.read_text(), *arguments],
        "env": [{"name": "IMAGE", "value": base64.b64encode(stream.getvalue()).decode()}],
    }
    return pod(name, image, container=container)


@pytest.fixture(scope="module")
def served(
    module_namespace: Namespace, serve_image: str, store: S3Server, tiny_bundle: Callable[[str], tuple[Path, Path]]
) -> Namespace:
    """Return a namespace in which two servers are ready."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        s3_client(store.endpoint).make_bucket("serving")
        upload_folder(tiny_bundle("detection")[0], "s3://serving/bundle")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "visionyard-s3"},
        "stringData": store.environment,
    }
    module_namespace.apply(secret, deployment(serve_image, "s3://serving/bundle"), service())
    roll_out(module_namespace)
    return module_namespace


def roll_out(namespace: Namespace) -> None:
    """Wait until the Deployment's newest pods are ready and no other is left."""
    try:
        namespace.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=150s", timeout_s=160)
    except AssertionError as error:
        told = namespace.kubectl("logs", f"deployment/{NAME}", "--tail=5")
        raise AssertionError(f"{error}\n{namespace.events()}\n{told}") from None


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    """Return the servers that are not being ended."""
    found = namespace.list("pods", f"app.kubernetes.io/name={NAME}")
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def counts(namespace: Namespace, name: str) -> dict[str, int]:
    """Return the newest counts of an asking pod."""
    lines = namespace.logs(name).splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


def test_no_request_fails_while_all_servers_are_replaced(served: Namespace, serve_image: str) -> None:
    before = {one["metadata"]["name"] for one in pods(served)}
    served.apply(asking_pod("load", serve_image, "load", NAME, "4"))
    wait_for(lambda: counts_or_none(served, "load", 40), what="the load begins")

    served.kubectl("rollout", "restart", f"deployment/{NAME}")
    roll_out(served)

    answered = counts(served, "load")["200"]
    wait_for(lambda: counts(served, "load")["200"] > answered + 40, what="the new servers answer")
    wait_for(lambda: len(served.list("pods", f"app.kubernetes.io/name={NAME}")) == 2, what="the old servers are gone")
    served.kubectl("exec", "load", "--", "python3", "-c", "open('/tmp/stop', 'w')")
    assert served.end_of("load")["exitCode"] == 0
    assert set(counts(served, "load")) == {"200"}, counts(served, "load")
    assert before.isdisjoint(one["metadata"]["name"] for one in pods(served))


def counts_or_none(namespace: Namespace, name: str, least: int) -> bool:
    """Return whether an asking pod runs and has had so many answers."""
    if namespace.get("pod", name).get("status", {}).get("phase") != "Running":
        return False
    return counts(namespace, name).get("200", 0) >= least


def test_a_server_that_is_told_to_stop_finishes_what_it_has_begun(served: Namespace, serve_image: str) -> None:
    server = pods(served)[0]
    name, address = server["metadata"]["name"], server["status"]["podIP"]
    served.apply(asking_pod("slow", serve_image, "slow", f"{address}:8080"))
    wait_for(lambda: served.get("pod", "slow")["status"]["phase"] == "Running", what="the asking pod runs")
    wait_for(lambda: "half" in served.logs("slow"), what="half a request is sent")

    served.kubectl("exec", name, "--", "python3", "-c", "import os; os.kill(1, 15)")
    wait_for(lambda: '"stopping"' in served.logs(name), what="the server has heard")
    served.kubectl("exec", "slow", "--", "python3", "-c", "open('/tmp/go', 'w')")

    assert served.end_of("slow")["exitCode"] == 0
    assert served.logs("slow").split() == ["half", "200"]
    ended = served.wait_for("pod", name, last_end, what="the server ends")
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    roll_out(served)


def last_end(found: dict[str, Any]) -> dict[str, Any]:
    """Return how a pod's container ended before it was started again."""
    return dict(found["status"]["containerStatuses"][0]["lastState"].get("terminated", {}))


def test_an_autoscaler_finds_the_deployment(served: Namespace) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    spec = {
        "scaleTargetRef": target,
        "minReplicas": 2,
        "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": cpu}],
    }
    served.apply(
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": NAME}, "spec": spec}
    )

    def able(found: dict[str, Any]) -> bool:
        conditions = {one["type"]: one["status"] for one in found["status"].get("conditions", [])}
        return conditions.get("AbleToScale") == "True"

    assert served.wait_for("hpa", NAME, able, what="its target is found")


@pytest.fixture
def forwarded(served: Namespace) -> Iterator[str]:
    """Return an address of this machine behind which the Service answers."""
    port = free_port()
    command = ["kubectl", "--namespace", served.name, "port-forward", f"service/{NAME}", f"{port}:80"]
    forwarding = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        forwarding.kill()
        forwarding.wait()


def free_port() -> int:
    """Return a port of this machine that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_prometheus_scrapes_the_service(forwarded: str, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus (Debian's package of that name)")
    job = {"job_name": "visionyard", "scrape_interval": "1s", "static_configs": [{"targets": [forwarded]}]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        assert wait_for(lambda: value_of(address, "up"), what="the target is up", patience_s=30) == 1
        assert value_of(address, 'max(visionyard_serving_model_info{model="boxes"})') == 1
    finally:
        running.kill()
        running.wait()


def value_of(address: str, query: str) -> float:
    """Return the value of a query, 0 while there is none."""
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"http://{address}/api/v1/query", params={"query": query})
        if answer.status_code == httpx.codes.OK:
            result = answer.json()["data"]["result"]
            return float(result[0]["value"][1]) if result else 0.0
    return 0.0
