"""`visionyard receive` as a process, against a stand-in of Kubeflow Pipelines."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.kfp_stub import KfpStub, kfp_stub
from visionyard.cluster.kfp_api import KfpApi, Server
from visionyard.cluster.packages import read_package
from visionyard.cluster.profiles import load_profile
from visionyard.cluster.starter import KfpStarter
from visionyard.errors import VisionyardError

CONFIG = """
pipeline: batch_predict
models:
  shapes: {bundle_uri: "s3://b/bundle", sources: ["s3://b/images"], target_uri: "s3://b/results"}
"""


def start(config: Path, host: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "VISIONYARD_RECEIVER_TOKEN": "s3cret"}
    command = [sys.executable, "-m", "visionyard", "receive", "--config", str(config), "--host", host]
    return subprocess.Popen(
        [*command, "--address", "127.0.0.1", "--port", "0"],
        cwd=config.parent,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def post(port: int) -> Any:
    labels = {"alertname": "VisionyardDrift", "model": "shapes"}
    body = json.dumps({"version": "4", "alerts": [{"status": "firing", "labels": labels}]}).encode()
    headers = {"Authorization": "Bearer s3cret"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/alerts", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_an_alert_becomes_a_run_and_sigterm_ends_it(tmp_path: Path):
    (tmp_path / "receiver.yaml").write_text(CONFIG)
    with kfp_stub() as stub, start(tmp_path / "receiver.yaml", stub.host) as process:
        assert process.stderr
        try:
            line = json.loads(process.stderr.readline())
            assert line["event"] == "listening"
            assert post(line["port"]) == {"decisions": {"shapes": "started"}}
            assert post(line["port"]) == {"decisions": {"shapes": "quiet"}}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert process.returncode == 0
        assert json.loads(process.stderr.read().splitlines()[-1])["event"] == "stopped"
    (run,) = stub.runs.values()
    assert run["display_name"].startswith("shapes-drift-")
    assert run["runtime_config"]["parameters"]["target_uri"] == "s3://b/results"
    assert json.loads((tmp_path / "receiver-state.json").read_text())["models"]["shapes"]["run_id"] == run["run_id"]


def test_parameters_that_do_not_fit_the_pipeline_end_the_start(tmp_path: Path):
    (tmp_path / "receiver.yaml").write_text("pipeline: batch_predict\nmodels: {shapes: {sources: 3, depth: 1}}\n")
    with start(tmp_path / "receiver.yaml", "http://127.0.0.1:9") as process:
        _, text = process.communicate(timeout=120)
    assert process.returncode == 2
    for part in ("models.shapes: depth", "models.shapes: sources = 3", "models.shapes: bundle_uri: missing"):
        assert part in text


@pytest.fixture
def starter(tmp_path: Path) -> tuple[KfpStub, KfpStarter]:
    from visionyard.cli.compile import compile_pipeline

    compile_pipeline("batch_predict", tmp_path / "p.yaml")
    with kfp_stub() as stub:
        package = read_package(tmp_path / "p.yaml")
        yield stub, KfpStarter(KfpApi(Server(stub.host)), package, load_profile("cpu"), "drift")  # type: ignore[misc]


def test_a_run_is_running_until_it_ends_or_is_deleted(starter: tuple[KfpStub, KfpStarter]):
    stub, starts = starter
    run_id = starts.start("shapes", {"bundle_uri": "b", "sources": [], "target_uri": "t"})
    assert starts.is_running(run_id)
    stub.runs[run_id]["state"] = "FAILED"
    assert not starts.is_running(run_id)
    assert not starts.is_running("deleted")
    stub.fail_next = 500
    with pytest.raises(VisionyardError, match="asked to fail"):
        starts.start("shapes", {"bundle_uri": "b", "sources": [], "target_uri": "t"})
