"""GPU pools: who lands on them, what says no, and how an accounted GPU is used and given back."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpus import GPU, gpu_node
from tests.cluster.kube import Namespace, kubectl, pod, unschedulable_message, wait_for
from tests.cluster.pod_driver import PodDriver

pytestmark = pytest.mark.cluster

GPU_STAGES = {"train-model"}


def is_ready(node: dict[str, Any]) -> bool:
    """Return whether a node takes pods."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.fixture(scope="module")
def pool(cluster: None, pool_label: str) -> Iterator[str]:
    """Return the label of a pool of two simulated spot nodes with eight GPUs each; skips where nobody plays them."""
    names = [f"visionyard-test-{pool_label}-{number}" for number in (0, 1)]
    nodes = [gpu_node(name, pool_label) for name in names]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
    try:
        for name in names:
            try:
                wait_for(
                    lambda name=name: is_ready(json.loads(kubectl("get", "node", name, "-o", "json"))),
                    what=f"node {name} is ready",
                    patience_s=20,
                )
            except AssertionError:
                pytest.skip("needs kwok on the cluster, which plays simulated nodes")
        yield pool_label
    finally:
        kubectl("delete", "node", *names, "--ignore-not-found")


@pytest.fixture
def run(namespace: Namespace, compiled: Path, pool: str) -> Callable[..., PodDriver]:
    """Return a function from parameters to a run of train_model whose pods only have to be placed."""

    def make(**arguments: str) -> PodDriver:
        given = {"data_source": "s3://none/data", **arguments}
        return PodDriver(namespace, compiled, root="s3://none/run", arguments=given, is_placed_only=True)

    return make


def pod_of(namespace: Namespace, job: str) -> dict[str, Any]:
    """Return the newest pod of a Job, {} while it has none."""
    found = namespace.list("pods", f"job-name={job}")
    return found[-1] if found else {}


def test_only_gpu_stages_land_on_the_pool(namespace: Namespace, pool: str, run: Callable[..., PodDriver]) -> None:
    pipeline = run()
    jobs = {task: pipeline.start(task) for task in pipeline.task_names()}

    placed = {
        task: wait_for(lambda job=job: pod_of(namespace, job).get("spec", {}).get("nodeName"), what=f"{task} is placed")
        for task, job in jobs.items()
    }

    assert set(placed) >= GPU_STAGES
    assert {task for task, node in placed.items() if node.startswith(f"visionyard-test-{pool}-")} == GPU_STAGES


def test_more_gpus_than_a_node_has_is_a_reason_and_no_silence(
    namespace: Namespace, run: Callable[..., PodDriver]
) -> None:
    job = run(resources_accelerator_count="16").start("train-model")

    message = wait_for(lambda: unschedulable_message(pod_of(namespace, job)), what="the scheduler's reason")

    assert "Insufficient nvidia.com/gpu" in message


def test_a_quota_without_gpus_is_a_reason_and_no_silence(namespace: Namespace, run: Callable[..., PodDriver]) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"}}
    namespace.apply({**quota, "spec": {"hard": {f"requests.{GPU}": "0"}}})
    namespace.wait_for("resourcequota", "gpus", lambda found: found.get("status", {}).get("hard"), what="is in force")

    job = run().start("train-model")

    told = wait_for(lambda: [line for line in namespace.events().splitlines() if job in line], what="a reason")
    assert any("exceeded quota: gpus, requested: requests.nvidia.com/gpu=1" in line for line in told), told
    assert pod_of(namespace, job) == {}


@pytest.fixture
def real_gpus(cluster: None) -> Iterator[str]:
    """Return a real node that counts two GPUs for the length of a test; skips where it has real ones."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    real = [one for one in nodes if "kwok.x-k8s.io/node" not in one["metadata"].get("annotations", {})]
    if any(GPU in one["status"]["capacity"] for one in real):
        pytest.skip("the nodes have GPUs of their own, or another test counts them")
    name = real[0]["metadata"]["name"]
    path = "/status/capacity/nvidia.com~1gpu"
    patch_status(name, {"op": "add", "path": path, "value": "2"})
    try:
        wait_for(lambda: allocatable_gpus(name) == "2", what="the kubelet counts GPUs", patience_s=90)
        yield name
    finally:
        patch_status(name, {"op": "remove", "path": path})
        with contextlib.suppress(AssertionError):
            patch_status(name, {"op": "remove", "path": path.replace("capacity", "allocatable")})


def patch_status(node: str, change: dict[str, str]) -> None:
    """Change a node's status."""
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps([change]))


def allocatable_gpus(node: str) -> str:
    """Return how many GPUs of a node pods may have."""
    return kubectl("get", "node", node, "-o", r"jsonpath={.status.allocatable.nvidia\.com/gpu}")


def test_an_accounted_gpu_is_used_and_given_back(namespace: Namespace, real_gpus: str, serve_image: str) -> None:
    script = "import pathlib, time\nwhile not pathlib.Path('/tmp/stop').exists(): time.sleep(0.1)"
    for name, count in (("both", "2"), ("next", "1")):
        container = {"command": ["python3", "-c", script], "resources": {"limits": {GPU: count}}}
        namespace.apply(pod(name, serve_image, container=container))
        if name == "both":
            namespace.wait_for("pod", name, lambda found: found["status"]["phase"] == "Running", what="runs")
    message = namespace.wait_for("pod", "next", unschedulable_message, what="waits for a GPU")
    assert "Insufficient nvidia.com/gpu" in message

    namespace.kubectl("exec", "both", "--", "python3", "-c", "open('/tmp/stop', 'w')")

    assert namespace.end_of("both")["exitCode"] == 0
    namespace.wait_for("pod", "next", lambda found: found["status"]["phase"] == "Running", what="runs")
    assert namespace.get("pod", "next")["spec"]["nodeName"] == real_gpus
