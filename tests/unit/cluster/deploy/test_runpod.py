"""The target runpod against a stand-in of RunPod's package, and its worker against the real model server."""

import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from PIL import Image

from tests.fixtures.plain_bundle import write_plain_bundle
from visionyard.cluster.deploy import bundles, runpod
from visionyard.cluster.deploy.runpod import RunPodTarget
from visionyard.cluster.deploy.runpod_handler import make_handler, server_command, wait_until_ready
from visionyard.config import DeploymentConfig, load_serving_config
from visionyard.errors import ConfigError, DeployError
from visionyard.inference.bundle import Bundle


class FakeRunPod:
    """RunPod's package as far as our target calls it."""

    def __init__(self) -> None:
        self.templates: dict[str, dict[str, Any]] = {}
        self.endpoints: list[dict[str, Any]] = []

    def create_template(self, **values: Any) -> dict[str, Any]:
        identity = f"t{len(self.templates)}"
        self.templates[identity] = values
        return {"id": identity, "name": values["name"]}

    def get_endpoints(self) -> list[dict[str, Any]]:
        return self.endpoints

    def create_endpoint(self, **values: Any) -> dict[str, Any]:
        made = {"id": "e0", "name": f"{values['name']} -fb", "templateId": values["template_id"]}
        self.endpoints.append({**made, "workersMin": values["workers_min"], "workersMax": values["workers_max"]})
        return made

    def update_endpoint_template(self, endpoint: str, template: str) -> dict[str, Any]:
        self.endpoints[0]["templateId"] = template
        return {"id": endpoint}

    def served(self) -> str:
        return str(self.templates[self.endpoints[0]["templateId"]]["env"]["VISIONYARD_BUNDLE"])


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunPodTarget]:
    # A folder stands for the object store; the rest of the code does not see the difference.
    join = runpod.storage.join

    def local(address: str, key: str) -> str:
        return join(address.replace("s3://yard", str(tmp_path / "store")), key)

    monkeypatch.setattr(runpod.storage, "join", local)
    monkeypatch.setattr(bundles.storage, "join", local)

    def make(api: Any, **values: Any) -> RunPodTarget:
        settings = {"target": "runpod", "name": "digits", "store_uri": "s3://yard/bundles", **values}
        return RunPodTarget(DeploymentConfig(**settings), api)

    return make


def test_bundles_come_and_go(target: Callable[..., RunPodTarget], tmp_path: Path) -> None:
    api = FakeRunPod()
    made = [write_plain_bundle(tmp_path / content, content=content) for content in ("one", "two")]
    first = target(api, min_replicas=0, max_replicas=3).deploy(made[0])
    assert first.url == "https://api.runpod.ai/v2/e0/runsync"
    template = api.templates["t0"]
    assert template["is_serverless"] and "runpod_handler" in template["docker_start_cmd"]
    assert api.endpoints[0]["workersMax"] == 3
    target(api).deploy(made[1])
    assert len(api.endpoints) == 1
    assert api.served().endswith(Bundle.open(made[1]).digest)
    assert target(api).status().previous == (Bundle.open(made[0]).digest,)
    assert target(api).rollback().digest == Bundle.open(made[0]).digest
    assert api.served().endswith(Bundle.open(made[0]).digest)
    with pytest.raises(DeployError, match="nothing to roll back to"):
        target(api).rollback()


def test_what_runpod_says_is_told(target: Callable[..., RunPodTarget], tmp_path: Path) -> None:
    class Refusing(FakeRunPod):
        def create_template(self, **_: Any) -> dict[str, Any]:
            raise RuntimeError("Template name must be unique")

    with pytest.raises(DeployError, match=r"RunPod, create_template: Template name must be unique"):
        target(Refusing()).deploy(write_plain_bundle(tmp_path / "one"))


def test_a_value_that_its_package_would_garble_is_refused(target: Callable[..., RunPodTarget], tmp_path: Path) -> None:
    options = {"environment": {"VISIONYARD_SERVE_CORS__ORIGINS": '["https://a"]'}}
    with pytest.raises(DeployError, match=r"CORS__ORIGINS: RunPod's package takes no quotes"):
        target(FakeRunPod(), options=options).deploy(write_plain_bundle(tmp_path / "one"))


def test_the_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    config = DeploymentConfig(target="runpod", name="digits", store_uri="s3://yard/bundles")
    with pytest.raises(DeployError, match="RUNPOD_API_KEY is not set"):
        RunPodTarget(config)


def test_the_worker_needs_a_bundle() -> None:
    with pytest.raises(ConfigError, match="VISIONYARD_BUNDLE is not set"):
        server_command({}, port=1)


def test_the_worker_tells_the_server_what_to_serve() -> None:
    environment = {"VISIONYARD_BUNDLE": "s3://yard/b", "VISIONYARD_MODEL_NAME": "digits"}
    _, extra = server_command(environment, port=1)
    (model,) = load_serving_config(environment=extra).models
    assert (model.path, model.name, model.format) == ("s3://yard/b", "digits", "auto")


@pytest.fixture(scope="module")
def server(tiny_bundle: Callable[[str], tuple[Path, Path]], free_port: int) -> Iterator[str]:
    bundle, _ = tiny_bundle("classification")
    environment = {"VISIONYARD_BUNDLE": str(bundle), "VISIONYARD_MODEL_NAME": "digits"}
    command, extra = server_command(environment, port=free_port)
    process = subprocess.Popen(command, env={**os.environ, **extra}, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{free_port}"
        wait_until_ready(url, process, timeout_s=120)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (220, 40, 30)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.slow
def test_a_job_is_answered_as_a_request_is(server: str) -> None:
    handle = make_handler(server)
    answer = handle({"id": "1", "input": {"images": [{"b64": picture()}], "parameters": {"top_k": 1}}})
    assert answer["predictions"][0]["class"] == "red"
    assert "top_k" in handle({"input": {"images": [{"b64": picture()}], "parameters": {"top_k": 0}}})["error"]
    assert 'no "input" object' in handle({"id": "2"})["error"]


@pytest.mark.slow
def test_it_works_under_runpods_own_test_server(server: str, tmp_path: Path, free_port: int) -> None:
    pytest.importorskip("runpod")
    script = tmp_path / "worker.py"
    script.write_text(
        "import runpod\n"
        "from visionyard.cluster.deploy.runpod_handler import make_handler\n"
        f"runpod.serverless.start({{'handler': make_handler({server!r})}})\n"
    )
    api = f"http://127.0.0.1:{free_port + 1}"
    command = [sys.executable, str(script), "--rp_serve_api", "--rp_api_port", str(free_port + 1)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        job = {"input": {"images": [{"b64": picture()}]}}
        end = time.monotonic() + 90
        while True:
            try:
                answer = urllib3.request("POST", f"{api}/runsync", json=job, retries=False, timeout=30)
                break
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None and time.monotonic() < end, "RunPod's test server did not start"
                time.sleep(0.2)
        told = json.loads(answer.data)
        assert told["status"] == "COMPLETED"
        assert told["output"]["predictions"][0]["class"] == "red"
    finally:
        process.terminate()
        process.wait(30)
