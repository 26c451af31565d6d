"""What compiles and yet breaks, or silently does something else, on the backend of Kubeflow Pipelines."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from visionyard.cluster.packages import Package
from visionyard.cluster.profiles import Profile

MOST_TASKS = 11
_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_CONDITION_INPUT = re.compile(r"inputs\.parameter_values\['([^']+)'\]")
_FLOAT = re.compile(r"(?<![\w.'])\d+\.\d+|\bdouble\(")
_CHANNEL = "pipelinechannel--"


@dataclass(frozen=True)
class _Task:
    """A task and where it stands: `dag` is the component whose graph holds it."""

    dag: str
    name: str
    spec: dict[str, Any]


def find_lint(package: Package, profile: Profile | None = None) -> list[str]:
    """Return a sentence for each thing in a compiled pipeline that the backend breaks on.

    Args:
        package: The compiled pipeline.
        profile: The one it was compiled with; a retry policy that is not the profile's is refused.
    """
    linter = _Linter(package)
    problems = [
        *linter.task_count(),
        *linter.unsettled(),
        *linter.platform_parameters(),
        *linter.amounts(),
        *linter.retries(profile),
        *linter.final_statuses(),
        *linter.float_comparisons(),
    ]
    return sorted(set(problems))


class _Linter:
    def __init__(self, package: Package) -> None:
        self.components: dict[str, dict[str, Any]] = package.spec.get("components", {})
        self.dags = {"root": package.spec["root"], **{k: v for k, v in self.components.items() if "dag" in v}}
        self.executors: dict[str, dict[str, Any]] = package.spec.get("deploymentSpec", {}).get("executors", {})
        kubernetes = package.platform.get("platforms", {}).get("kubernetes", {})
        self.platform: dict[str, dict[str, Any]] = kubernetes.get("deploymentSpec", {}).get("executors", {})

    def tasks(self) -> Iterator[_Task]:
        for dag, component in self.dags.items():
            for name, spec in component["dag"]["tasks"].items():
                yield _Task(dag, name, spec)

    def executor(self, task: _Task) -> str:
        """Return the executor of a task; empty for one that is a graph itself."""
        component = self.components.get(task.spec["componentRef"]["name"], {})
        return str(component.get("executorLabel", ""))

    def task_count(self) -> Iterator[str]:
        count = sum(1 for task in self.tasks() if self.executor(task))
        if count > MOST_TASKS:
            yield f"{count} tasks, each of which costs two pods; keep to {MOST_TASKS}: let one stage do more"

    def unsettled(self) -> Iterator[str]:
        for task in self.tasks():
            label = self.executor(task)
            if "container" in self.executors.get(label, {}) and "securityContext" not in self.platform.get(label, {}):
                yield f"task {task.name}: no profile's settings; call settle(task, stage) for it in the pipeline"

    def platform_parameters(self) -> Iterator[str]:
        for task in self.tasks():
            if task.dag == "root":
                continue
            for name in self._settings_of(task) - self._passed_on(task.dag):
                yield (
                    f"task {task.name} in {task.dag}: the parameter {name.removeprefix(_CHANNEL)} is used only in "
                    'platform settings inside a sub-DAG, where the backend does not find it ("parent DAG does not '
                    'have input parameter"); compile the value in, or pass it to a task there as an ordinary input'
                )

    def amounts(self) -> Iterator[str]:
        for task in self.tasks():
            resources = self.executors.get(self.executor(task), {}).get("container", {}).get("resources", {})
            for name in _placeholders(resources):
                kind = self._kind(task, name)
                if kind and kind != "STRING":
                    yield (
                        f"task {task.name}: the resource parameter {name.removeprefix(_CHANNEL)} is {kind}; the "
                        'backend reads texts only and drops the request without a word; declare it `str`, such as "0"'
                    )

    def retries(self, profile: Profile | None) -> Iterator[str]:
        for task in self.tasks():
            count = task.spec.get("retryPolicy", {}).get("maxRetryCount", 0)
            stage = self.executor(task).removeprefix("exec-").replace("-", "_")
            allowed = profile.stage(re.sub(r"_\d+$", "", stage)).retries if profile and stage else 0
            if count and int(count) != allowed:
                yield (
                    f"task {task.name}: set_retry({count}), but KFP does not try a failed container again, only a "
                    "lost pod; let the stage retry in its own process, and put retries of lost pods into the profile"
                )

    def final_statuses(self) -> Iterator[str]:
        for task in self.tasks():
            for name, value in task.spec.get("inputs", {}).get("parameters", {}).items():
                if "taskFinalStatus" in value:
                    yield (
                        f"task {task.name}: its input {name} is a final status, which holds no reason and says RUNNING "
                        "after a failed driver; read the exit reports in the store instead"
                    )

    def float_comparisons(self) -> Iterator[str]:
        for task in self.tasks():
            condition = task.spec.get("triggerPolicy", {}).get("condition", "")
            inputs = self._inputs_of(task)
            is_float = any(
                inputs.get(name, {}).get("parameterType") == "NUMBER_DOUBLE"
                for name in _CONDITION_INPUT.findall(condition)
            )
            if is_float or _FLOAT.search(condition):
                yield (
                    f"task {task.name}: the condition {condition!r} compares a float, which goes wrong with NaN "
                    "unseen; let a component compare and hand on a word such as promote or reject"
                )

    def _inputs_of(self, task: _Task) -> dict[str, Any]:
        component = self.components.get(task.spec["componentRef"]["name"], {})
        found: dict[str, Any] = component.get("inputDefinitions", {}).get("parameters", {})
        return found

    def _settings_of(self, task: _Task) -> set[str]:
        """Return the parameters that a task's image, resources and platform settings read."""
        label = self.executor(task)
        if not label:
            return set()
        container = self.executors.get(label, {}).get("container", {})
        found = _placeholders({key: container.get(key) for key in ("image", "resources")})
        return found | set(_component_inputs(self.platform.get(label, {})))

    def _passed_on(self, dag: str) -> set[str]:
        """Return the parameters of a graph that some task of it takes as an ordinary input."""
        found = set()
        for name, spec in self.dags[dag]["dag"]["tasks"].items():
            task = _Task(dag, name, spec)
            settings = self._settings_of(task)
            own = self._inputs_of(task)
            for key, value in spec.get("inputs", {}).get("parameters", {}).items():
                source = value.get("componentInputParameter", "")
                if source and key in own and not (key == source and key in settings):
                    found.add(source)
        return found

    def _kind(self, task: _Task, name: str) -> str:
        """Return the type of a parameter as the pipeline declares it; empty when it is a task's output."""
        for inputs in (self.dags[task.dag], self.dags["root"]):
            parameters = inputs.get("inputDefinitions", {}).get("parameters", {})
            for key in (name, name.removeprefix(_CHANNEL)):
                if key in parameters:
                    return str(parameters[key]["parameterType"])
        return ""


def _placeholders(value: Any) -> set[str]:
    return set(_PLACEHOLDER.findall(str(value).replace('\\"', '"').replace("\\'", "'")))


def _component_inputs(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "componentInputParameter":
                yield str(item)
            else:
                yield from _component_inputs(item)
    elif isinstance(value, list):
        for item in value:
            yield from _component_inputs(item)
