"""What the cluster tests share: the cluster that KUBECONFIG names, namespaces, images and an S3 store.

| variable | means |
| --- | --- |
| KUBECONFIG | the cluster; unset: all tests are skipped |
| VISIONYARD_IMAGE_PREFIX | prefix of the images' names, as the nodes know them; `visionyard` unless given |
| VISIONYARD_TEST_HOST | address of this machine that pods reach; unset: the node's, where that is this machine |
"""

import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.gpus import gpu_stage
from tests.cluster.kube import KubectlError, Namespace, kubectl, pod, wait_for, waiting_reason
from tests.cluster.pod_driver import PodDriver
from tests.fixtures.minio_server import MinioServer
from tests.fixtures.s3_server import S3Server, find_binary, s3_client
from tests.fixtures.seaweed import Seaweed
from visionyard.components import _images
from visionyard.data.sample import make_sample
from visionyard.storage import upload_folder

_NAMESPACE_LABELS = {
    "app.kubernetes.io/part-of": "visionyard-test",
    "pod-security.kubernetes.io/enforce": "restricted",
}


@pytest.fixture(scope="session")
def cluster() -> None:
    """Skip where there is no cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG (docs/testing.md has the kind commands)")
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    try:
        kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
    except KubectlError as error:
        pytest.skip(f"needs a Kubernetes cluster that answers: {error}")


@pytest.fixture(scope="session")
def make_namespace(cluster: None) -> Iterator[Callable[..., Namespace]]:
    """Return a function that makes a namespace of its own under Pod Security `restricted`; all go at the end."""
    made: list[Namespace] = []

    def make() -> Namespace:
        namespace = Namespace(f"visionyard-test-{uuid.uuid4().hex[:8]}")
        made.append(namespace)
        kubectl("create", "namespace", namespace.name)
        kubectl("label", "namespace", namespace.name, *(f"{key}={value}" for key, value in _NAMESPACE_LABELS.items()))
        # Pods are admitted only once the namespace has its account.
        wait_for(lambda: namespace.get("serviceaccount", "default"), what="the namespace's default service account")
        return namespace

    yield make
    if made:
        names = [namespace.name for namespace in made]
        kubectl("delete", "namespace", *names, "--ignore-not-found", "--timeout=120s", timeout_s=130)


@pytest.fixture
def namespace(make_namespace: Callable[..., Namespace]) -> Iterator[Namespace]:
    """Return a namespace of the test's own; its pods end with the test."""
    made = make_namespace()
    yield made
    kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="module")
def module_namespace(make_namespace: Callable[..., Namespace]) -> Iterator[Namespace]:
    """Return a namespace that the tests of a module share."""
    made = make_namespace()
    yield made
    kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="session")
def image(make_namespace: Callable[..., Namespace]) -> Callable[[str], str]:
    """Return a function from an image's name to itself, which skips the test where no node can run it."""
    known: dict[str, str] = {}

    def check(name: str) -> str:
        if name not in known:
            known[name] = _trial(make_namespace(), name)
        if known[name]:
            pytest.skip(f"needs the image {name} on the cluster ({known[name]}): `make images`, then load it")
        return name

    return check


def _trial(namespace: Namespace, image: str) -> str:
    """Return why a pod of an image does not run; empty when it does."""
    namespace.apply(pod("trial", image, container={"command": ["python3", "-c", ""]}))

    def outcome() -> str:
        found = namespace.get("pod", "trial")
        return found["status"]["phase"] if found["status"]["phase"] in {"Succeeded", "Failed"} else _fault(found)

    ended = wait_for(outcome, what=f"a trial pod of {image}", patience_s=180)
    kubectl("delete", "namespace", namespace.name, "--wait=false")
    return "" if ended == "Succeeded" else ended


def _fault(found: dict[str, Any]) -> str:
    """Return why a pod waits when that will not mend itself; empty otherwise."""
    reason = waiting_reason(found)
    return reason if reason not in {"", "ContainerCreating", "PodInitializing"} else ""


@pytest.fixture(scope="session")
def serve_image(image: Callable[[str], str]) -> str:
    """Return the name of the model server's image."""
    return image(_images.SERVE_IMAGE)


@pytest.fixture(scope="session")
def data_image(image: Callable[[str], str]) -> str:
    """Return the name of the image of the data stages."""
    return image(_images.DATA_IMAGE)


