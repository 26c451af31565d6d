"""Compiled pipelines: the two documents of the YAML, the parameters they take, and what is changed before sending."""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from visionyard.errors import ConfigError

# libyaml's, where PyYAML was built with it: a tenth of the time on a pipeline of 2,000 lines.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBERS = (int, float)
# What KFP puts before the names of values that pass through a condition.
_CHANNEL = "pipelinechannel--"
_KINDS: dict[str, tuple[str, Any]] = {
    "STRING": ("a text", str),
    "BOOLEAN": ("true or false", bool),
    "NUMBER_INTEGER": ("a whole number", _NUMBERS),
    "NUMBER_DOUBLE": ("a number", _NUMBERS),
    "LIST": ("a list", list),
    "STRUCT": ("keys and values", Mapping),
}


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        spec: The first document: what runs.
        platform: The second: settings of the pods; empty when there is none.
    """

    spec: dict[str, Any]
    platform: dict[str, Any]

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.spec["pipelineInfo"]["name"])

    @cached_property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Parameters of the pipeline: name to definition."""
        found: dict[str, dict[str, Any]] = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return found

    def to_json(self) -> dict[str, Any]:
        """Return it as the API takes it."""
        return {"pipeline_spec": self.spec, "platform_spec": self.platform} if self.platform else self.spec

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Refuse parameters that the backend would refuse, before anything is sent.

        Raises:
            ConfigError: A name is not known, a value of another type, or a required one missing; lists all mistakes.
        """
        problems = [
            f"{name}: the pipeline {self.name} has no such parameter" for name in parameters.keys() - self.inputs
        ]
        for name, definition in self.inputs.items():
            if name in parameters:
                words, kind = _KINDS[definition["parameterType"]]
                value = parameters[name]
                if not isinstance(value, kind) or (kind is _NUMBERS and isinstance(value, bool)):
                    problems.append(f"{name} = {value!r}: expected {words}")
            elif "defaultValue" not in definition and not definition.get("isOptional"):
                problems.append(f"{name}: missing; the pipeline {self.name} has no default for it")
        if problems:
            raise ConfigError(sorted(problems))

    def without_cached_source(self, unknown: Collection[str] = ("data_digest",)) -> "Package":
        """Return it with caching off for the tasks that take digests of the run's inputs which are not known.

        What comes after them reads new artifacts, so that it is not taken from the cache either.

        Args:
            unknown: Parameters of the pipeline: the digest of the source, or of another input.
        """
        spec = copy.deepcopy(self.spec)
        for dag in [spec["root"], *spec.get("components", {}).values()]:
            for task in dag.get("dag", {}).get("tasks", {}).values():
                inputs = task.get("inputs", {}).get("parameters", {})
                # Not a condition's, which only hands them on. One that a task of the run found out, as retrain's does,
                # is right.
                given = [value for name, value in inputs.items() if not name.startswith(_CHANNEL)]
                names = {one.get("componentInputParameter", "").removeprefix(_CHANNEL) for one in given}
                if names & set(unknown):
                    task["cachingOptions"] = {}
        return Package(spec, self.platform)


def read_package(path: Path) -> Package:
    """Return a compiled pipeline.

    Raises:
        ConfigError: The file is no compiled pipeline.
    """
    try:
        documents = [item for item in yaml.load_all(path.read_text(encoding="utf-8"), _LOADER) if item]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    spec = next((item for item in documents if isinstance(item, dict) and "pipelineInfo" in item), None)
    if spec is None:
        raise ConfigError(f"{path}: not a compiled pipeline; `visionyard compile` makes one")
    platform = next((item for item in documents if isinstance(item, dict) and "platforms" in item), {})
    return Package(spec, platform)
