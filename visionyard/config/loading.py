"""Read a config from YAML, overrides and the environment; report every mistake at once."""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from visionyard.config.run_config import DeploymentConfig, RunConfig
from visionyard.config.serving_config import ServingConfig
from visionyard.errors import ConfigError

ENVIRONMENT_PREFIX = "VISIONYARD_SET_"
SERVING_ENVIRONMENT_PREFIX = "VISIONYARD_SERVE_"
_Config = TypeVar("_Config", bound=BaseModel)
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


@dataclass(frozen=True)
class ConfigReader(Generic[_Config]):
    """Reads configs of one kind.

    Attributes:
        model: What they become.
        prefix: Of the environment variables that set a value.
        example: An override, for messages.
        way_out: What to do when there is no such file.
    """

    model: type[_Config]
    prefix: str
    example: str
    way_out: str

    def load(self, path: Path | None, overrides: Iterable[str], environment: Mapping[str, str] | None) -> _Config:
        """Read a file and lay the environment and the overrides over it; see `load_run_config`."""
        values = {} if path is None else self._read_yaml(path)
        variables = os.environ if environment is None else environment
        settings = [
            (name, name.removeprefix(self.prefix).lower().replace("__", "."), text)
            for name, text in sorted(variables.items())
            if name.startswith(self.prefix)
        ]
        problems = []
        for override in overrides:
            key, separator, text = override.partition("=")
            if not separator or not key.strip():
                problems.append(f"--set {override}: expected section.key=value, such as {self.example}")
            else:
                settings.append(("--set", key.strip(), text))
        for origin, key, text in settings:
            problems += [f"{origin}: {problem}" for problem in self._lay_over(values, key, text)]
        return self.parse(values, problems)

    def parse(self, values: Mapping[str, Any], problems: Iterable[str] = ()) -> _Config:
        """Check plain values and return the config they describe; see `parse_run_config`."""
        found = list(problems)
        try:
            config = self.model.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(found + describe_problems(error, self.model)) from None
        if found:
            raise ConfigError(found)
        return config

    @cached_property
    def _names(self) -> list[str]:
        return field_names(self.model)

    @cached_property
    def _sections(self) -> frozenset[str]:
        return frozenset(name.split(".")[0] for name in self._names if "." in name)

    def _takes_text(self, dotted: str) -> bool:
        annotation = field_of(self.model, dotted).annotation if dotted in self._names else None
        return annotation is str or (get_origin(annotation) is Literal and isinstance(get_args(annotation)[0], str))

    def _is_entry(self, dotted: str) -> bool:
        """Return whether a name lies inside a field that holds names of the user's choice."""
        parents = [name for name in self._names if dotted.startswith(f"{name}.")]
        return bool(parents) and get_origin(field_of(self.model, parents[0]).annotation) is dict

    def _read_yaml(self, path: Path) -> dict[str, Any]:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; {self.way_out}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
        try:
            values = yaml.load(text, _UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if values is None:
            return {}
        if not isinstance(values, dict):
            first = next(iter(self.model.model_fields))
            expected = next((name.split(".")[0] for name in self._names if "." in name), first)
            raise ConfigError(f"{path}: expected sections such as `{expected}:`, got {values!r}")
        # A section whose keys are all commented out is read as None.
        return {key: {} if value is None and key in self._sections else value for key, value in values.items()}

    def _lay_over(self, values: dict[str, Any], key: str, text: str) -> list[str]:
        if key not in self._names and not self._is_entry(key):
            return [f"{key}: unknown key; {_nearest(key, self.model)}"]
        try:
            # A text stays as it was typed: `no` and `2024` are names here, not a flag and a number.
            value = text.strip() if self._takes_text(key) or not text.strip() else yaml.safe_load(text)
        except yaml.YAMLError:
            return [f"{key} = {text!r}: not valid YAML"]
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            child = place.setdefault(parent, {})
            if child is None:  # an inner section whose keys are all commented out
                child = place[parent] = {}
            if not isinstance(child, dict):
                # What stands there is no section, which the check of the whole will say.
                return []
            place = child
        place[last] = value
        return []


def load_run_config(
    path: Path | None, *, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> RunConfig:
    """Read `run.yaml` and lay the environment and the overrides over it.

    Args:
        path: The YAML file; None starts from the defaults.
        overrides: `section.key=value` texts, the last one wins; values are read as YAML.
        environment: Variables such as `VISIONYARD_SET_TRAINING__EPOCHS=3`; the process's own when None. They win over
            the file, and the overrides win over them.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or any value is wrong; it lists all mistakes.
    """
    return _RUN.load(path, overrides, environment)


def parse_run_config(values: Mapping[str, Any], *, problems: Iterable[str] = ()) -> RunConfig:
    """Check plain values and return the config they describe.

    Args:
        values: Sections and their values.
        problems: Mistakes found before; they are reported with the new ones.

    Raises:
        ConfigError: Any value is wrong; it lists all mistakes with path, value and what is allowed.
    """
    return _RUN.parse(values, problems)


def load_serving_config(
    path: Path | None = None, *, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> ServingConfig:
    """Read `serving.yaml` and lay the environment and the overrides over it.

    Args:
        path: The YAML file; None starts from the defaults.
        overrides: `section.key=value` texts, the last one wins; values are read as YAML, so
            `models=[{path: digits}]` is one too.
        environment: Variables such as `VISIONYARD_SERVE_BATCHING__MAX_SIZE=4`; the process's own when None. They win
            over the file, and the overrides win over them.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or any value is wrong; it lists all mistakes.
    """
    return _SERVING.load(path, overrides, environment)


def parse_deployment_config(values: Mapping[str, Any]) -> DeploymentConfig:
    """Check plain values and return the section `deployment` they describe.

    Raises:
        ConfigError: Any value is wrong; it lists all mistakes.
    """
    try:
        return DeploymentConfig.model_validate(dict(values))
    except ValidationError as error:
        problems = describe_problems(error, DeploymentConfig)
        raise ConfigError([f"deployment.{each}".replace("deployment.:", "deployment:") for each in problems]) from None


def parse_serving_config(values: Mapping[str, Any]) -> ServingConfig:
    """Check plain values and return the serving config they describe.

    Raises:
        ConfigError: Any value is wrong; it lists all mistakes with path, value and what is allowed.
    """
    return _SERVING.parse(values)


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


def _nearest(path: str, model: type[BaseModel], root: str = "") -> str:
    """Return the likest name beside `path`, or all names there; `root` is where the model itself stands."""
    listed = _listed_section(path, model)
    if listed:
        place, rest, section = listed
        return _nearest(rest, section, f"{root}{place}.")
    parent, _, last = path.rpartition(".")
    prefix = f"{parent}." if parent else ""
    names = field_names(model)
    beside = dict.fromkeys(name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix))
    if not beside:
        return _nearest(parent, model, root)
    close = difflib.get_close_matches(last, beside, n=1, cutoff=0.6)
    if close:
        return f"did you mean {root}{prefix}{close[0]}?"
    # The right key in the wrong section.
    elsewhere = [name for name in names if name.rpartition(".")[2] == last]
    return f"did you mean {root}{elsewhere[0]}?" if elsewhere else f"known here: {', '.join(beside)}"


def _listed_section(path: str, model: type[BaseModel]) -> tuple[str, str, type[BaseModel]] | None:
    """Take `models.0.path` apart into `models.0`, `path` and the section that the list holds."""
    parts = path.split(".")
    for position, part in enumerate(parts[1:-1], start=1):
        if part.isdigit():
            try:
                arguments = get_args(field_of(model, ".".join(parts[:position])).annotation)
            except KeyError:
                return None
            if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
                return ".".join(parts[: position + 1]), ".".join(parts[position + 1 :]), arguments[0]
    return None


_RUN = ConfigReader(RunConfig, ENVIRONMENT_PREFIX, "training.epochs=3", "`visionyard init` writes a commented one")
_SERVING = ConfigReader(
    ServingConfig, SERVING_ENVIRONMENT_PREFIX, "batching.max_size=4", "docs/serving-config.md lists what it may hold"
)
