"""What the container or machine of a stage holds: cores, memory, accelerators; read without loading any library."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

# Of a node pool whose devices do not name themselves, or to choose another line of the price table (such as spot).
ACCELERATOR_VARIABLE = "VISIONYARD_ACCELERATOR"
# Version 1 of control groups says "no limit" by the largest number of whole pages.
_UNLIMITED_BYTES = 1 << 62
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
    cores = _usable_cores()
    count = _device_count(root)
    return StageResources(
        cpu_count=round(min(_core_limit(root / "sys/fs/cgroup") or cores, cores), 3),
        memory_bytes=_memory_limit(root / "sys/fs/cgroup"),
        accelerator_type=(os.environ.get(ACCELERATOR_VARIABLE) or _device_name(root)) if count else "",
        accelerator_count=count,
    )


def core_count(root: Path = Path("/")) -> int:
    """Return the number of threads that this process can keep busy: its cores, at least one.

    A container may be on a node with many more cores than its limit. Threads beyond the limit do not make it faster:
    they use up the share of a scheduling period together and then all wait for the next one.
    """
    return max(1, round(held_resources(root).cpu_count))


def limited_core_count(root: Path = Path("/")) -> int:
    """Return `core_count` where a container's limit leaves less than the cores that are there, else 0."""
    held, cores = core_count(root), _usable_cores()
    return held if held < cores else 0


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _core_limit(groups: Path) -> float:
    """Return the cores that a container may use by its control group, of version 2 or 1; 0 without a limit."""
    quota, _, period = _text(groups / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(groups / "cpu/cpu.cfs_quota_us"), _text(groups / "cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0


def _memory_limit(groups: Path) -> int:
    """Return a container's limit by its control group, of version 2 or 1; 0 without one."""
    text = _text(groups / "memory.max") or _text(groups / "memory/memory.limit_in_bytes")
    limit = int(text) if text.isdigit() else 0
    return limit if limit < _UNLIMITED_BYTES else 0


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
