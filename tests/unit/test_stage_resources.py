"""What a stage holds, read from the files of a container that is made up."""

import os
from pathlib import Path

import pytest

from visionyard.stage_resources import held_resources

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
