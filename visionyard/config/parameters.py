"""A run config as flat pipeline parameters, and back.

`training.epochs` is the parameter `training_epochs`: the run form of the Kubeflow UI sorts parameters by name and shows
no descriptions, so the section's prefix keeps neighbours together and the name carries the unit.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from visionyard.config.loading import field_names
from visionyard.config.run_config import RunConfig


def to_parameters(config: RunConfig) -> dict[str, Any]:
    """Return the config as `section_key` to value; the run's own name is `run_name`."""
    values = config.model_dump(mode="json")
    parameters: dict[str, Any] = {}
    for dotted in field_names(RunConfig):
        place: Any = values
        for part in dotted.split("."):
            place = place[part]
        parameters[parameter_name(dotted)] = place
    return parameters


def parameter_name(dotted: str) -> str:
    """Return the pipeline parameter of a config key: `training.epochs` to `training_epochs`, `name` to `run_name`."""
    return "run_name" if dotted == "name" else dotted.replace(".", "_")


def section_parameters(section: str, model: type[BaseModel]) -> dict[str, str]:
    """Return the pipeline parameter of each field of one section, keyed by field name."""
    return {name: parameter_name(f"{section}.{name}") for name in model.model_fields}


def from_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested config values from flat parameters; unknown names are left out."""
    values: dict[str, Any] = {}
    for dotted in field_names(RunConfig):
        name = parameter_name(dotted)
        if name not in parameters:
            continue
        place = values
        *parents, last = dotted.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = parameters[name]
    return values
