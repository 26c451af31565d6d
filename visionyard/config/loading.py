"""Read a run config from YAML, overrides and the environment; report every mistake at once."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from visionyard.config.run_config import RunConfig
from visionyard.errors import ConfigError

ENVIRONMENT_PREFIX = "VISIONYARD_SET_"


def load_run_config(
    path: Path, *, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> RunConfig:
    """Read `run.yaml` and lay the environment and the overrides over it.

    Args:
        path: The YAML file.
        overrides: `section.key=value` texts, the last one wins; values are read as YAML.
        environment: Variables such as `VISIONYARD_SET_TRAINING__EPOCHS=3`; the process's own when None. They win over
            the file, and the overrides win over them.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or any value is wrong; it lists all mistakes.
    """
    values = _read_yaml(path)
    variables = os.environ if environment is None else environment
    settings = [
        (name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."), text)
        for name, text in sorted(variables.items())
        if name.startswith(ENVIRONMENT_PREFIX)
    ]
    problems = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            problems.append(f"--set {override}: expected section.key=value, such as training.epochs=3")
        else:
            settings.append((key.strip(), text))
    for key, text in settings:
        problems += _lay_over(values, key, text)
    return parse_run_config(values, problems=problems)


def parse_run_config(values: Mapping[str, Any], *, problems: Iterable[str] = ()) -> RunConfig:
    """Check plain values and return the config they describe.

    Args:
        values: Sections and their values.
        problems: Mistakes found before; they are reported with the new ones.

    Raises:
        ConfigError: Any value is wrong; it lists all mistakes with path, value and what is allowed.
    """
    found = list(problems)
    try:
        config = RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(found + describe_problems(error, RunConfig)) from None
    if found:
        raise ConfigError(found)
    return config


def describe_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Turn pydantic's errors into sentences: path, value, what is allowed, and the nearest right name."""
    sentences = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            sentences.append(f"{path}: unknown key; {_nearest(path, model)}")
        elif problem["type"] == "missing":
            sentences.append(f"{path}: missing; it has no default and must be given")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            where = f"{path} = {problem['input']!r}: " if not isinstance(problem["input"], dict) else f"{path}: "
            sentences.append(where + message[:1].lower() + message[1:])
    return sentences


def field_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all fields of a config model, sections opened."""
    names = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            names += field_names(section, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `visionyard init` writes a commented one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as `data:`, got {type(values).__name__}")
    return values


def _lay_over(values: dict[str, Any], key: str, text: str) -> list[str]:
    known = field_names(RunConfig)
    if key not in known and not key.startswith("model.options."):
        return [f"{key}: unknown key; {_nearest(key, RunConfig)}"]
    try:
        value = yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError:
        return [f"{key} = {text!r}: not valid YAML"]
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        child = place.get(parent)
        if not isinstance(child, dict):
            child = place[parent] = {}
        place = child
    place[last] = value
    return []


def _nearest(path: str, model: type[BaseModel]) -> str:
    names = field_names(model)
    close = difflib.get_close_matches(path, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    section = path.split(".")[0]
    siblings = [name for name in names if name.startswith(section + ".")] or sorted({n.split(".")[0] for n in names})
    return "known here: " + ", ".join(siblings)
