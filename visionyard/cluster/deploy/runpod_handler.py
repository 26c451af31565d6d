"""A RunPod serverless worker: the model server on loopback, and a handler that hands jobs on to it.

So a job is answered by the very code that answers an HTTP request, with its limits and its words for mistakes. Run in
our serving image with the package `runpod` added, as `python3 -m visionyard.cluster.deploy.runpod_handler`.

A job's input is what `POST /predict` takes as JSON:

    {"input": {"images": [{"b64": "..."}], "parameters": {"confidence": 0.4}}}

VISIONYARD_BUNDLE names the bundle, VISIONYARD_MODEL_NAME its name, VISIONYARD_MODEL_FORMAT its format; the server's own
settings are VISIONYARD_SERVE_*, see docs/serving-config.md.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import urllib3

from visionyard.errors import ConfigError, DeployError

Handler = Callable[[Mapping[str, Any]], dict[str, Any]]

PORT = 18080
_START_S = 300.0
_ANSWER_S = 60.0


def server_command(environment: Mapping[str, str], *, port: int) -> tuple[list[str], dict[str, str]]:
    """Return how the server is started, and the variables it gets beside the process's own.

    Raises:
        ConfigError: VISIONYARD_BUNDLE is not set.
    """
    bundle = environment.get("VISIONYARD_BUNDLE", "")
    if not bundle:
        raise ConfigError("VISIONYARD_BUNDLE is not set; expected the bundle's folder or s3:// address")
    model = {
        "path": bundle,
        "name": environment.get("VISIONYARD_MODEL_NAME", ""),
        "format": environment.get("VISIONYARD_MODEL_FORMAT", "auto"),
    }
    start = "from visionyard.cli import main; main()"
    command = [sys.executable, "-c", start, "serve", "--host", "127.0.0.1"]
    command += ["--http-port", str(port), "--grpc-port", "-1"]
    return command, {"VISIONYARD_SERVE_MODELS": json.dumps([model])}


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", *, timeout_s: float = _START_S) -> None:
    """Wait until the server takes requests.

    Raises:
        DeployError: It ended, or took too long.
    """
    end = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < end:
        try:
            if urllib3.request("GET", f"{url}/v2/health/ready", retries=False, timeout=2.0).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(0.1)
    raise DeployError(
        f"the model server did not come to serve ({'ended' if process.poll() is not None else f'{timeout_s:g} s'}); "
        "its own words stand above"
    )


def make_handler(url: str) -> Handler:
    """Return a handler that hands a job's input on to a server and returns its answer, or its words for a mistake."""
    # One connection a thread: RunPod may run several jobs at a time.
    pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=_ANSWER_S)

    def handle(job: Mapping[str, Any]) -> dict[str, Any]:
        given = job.get("input")
        if not isinstance(given, Mapping):
            return {"error": 'the job has no "input" object; expected {"images": [{"b64": "..."}]}'}
        try:
            answer = pool.request("POST", f"{url}/predict", json=dict(given))
        except urllib3.exceptions.HTTPError as error:
            return {"error": f"the model server did not answer: {error}"}
        return dict(json.loads(answer.data))

    return handle


def main() -> None:
    """Start the server, then take jobs until RunPod ends the worker."""
    runpod = import_module("runpod")
    command, extra = server_command(os.environ, port=PORT)
    url = f"http://127.0.0.1:{PORT}"
    process = subprocess.Popen(command, env={**os.environ, **extra})
    try:
        wait_until_ready(url, process)
        runpod.serverless.start({"handler": make_handler(url)})
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
