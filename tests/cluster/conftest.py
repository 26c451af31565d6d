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
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.kube import KubectlError, Namespace, kubectl, pod, wait_for, waiting_reason
from tests.fixtures.seaweed import Seaweed, s3_client
from visionyard.components import _images

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
def store(host_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """Start an S3 store on this machine that pods reach; gone at the end."""
    server = Seaweed(tmp_path_factory.mktemp("store"), host_address)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(store: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a fresh bucket that this process's environment gives access to."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MINIO_"))]:
        monkeypatch.delenv(name)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client(store.endpoint).make_bucket(name)
    return f"s3://{name}"
