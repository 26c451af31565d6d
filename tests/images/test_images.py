"""The Dockerfiles, their locks, and the script that builds them, tried with a stand-in for the engine."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visionyard import __version__
from visionyard.components import _images

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(path.parent.name for path in (ROOT / "images").glob("*/Dockerfile"))


def _dockerfile(name: str) -> str:
    return (ROOT / "images" / name / "Dockerfile").read_text()


def _stages(name: str) -> dict[str, str]:
    """Return the text of each stage by its name; the last one, which has none, as `final`."""
    parts = re.split(r"^FROM ", _dockerfile(name), flags=re.MULTILINE)[1:]
    return {(re.match(r"\S+ AS (\w+)", part) or ["", "final"])[1]: part for part in parts}


def _instructions(name: str, stage: str) -> list[str]:
    """Return the lines of a stage without comments."""
    return [line for line in _stages(name)[stage].splitlines() if line and not line.startswith("#")]


def _pins(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text()
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", text, flags=re.MULTILINE))


def test_there_is_an_image_for_each_name_that_components_use():
    used = {_images.DATA_IMAGE, _images.TRAIN_IMAGE, _images.SERVE_IMAGE}
    assert NAMES == ["data", "serve", "train", "train-cpu"]
    assert used <= {f"{_images.PREFIX}/{name}-python:{__version__}" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_nobody_and_says_what_it_is(name: str):
    final = _stages(name)["final"]
    assert re.search(r"^USER 1000:1000$", final, flags=re.MULTILINE)
    assert "HOME=/tmp" in final
    for label in ("title", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in final
    assert f"ARG VERSION={__version__}\n" in final
    assert "RUN" not in final  # it only copies: no compiler, no cache, no root process
    assert _dockerfile(name).count("FROM ${BASE}") == 2
    assert "ARG BASE=docker.io/library/python:3.11-slim" in _dockerfile(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_package_of_an_image_is_pinned_with_its_hash(name: str):
    for command in re.findall(r"pip [^&]*?install[^&]*", _dockerfile(name)):
        is_wheel_of_ours = "--no-index" in command
        is_torch_for_cpu = "TORCH_INDEX" in command
        assert is_wheel_of_ours or is_torch_for_cpu or "--require-hashes" in command


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_code_leaves_the_environments_layers(name: str):
    stages = _stages(name)
    for stage in set(stages) - {"package", "final"}:
        assert "visionyard visionyard" not in stages[stage]
    copies = re.findall(r"^COPY --from=(\w+)", stages["final"], flags=re.MULTILINE)
    assert copies[0] == "environment"
    assert copies[-1] == "package"


def test_the_training_images_begin_with_the_data_images_layers():
    for name in ("train", "train-cpu"):
        assert _instructions(name, "tools") == _instructions("data", "tools")
        assert (
            _stages(name)["environment"].split("\n#")[0].strip()
            == _stages("data")["environment"].split("\n#")[0].strip()
        )
    data, train = _pins("data.txt"), _pins("train.txt")
    assert {name: train.get(name) for name in data} == data


def test_caches_of_the_training_images_can_be_written():
    for name in ("train", "train-cpu"):
        for variable in ("MPLCONFIGDIR", "TORCH_HOME", "YOLO_CONFIG_DIR"):
            assert f"{variable}=/tmp/" in _dockerfile(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_build_context_holds_what_is_copied(name: str):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", _dockerfile(name), flags=re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert any(source.startswith(line[1:]) for line in ignored if line.startswith("!")), source


class TestCpuLock:
    split_lock = staticmethod(runpy.run_path(str(ROOT / "images/train-cpu/cpu_lock.py"))["split_lock"])

    def test_splits_the_real_lock(self):
        hashed, torch = self.split_lock((ROOT / "requirements/train.txt").read_text())
        pins = _pins("train.txt")
        assert torch == f"torch=={pins['torch']}\ntorchvision=={pins['torchvision']}\n"
        left = set(re.findall(r"^([a-z0-9][\w.-]*)==", hashed, flags=re.MULTILINE))
        gone = set(pins) - left
        assert {"torch", "torchvision", "triton", "nvidia-cublas"} <= gone
        assert all(re.match(r"torch|torchvision|triton|nvidia-|cuda-", name) for name in gone)
        assert hashed.count("==") <= hashed.count("--hash=sha256:")

    def test_refuses_a_lock_without_torch(self):
        with pytest.raises(ValueError, match="found none"):
            self.split_lock("numpy==2.4.0 \\\n    --hash=sha256:00\n")


_ENGINE = """#!{python}
import json, os, sys
with open({log!r}, "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + "\\n")
if "version" in sys.argv and os.environ.get("NO_DAEMON") == "1":
    sys.exit(1)
if "build" in sys.argv and os.environ.get("FAILS") == "1":
    sys.exit(7)
if "images" in sys.argv:
    print(json.dumps([{{"id": "sha256:aa", "digest": "sha256:bb", "size": "1.03 GB"}}]))
if "inspect" in sys.argv:
    print(json.dumps([{{"Id": "sha256:aa", "RepoDigests": ["x@sha256:bb"], "Size": 5}}]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what the script reads."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "images", root / "images")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def _build(checkout: Path, *engines: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    programs = checkout / "bin"
    programs.mkdir(exist_ok=True)
    for engine in engines:
        (programs / engine).write_text(_ENGINE.format(python=sys.executable, log=str(checkout / f"{engine}.log")))
        (programs / engine).chmod(0o755)
    environment = {"PATH": str(programs), **variables}
    command = [sys.executable, "images/build.py"]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)


def _calls(checkout: Path, engine: str) -> list[list[str]]:
    return [json.loads(line) for line in (checkout / f"{engine}.log").read_text().splitlines()]


@pytest.mark.parametrize(("engine", "size_bytes"), [("docker", 5), ("podman", 5), ("buildah", 1_030_000_000)])
def test_builds_with_the_engine_that_is_there_and_records_it(checkout: Path, engine: str, size_bytes: int):
    ended = _build(
        checkout, engine, IMAGES="data serve", BASE="mine:1", PREFIX="here/team", BUILD_FLAGS="--no-cache -v 'a b:c'"
    )
    assert ended.returncode == 0, ended.stderr
    builds = [call for call in _calls(checkout, engine) if call[0] == "build"]
    assert [call[call.index("--tag") + 1] for call in builds] == [
        f"here/team/{name}-python:{__version__}" for name in ("data", "serve")
    ]
    assert "BASE=mine:1" in builds[0]
    assert f"VERSION={__version__}" in builds[0]
    assert "REVISION=unknown" in builds[0]  # there is no git
    assert builds[0][-4:] == ["--no-cache", "-v", "a b:c", "."]
    record = json.loads((checkout / "build/images.json").read_text())
    assert record["data"] == {
        "tag": f"here/team/data-python:{__version__}",
        "id": "sha256:aa",
        "digest": "sha256:bb",
        "size_bytes": size_bytes,
    }
    assert sorted(record) == ["data", "serve"]


def test_builds_all_but_what_needs_an_index_and_keeps_what_was_recorded(checkout: Path):
    _build(checkout, "podman", IMAGES="train")
    assert _build(checkout, "podman", "docker", ENGINE="podman", IMAGES="data").returncode == 0
    assert sorted(json.loads((checkout / "build/images.json").read_text())) == ["data", "train"]
    assert not (checkout / "docker.log").exists()
    assert _build(checkout, "podman").returncode == 0
    assert sorted(json.loads((checkout / "build/images.json").read_text())) == ["data", "serve", "train"]
    assert _build(checkout, "podman", IMAGES="train-cpu").returncode == 0  # only when asked for: it needs an index
    assert sorted(json.loads((checkout / "build/images.json").read_text())) == NAMES


@pytest.mark.parametrize(
    ("variables", "engine"),
    [
        pytest.param({}, "docker", id="daemon"),
        pytest.param({"NO_DAEMON": "1"}, "podman", id="no daemon"),
        pytest.param({"NO_DAEMON": "1", "ENGINE": "docker"}, "docker", id="no daemon, but asked for"),
    ],
)
def test_docker_without_its_daemon_leaves_the_work_to_another(checkout: Path, variables: dict[str, str], engine: str):
    ended = _build(checkout, "docker", "podman", IMAGES="data", **variables)
    assert ended.returncode == 0, ended.stderr
    assert [call[0] for call in _calls(checkout, engine)][-2] == "build"


@pytest.mark.parametrize(
    ("engines", "variables", "message"),
    [
        pytest.param((), {}, "docker, podman, buildah: not found", id="no engine"),
        pytest.param(("docker",), {"ENGINE": "podman"}, "podman: not found", id="another engine"),
        pytest.param(("docker",), {"IMAGES": "data dta"}, "dta: no such image; expected some of data", id="typo"),
    ],
)
def test_refuses(checkout: Path, engines: tuple[str, ...], variables: dict[str, str], message: str):
    ended = _build(checkout, *engines, **variables)
    assert ended.returncode != 0
    assert message in ended.stderr


def test_an_engine_that_fails_ends_it(checkout: Path):
    assert _build(checkout, "docker", FAILS="1").returncode == 7
    assert not (checkout / "build/images.json").exists()
