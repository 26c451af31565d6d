"""How the containers of a run are started and ended, without an engine."""

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from visionyard.cli import container_run
from visionyard.cli.container_run import container_arguments, find_host, image_ids, images_of, run_container
from visionyard.cli.run_command import run_pipeline
from visionyard.config import RunConfig
from visionyard.errors import ConfigError


def test_the_engine_is_the_one_that_docker_host_names():
    assert find_host({"DOCKER_HOST": "tcp://10.0.0.1:2375"}) == "tcp://10.0.0.1:2375"


def test_the_engine_is_the_first_socket_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(container_run, "_SOCKETS", ("/nowhere/docker.sock", "{runtime}/p.sock"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "p.sock"))
        assert find_host({"XDG_RUNTIME_DIR": str(tmp_path)}) == f"unix://{tmp_path}/p.sock"
    with pytest.raises(ConfigError, match=r"no socket of Docker or podman \(looked at /nowhere/docker.sock"):
        find_host({"XDG_RUNTIME_DIR": "/nowhere"})


def test_an_engine_that_does_not_answer_is_named(tmp_path: Path):
    pytest.importorskip("docker")
    with pytest.raises(ConfigError, match=f"no container engine answers at unix://{tmp_path}/gone.sock"):
        image_ids(f"unix://{tmp_path}/gone.sock", ["a"])


class _NoImages:
    """A client of an engine that has no image."""

    @property
    def images(self) -> "_NoImages":
        return self

    def get(self, name: str) -> None:
        from docker.errors import ImageNotFound

        raise ImageNotFound(name)


def test_missing_images_are_all_named_each_with_its_way_out(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("docker")
    monkeypatch.setattr(container_run, "connected", lambda host: contextlib.nullcontext(_NoImages()))
    with pytest.raises(ConfigError) as caught:
        image_ids("unix:///p.sock", ["r/v/train-cpu-python:1", "r/v/data-python:1"])
    data, train = caught.value.problems
    assert "r/v/data-python:1: no such image at unix:///p.sock; build it with `make images`" in data
    assert "`docker tag r/v/train-python:1 r/v/train-cpu-python:1`" in train  # `make images` alone does not make it


@pytest.mark.parametrize(
    ("runner", "device", "message"),
    [
        pytest.param("pods", "auto", "--runner pods: expected one of subprocess, containers", id="unknown runner"),
        pytest.param("containers", "cuda", "training.device = 'cuda': local containers get no GPU", id="GPU"),
        pytest.param("containers", "auto", "no container engine answers at unix:///nowhere", id="no engine"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str, device: str, message: str
):
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("a")
    config = RunConfig.model_validate({"data": {"source": str(tmp_path / "data")}, "training": {"device": device}})
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_pipeline(config, runs=tmp_path / "runs", is_new=False, console=Console(quiet=True), runner=runner)
    assert not (tmp_path / "runs").exists()


def test_the_images_of_a_compiled_pipeline(tmp_path: Path):
    package = tmp_path / "p.yaml"
    executors = "{a: {container: {image: 'x/b:1'}}, b: {container: {image: 'x/a:1'}}, c: {importer: {}}}"
    package.write_text(f"deploymentSpec: {{executors: {executors}}}\n---\nplatforms: {{}}\n")
    assert images_of(package) == ["x/a:1", "x/b:1"]


class TestContainerArguments:
    @pytest.fixture(autouse=True)
    def _docker(self):
        pytest.importorskip("docker")

    def arguments(self, folder: Path, **values: Any) -> dict[str, Any]:
        return container_arguments(folder, **{"readable": [], "environment": {}, "is_rootless": False, **values})

    def test_the_container_sees_data_and_runs_at_their_own_paths(self, tmp_path: Path):
        for name in ("data", "runs/a-1"):
            (tmp_path / name).mkdir(parents=True)
        arguments = self.arguments(tmp_path / "runs/a-1", readable=[str(tmp_path / "data"), "s3://b/k", "", "yolo11n"])
        assert [(mount["Source"], mount["Target"], mount["ReadOnly"]) for mount in arguments["mounts"]] == [
            (str(tmp_path / "runs"), str(tmp_path / "runs"), False),
            (str(tmp_path / "data"), str(tmp_path / "data"), True),
        ]

    def test_the_file_of_the_tracker_can_be_written_with_its_journal(self, tmp_path: Path):
        uri = f"sqlite:///{tmp_path}/tracking/mlflow.db"
        arguments = self.arguments(tmp_path / "runs/a-1", environment={"MLFLOW_TRACKING_URI": uri})
        assert str(tmp_path / "tracking") in [mount["Source"] for mount in arguments["mounts"]]

    def test_stages_get_what_they_read_and_no_more(self, tmp_path: Path):
        environment = {"AWS_SECRET_ACCESS_KEY": "s", "VISIONYARD_RUN": "a-1", "GITHUB_TOKEN": "t", "PATH": "/bin"}
        arguments = self.arguments(tmp_path / "a-1", environment=environment)
        assert arguments["environment"] == {"AWS_SECRET_ACCESS_KEY": "s", "VISIONYARD_RUN": "a-1"}

    def test_a_container_has_no_rights_of_its_own(self, tmp_path: Path):
        arguments = self.arguments(tmp_path / "a-1")
        assert arguments["cap_drop"] == ["ALL"]
        assert arguments["read_only"] is True
        assert arguments["security_opt"] == ["no-new-privileges"]

    @pytest.mark.parametrize(("is_rootless", "user"), [(True, "0:0"), (False, "1234:99")], ids=["rootless", "rootful"])
    def test_files_are_the_callers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_rootless: bool, user: str
    ):
        monkeypatch.setattr("os.getuid", lambda: 1234)
        monkeypatch.setattr("os.getgid", lambda: 99)
        assert self.arguments(tmp_path / "a-1", is_rootless=is_rootless)["user"] == user


class _Container:
    """A container whose log is cut inside a character and holds foreign bytes."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def logs(self, **_options: Any) -> Iterator[bytes]:
        yield "größer\n".encode()[:3]
        yield "größer\n".encode()[3:]
        yield b"\xff\n"

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self.code}

    def remove(self, **_options: Any) -> None:
        self.calls.append("remove")


class _Client:
    def __init__(self, container: _Container) -> None:
        self.containers = self
        self.container = container

    def create(self, **_options: Any) -> _Container:
        return self.container


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_container_is_removed_once_its_exit_code_is_known(code: int, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("docker")
    container = _Container(code)
    assert run_container(_Client(container), "image", ["true"], {}) == code
    assert container.calls == ["start", "remove"]
    assert capsys.readouterr().out == "größer\n\N{REPLACEMENT CHARACTER}\n"