@pytest.fixture(scope="session")
def host_address(cluster: None) -> str:
    """Return an address of this machine that pods reach."""
    given = os.environ.get("VISIONYARD_TEST_HOST", "")
    query = '{.items[*].status.addresses[?(@.type=="InternalIP")].address}'
    for address in [given] if given else kubectl("get", "nodes", "-o", f"jsonpath={query}").split():
        with socket.socket() as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                continue
            return address
    pytest.skip("needs an address of this machine that pods reach: set VISIONYARD_TEST_HOST")


@pytest.fixture(scope="session")
def store(host_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start an S3 store on this machine that pods reach, MinIO where its binary is at hand; gone at the end."""
    folder = tmp_path_factory.mktemp("store")
    has_minio = find_binary("minio") is not None
    server: S3Server = MinioServer(folder, host_address) if has_minio else Seaweed(folder, host_address)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def runs_bucket(store: S3Server) -> Iterator[str]:
    """Return the address of a bucket for runs; from now on this process's environment gives access to the store."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [variable for variable in os.environ if variable.startswith(("AWS_", "MINIO_"))]:
            patch.delenv(variable)
        for variable, value in store.environment.items():
            patch.setenv(variable, value)
        yield make_bucket(store)


@pytest.fixture
def bucket(store: S3Server, runs_bucket: str) -> str:
    """Return the address of a fresh bucket."""
    return make_bucket(store)


def make_bucket(store: S3Server) -> str:
    """Make a bucket and return its address."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client(store.endpoint).make_bucket(name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def pool_label() -> str:
    """Return what marks the nodes of this session's pool of GPUs."""
    return uuid.uuid4().hex[:8]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of short labelled clips."""
    target = tmp_path_factory.mktemp("sample") / "clips"
    make_sample(target, kind="digits-detection", clip_count=6, clip_s=1.0)
    return target


@pytest.fixture(scope="session")
def compiled(runs_bucket: str, pool_label: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return train_model compiled for little pods that are made again when lost, and training on the pool of GPUs."""
    return compile_with(tmp_path_factory.mktemp("compiled"), runs_bucket, {"train_model": gpu_stage(pool_label)})


@pytest.fixture(scope="session")
def compiled_badly(runs_bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return train_model compiled with too little memory, a secret and an image that are not there, a stage each."""
    secret = {"name": "missing", "variables": {"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID"}, "optional": False}
    stages = {
        "ingest_dataset": {"memory_request": "32Mi", "memory_limit": "52Mi", "retries": 0},
        "extract_frames": {"secrets": [secret]},
        "prepare_dataset": {"image": "localhost/visionyard/missing-python:0"},
    }
    return compile_with(tmp_path_factory.mktemp("compiled"), runs_bucket, stages)


def compile_with(folder: Path, bucket: str, stages: dict[str, Any]) -> Path:
    """Compile train_model with the shipped CPU profile, its pods made smaller, and settings of some stages."""
    shipped = yaml.safe_load(resources.files("visionyard.cluster").joinpath("profiles/cpu.yaml").read_text())
    # A little processor time: a stage takes long enough to be hit in its middle.
    small = {"cpu_request": "50m", "cpu_limit": "200m", "memory_request": "64Mi", "retries": 2}
    shipped |= {"store": bucket, "defaults": {**shipped["defaults"], **small}}
    shipped["stages"] |= stages
    (folder / "profile.yaml").write_text(yaml.safe_dump(shipped))
    target = folder / "train_model.yaml"
    command = [sys.executable, "-m", "visionyard", "compile", "train_model"]
    subprocess.run([*command, "--profile", folder / "profile.yaml", "-o", target], check=True, timeout=280)
    return target


@pytest.fixture
def start_run(
    namespace: Namespace, data_image: str, store: S3Server, runs_bucket: str, sample: Path
) -> Callable[..., PodDriver]:
    """Return a function from a compiled pipeline to a run of it on clips that are in the store."""
    upload_folder(sample, f"{runs_bucket}/clips")

    def start(compiled: Path, *, has_secret: bool = True) -> PodDriver:
        if has_secret:
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "visionyard-s3"}}
            namespace.apply({**secret, "stringData": store.environment})
        return PodDriver(
            namespace,
            compiled,
            root=f"{runs_bucket}/runs/{namespace.name}",
            arguments={"data_source": f"{runs_bucket}/clips"},
        )

    return start
