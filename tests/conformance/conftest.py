"""Running a small pipeline by either runner, in a process of its own, as `visionyard run` does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import Result
from visionyard.cli.pipeline_process import CONTAINERS, SUBPROCESS

# Importing KFP takes a second; a fork of a process that has it takes none.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["kfp.local", "kfp.components", "visionyard.cli.pipeline_process"])


def _plain(value: Any) -> Any:
    return value.metadata if hasattr(value, "metadata") else value


def _child(folder: Path, request: dict[str, Any], environment: dict[str, str]) -> None:
    """Run the package as the child process of `visionyard run`: a group of its own, its log in a file."""
    from visionyard.cli.pipeline_process import run_package

    os.setsid()
    os.environ.update(environment)
    log = os.open(folder / "pipeline.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
    outputs = run_package(folder, **request)
    (folder / "outputs.json").write_text(json.dumps({name: _plain(value) for name, value in outputs.items()}))


@dataclass
class Runner:
    """Runs pipelines in a folder.

    Attributes:
        kind: `subprocess` or `containers`.
        folder: Of the run.
    """

    kind: str
    folder: Path

    def start(self, pipeline: Any, arguments: dict[str, Any] | None = None) -> Any:
        """Return the process that runs it."""
        from kfp import compiler

        self.folder.mkdir(parents=True, exist_ok=True)
        package = self.folder / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(package))
        request = {
            "package_path": str(package),
            "pipeline_root": str(self.folder / ".kfp"),
            "arguments": arguments or {},
            "runner": self.kind,
        }
        environment = {
            "VISIONYARD_EVENTS": str(self.folder / "events.jsonl"),
            "VISIONYARD_RUN": self.folder.name,
            "VISIONYARD_GREETING": "of the run",
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", ""),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        process = _CONTEXT.Process(target=_child, args=(self.folder, request, environment))
        process.start()
        return process

    def run(self, pipeline: Any, arguments: dict[str, Any] | None = None) -> Result:
        """Run it to its end."""
        (self.folder / "outputs.json").unlink(missing_ok=True)
        process = self.start(pipeline, arguments)
        process.join(120)
        return self.result(process)

    def result(self, process: Any) -> Result:
        """Return how an ended process left the run."""
        path = self.folder / "outputs.json"
        outputs = json.loads(path.read_text()) if path.exists() else {}
        return Result(is_done=process.exitcode == 0, outputs=outputs, folder=self.folder)


@pytest.fixture(scope="session")
def container_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of Docker or podman with the data image, started where only podman's program is there."""
    docker = pytest.importorskip("docker", reason="needs the package docker")
    from visionyard.cli.container_run import find_host, image_ids
    from visionyard.components._images import DATA_IMAGE
    from visionyard.errors import ConfigError

    service = None
    try:
        host = find_host()
    except ConfigError:
        if shutil.which("podman") is None:
            pytest.skip("needs Docker or podman")
        socket = tmp_path_factory.mktemp("podman") / "podman.sock"
        host = f"unix://{socket}"
        command = ["podman", "system", "service", "--time=0", host]
        service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(socket.exists, 20)
    try:
        try:
            ids = image_ids(host, [DATA_IMAGE])
        except ConfigError as error:
            pytest.skip(f"needs the image {DATA_IMAGE}, of `make images`: {error}")
        try:
            docker.DockerClient(base_url=host).containers.run(ids[DATA_IMAGE], ["true"], remove=True)
        except docker.errors.DockerException as error:
            pytest.skip(f"no container can be started here: {error}")
        yield host
    finally:
        if service is not None:
            service.terminate()
            service.wait(20)


@pytest.fixture(params=[SUBPROCESS, CONTAINERS])
def runner(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Return each of the two runners, with an empty folder of runs."""
    if request.param == CONTAINERS:
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("container_engine"))
    return Runner(request.param, tmp_path / "runs" / "run-1")


def wait_until(is_so: Callable[[], bool], timeout_s: float) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: It did not come true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {timeout_s} s"
        time.sleep(0.02)


def kill_group(process: Any, number: int = signal.SIGKILL) -> None:
    """Send a signal to the group of a started pipeline and wait for its end."""
    os.killpg(process.pid, number)
    process.join(40)
    assert process.exitcode is not None
