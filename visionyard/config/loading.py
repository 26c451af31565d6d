"""Read a run config from YAML, overrides and the environment; report every mistake at once."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from visionyard.config.run_config import RunConfig
from visionyard.errors import ConfigError

ENVIRONMENT_PREFIX = "VISIONYARD_SET_"
# Where pydantic's own words speak of Python rather than of the file.
_MESSAGES = {
    "model_type": "expected a section of keys and values",
    "string_type": "expected text; put it in quotes",
    "string_too_short": "expected a text, got an empty one",
    "too_short": "expected at least one entry",
    "invalid_key": "expected a name as key",
}


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as usual, except that a key given twice is a mistake instead of the last one winning unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


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
        (name, name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."), text)
        for name, text in sorted(variables.items())
        if name.startswith(ENVIRONMENT_PREFIX)
    ]
    problems = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            problems.append(f"--set {override}: expected section.key=value, such as training.epochs=3")
        else:
            settings.append(("--set", key.strip(), text))
    for origin, key, text in settings:
        problems += [f"{origin}: {problem}" for problem in _lay_over(values, key, text)]
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
            message = _MESSAGES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            where = f"{path} = {problem['input']!r}: " if not isinstance(problem["input"], dict) else f"{path}: "
            sentences.append(where + message[:1].lower() + message[1:])
    return sentences


def field_of(model: type[BaseModel], dotted: str) -> FieldInfo:
    """Return the field of a dotted name.

    Raises:
        KeyError: There is no such field.
    """
    *parents, last = dotted.split(".")
    for parent in parents:
        section = model.model_fields[parent].annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            raise KeyError(dotted)
        model = section
    return model.model_fields[last]


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


def _takes_text(dotted: str) -> bool:
    annotation = field_of(RunConfig, dotted).annotation
    return annotation is str or (get_origin(annotation) is Literal and isinstance(get_args(annotation)[0], str))


_SECTIONS = frozenset(name.split(".")[0] for name in field_names(RunConfig) if "." in name)
_TEXTS = frozenset(name for name in field_names(RunConfig) if _takes_text(name))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `visionyard init` writes a commented one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        values = yaml.load(text, _UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as `data:`, got {values!r}")
    # A section whose keys are all commented out is read as None.
    return {key: {} if value is None and key in _SECTIONS else value for key, value in values.items()}


def _lay_over(values: dict[str, Any], key: str, text: str) -> list[str]:
    known = field_names(RunConfig)
    if key not in known and not key.startswith("model.options."):
        return [f"{key}: unknown key; {_nearest(key, RunConfig)}"]
    try:
        # A text stays as it was typed: `no` and `2024` are names here, not a flag and a number.
        value = text.strip() if key in _TEXTS or not text.strip() else yaml.safe_load(text)
    except yaml.YAMLError:
        return [f"{key} = {text!r}: not valid YAML"]
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        child = place.setdefault(parent, {})
        if not isinstance(child, dict):
            # What stands there is no section, which the check of the whole will say.
            return []
        place = child
    place[last] = value
    return []


def _nearest(path: str, model: type[BaseModel]) -> str:
    """Return the likest name beside `path`, or all names there."""
    parent, _, last = path.rpartition(".")
    prefix = f"{parent}." if parent else ""
    names = field_names(model)
    beside = dict.fromkeys(name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix))
    if not beside:
        return _nearest(parent, model)
    close = difflib.get_close_matches(last, beside, n=1, cutoff=0.6)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    # The right key in the wrong section.
    elsewhere = [name for name in names if name.rpartition(".")[2] == last]
    return f"did you mean {elsewhere[0]}?" if elsewhere else f"known here: {', '.join(beside)}"
