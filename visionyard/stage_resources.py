"""What the container or machine of a stage holds: cores, memory, accelerators; read without loading any library."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

# Of a node pool whose devices do not name themselves, or to choose another line of the price table (such as spot).
ACCELERATOR_VARIABLE = "VISIONYARD_ACCELERATOR"
_NVIDIA_DEVICE = re.compile(r"nvidia\d+")


@dataclass(frozen=True)
class StageResources:
    """What a stage holds while it runs.

    Attributes:
        cpu_count: Cores: the container's limit, else those that the process may use.
        memory_bytes: The container's limit; 0 without one.
        accelerator_type: The first device's name, or the value of VISIONYARD_ACCELERATOR.
        accelerator_count: Devices that the process can see.
    """

    cpu_count: float = 0.0
    memory_bytes: int = 0
    accelerator_type: str = ""
    accelerator_count: int = 0


def held_resources(root: Path = Path("/")) -> StageResources:
    """Return what this process holds.

    Args:
        root: Where /proc, /sys and /dev lie.
    """
    groups = root / "sys/fs/cgroup"
    quota, _, period = _text(groups / "cpu.max").partition(" ")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = int(quota) / int(period) if quota.isdigit() and period.isdigit() else cores
    memory = _text(groups / "memory.max")
    count = _device_count(root)
    return StageResources(
        cpu_count=round(min(limit, cores), 3),
        memory_bytes=int(memory) if memory.isdigit() else 0,
        accelerator_type=(os.environ.get(ACCELERATOR_VARIABLE) or _device_name(root)) if count else "",
        accelerator_count=count,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _device_count(root: Path) -> int:
    """Count NVIDIA's device files; a container has only those of its own, and CUDA_VISIBLE_DEVICES may hide some."""
    folder = root / "dev"
    present = sum(1 for path in folder.glob("nvidia*") if _NVIDIA_DEVICE.fullmatch(path.name))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not present:
        return present
    return min(present, len([name for name in visible.split(",") if name.strip() not in {"", "-1"}]))


def _device_name(root: Path) -> str:
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        for line in _text(path).splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return "nvidia.com/gpu"
