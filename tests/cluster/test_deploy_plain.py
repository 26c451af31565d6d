"""The target kubernetes for real: our serving image, a model that answers, a bundle that does not load, a rollback."""

import base64
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.cluster.kube import Namespace
from tests.fixtures.s3_server import S3Server
from visionyard.cluster.deploy.kube import Cluster
from visionyard.cluster.deploy.plain import PlainTarget
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError
from visionyard.inference.bundle import Bundle
from visionyard.storage import write_bytes

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NAME = "squares"


@pytest.fixture
def target(namespace: Namespace, bucket: str, store: S3Server, serve_image: str) -> Callable[..., PlainTarget]:
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "visionyard-s3"},
            "stringData": store.environment,
        }
    )

    def make(**values: Any) -> PlainTarget:
        settings = {"target": "kubernetes", "name": NAME, "store_uri": f"{bucket}/bundles", "image": serve_image}
        settings |= {"service_account": "default", "cpu": "500m", "memory": "1Gi", "timeout_s": 240, **values}
        # A stranger's pull policy: the image is on the node and nowhere else.
        options = {"image_pull_policy": "IfNotPresent"}
        return PlainTarget(DeploymentConfig(**settings, options=options), Cluster.connect(namespace.name))

    return make


@pytest.fixture
def bundle(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> Path:
    return tiny_bundle("classification")[0]


def other(bundle: Path, folder: Path, licence: str) -> Path:
    """Return a copy of a bundle with another licence, hence another digest."""
    shutil.copytree(bundle, folder)
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("Apache-2.0", licence))
    return folder


def served_digest(namespace: Namespace) -> str:
    """Ask the Service for a prediction, and return the digest of the bundle that made it."""
    address = namespace.get("service", NAME)["spec"]["clusterIP"]
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), (220, 40, 30)).save(picture, "PNG")
    images = [{"b64": base64.b64encode(picture.getvalue()).decode()}]
    answer = httpx.post(f"http://{address}/predict", json={"images": images}, timeout=30).raise_for_status().json()
    assert (answer["model"], answer["predictions"][0]["class"]) == (NAME, "red")
    return str(answer["model_digest"])


def test_a_bundle_is_served_replaced_refused_and_brought_back(
    target: Callable[..., PlainTarget], bundle: Path, bucket: str, namespace: Namespace, tmp_path: Path
) -> None:
    first = target().deploy(bundle)
    assert served_digest(namespace) == first.digest == Bundle.open(bundle).digest

    second = target().deploy(other(bundle, tmp_path / "second", "MIT"))
    assert served_digest(namespace) == second.digest != first.digest

    # The manifest is in the store already, so nothing is copied again: the pods find a model that was altered.
    broken = other(bundle, tmp_path / "broken", "BSD-3-Clause")
    digest = Bundle.open(broken).digest
    for path in broken.iterdir():
        write_bytes(f"{bucket}/bundles/{digest}/{path.name}", path.read_bytes())
    write_bytes(f"{bucket}/bundles/{digest}/model.onnx", b"not a model")
    with pytest.raises(DeployError, match=rf"pod {NAME}-.*CrashLoopBackOff.*{second.digest[:12]}.*was brought back"):
        target().deploy(broken)
    assert served_digest(namespace) == second.digest

    assert target().rollback().digest == first.digest
    assert served_digest(namespace) == first.digest
    status = target().status()
    assert (status.digest, status.replicas, status.state) == (first.digest, 1, "1 of 1 pods ready")
