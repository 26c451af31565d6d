"""What no cluster can give: found when a profile is read, with the reason."""

from collections.abc import Mapping

from visionyard.cluster.profile_schema import StageProfile
from visionyard.cluster.quantities import parse_cpu, parse_memory


def find_impossible(stages: Mapping[str, StageProfile]) -> list[str]:
    """Return a sentence for each setting that cannot be honoured.

    Args:
        stages: Stage to its values with the defaults laid under; the empty name holds the defaults alone. What is
            wrong with the defaults is told once.
    """
    found: dict[str, str] = {}
    for name, stage in stages.items():
        where = f"stages.{name}" if name else "defaults"
        for problem in _of_stage(stage):
            found.setdefault(problem, f"{where}: {problem}")
    return list(found.values())


def _of_stage(stage: StageProfile) -> list[str]:
    return [*_amounts(stage), *_accelerators(stage), *_placement(stage), *_volumes(stage)]


def _amounts(stage: StageProfile) -> list[str]:
    problems = []
    if stage.cpu_request and stage.cpu_limit and parse_cpu(stage.cpu_request) > parse_cpu(stage.cpu_limit):
        problems.append(f"cpu_request {stage.cpu_request} is more than cpu_limit {stage.cpu_limit}")
    if stage.memory_request and stage.memory_limit and _memory_over(stage.memory_request, stage.memory_limit):
        problems.append(f"memory_request {stage.memory_request} is more than memory_limit {stage.memory_limit}")
    return problems


def _accelerators(stage: StageProfile) -> list[str]:
    count, kind = stage.accelerator_count, stage.accelerator_type
    if count and not kind:
        return [f"accelerator_count {count} without accelerator_type; name the resource, such as nvidia.com/gpu"]
    if kind and "/" not in kind:
        return [f"accelerator_type {kind!r} is no resource name; expected vendor/name, such as nvidia.com/gpu"]
    if count > 1:
        reason = "no stage can use several (training.device is one device), the others would stand idle; set 1"
        return [f"accelerator_count {count}: {reason}"]
    return []


def _placement(stage: StageProfile) -> list[str]:
    problems = []
    if stage.spot and not any(item.effect != "PreferNoSchedule" for item in stage.tolerations):
        problems.append("spot without a toleration: spot pools are tainted, so the pod would never be placed; add one")
    if stage.priority_class and not stage.queue:
        problems.append(
            f"priority_class {stage.priority_class!r} without queue: KFP has no field for a pod's priority, only "
            "Kueue reads it, from a label; name the queue that admits the pods"
        )
    return problems


def _volumes(stage: StageProfile) -> list[str]:
    fixed = stage.shm not in {"", "auto"}
    if fixed and stage.memory_limit and _memory_over(stage.shm, stage.memory_limit):
        return [f"shm {stage.shm} is larger than memory_limit {stage.memory_limit}, to which it counts"]
    return []


def _memory_over(amount: str, limit: str) -> bool:
    return parse_memory(amount) > parse_memory(limit)
