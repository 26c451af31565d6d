"""What a stage holds, read from the files of a container that is made up."""

import os
from pathlib import Path

import pytest

from visionyard import events, stage_resources
from visionyard.inference import onnx_backend
from visionyard.inference.onnx_backend import OnnxOptions
from visionyard.stage_resources import core_count, held_resources, limited_core_count

CORES = len(os.sched_getaffinity(0))
MODEL = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n"


def container(root: Path, *, cpu: str = "", memory: str = "", devices: tuple[str, ...] = (), model: str = "") -> Path:
    for place, text in {"sys/fs/cgroup/cpu.max": cpu, "sys/fs/cgroup/memory.max": memory}.items():
        if text:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text(text + "\n")
    for name in devices:
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev" / name).touch()
    if model:
        (root / "proc/driver/nvidia/gpus/0").mkdir(parents=True)
        (root / "proc/driver/nvidia/gpus/0/information").write_text(model)
    return root


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        ("50000 100000", "4294967296", (0.5, 1 << 32)),
        ("max 100000", "max", (CORES, 0)),
        ("9900000 100000", "", (CORES, 0)),
        ("", "", (CORES, 0)),
    ],
    ids=["limits", "no limit", "more than the cores", "no files"],
)
def test_cores_and_memory(cpu: str, memory: str, expected: tuple[float, int], tmp_path: Path):
    held = held_resources(container(tmp_path, cpu=cpu, memory=memory))
    assert (held.cpu_count, held.memory_bytes) == expected


@pytest.mark.parametrize(
    ("cpu", "cores", "expected"),
    [
        ("100000 100000", 64, (1, 1)),
        ("20000 100000", 64, (1, 1)),
        ("400000 100000", 64, (4, 4)),
        ("max 100000", 64, (64, 0)),
        ("400000 100000", 4, (4, 0)),
    ],
    ids=["one core", "a fifth", "four", "no limit", "all"],
)
def test_threads_are_as_many_as_the_limit_of_the_container(
    cpu: str, cores: int, expected: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage_resources, "_usable_cores", lambda: cores)
    root = container(tmp_path, cpu=cpu)
    assert (core_count(root), limited_core_count(root)) == expected


@pytest.mark.parametrize(("limited", "asked", "expected"), [(3, 0, 3), (3, 1, 1), (0, 0, 0)])
def test_onnx_runtime_keeps_to_the_limit(limited: int, asked: int, expected: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_backend, "limited_core_count", lambda: limited)
    assert onnx_backend._session_options(asked, OnnxOptions()).intra_op_num_threads == expected


@pytest.mark.parametrize(("limited", "given", "expected"), [(3, "", "3"), (3, "1", "1"), (0, "", None)])
def test_libraries_of_a_stage_keep_to_the_limit(
    limited: int, given: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
):
    # Set first, so that what the stage sets is undone at the end.
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    if not given:
        del os.environ["OMP_NUM_THREADS"]
    monkeypatch.setattr(events, "limited_core_count", lambda: limited)
    with events.stage("train_model"):
        assert os.environ.get("OMP_NUM_THREADS") == expected


@pytest.mark.parametrize(
    ("quota", "memory", "expected"),
    [
        ("50000", "4294967296", (0.5, 1 << 32)),
        ("-1", "9223372036854771712", (CORES, 0)),
    ],
    ids=["limits", "no limit"],
)
def test_cores_and_memory_of_older_control_groups(quota: str, memory: str, expected: tuple[float, int], tmp_path: Path):
    groups = tmp_path / "sys/fs/cgroup"
    for place, text in {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000"}.items():
        (groups / place).parent.mkdir(parents=True, exist_ok=True)
        (groups / place).write_text(text + "\n")
    (groups / "memory").mkdir()
    (groups / "memory/memory.limit_in_bytes").write_text(memory + "\n")
    held = held_resources(tmp_path)
    assert (held.cpu_count, held.memory_bytes) == expected


TWO = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")


@pytest.mark.parametrize(
    ("devices", "environment", "model", "expected"),
    [
        ((), {}, "", (0, "")),
        (TWO, {}, MODEL, (2, "NVIDIA H100 80GB HBM3")),
        (TWO, {"CUDA_VISIBLE_DEVICES": "1"}, MODEL, (1, "NVIDIA H100 80GB HBM3")),
        (TWO, {"CUDA_VISIBLE_DEVICES": ""}, MODEL, (0, "")),
        (TWO, {"VISIONYARD_ACCELERATOR": "h100-spot"}, MODEL, (2, "h100-spot")),
        (TWO, {}, "", (2, "nvidia.com/gpu")),
    ],
    ids=["none", "two", "one is visible", "none is visible", "named", "no name"],
)
def test_accelerators(
    devices: tuple[str, ...],
    environment: dict[str, str],
    model: str,
    expected: tuple[int, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("CUDA_VISIBLE_DEVICES", "VISIONYARD_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    held = held_resources(container(tmp_path, devices=devices, model=model))
    assert (held.accelerator_count, held.accelerator_type) == expected
