"""The commented run.yaml that `visionyard init` writes, made from the fields themselves, so that it cannot lie."""

import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from visionyard.atomic import write_atomic
from visionyard.config.run_config import RunConfig
from visionyard.config.schema import describe_range
from visionyard.errors import ConfigError

_WIDTH = 100


def write_template(path: Path, *, source: str = "data") -> None:
    """Write a run config with every key, its description, its range and its default.

    Args:
        path: The YAML file; its parents are made.
        source: Value of `data.source`, the one key without a default.

    Raises:
        ConfigError: `path` exists already.
    """
    if path.exists():
        raise ConfigError(f"{path}: exists already and is kept; name another file, or remove it first")
    write_atomic(path, template_text(path.name, source=source))


def template_text(file_name: str, *, source: str) -> str:
    """Return the text of the commented run config.

    Args:
        file_name: Named in the commands on top.
        source: Value of `data.source`.
    """
    head = [
        "# A run of Visionyard: clips or labelled images in, a validated, exported and benchmarked model out.",
        "#",
        f"#   visionyard check {file_name}                          # every mistake at once, nothing is run",
        f"#   visionyard run {file_name}",
        f"#   visionyard run {file_name} --set training.epochs=3    # another value for this run only",
        "#",
        "# Only data.source must be given. Any other key may be left out; what stands here is its default.",
        "",
    ]
    return "\n".join(head + _lines(RunConfig, {"data.source": source})) + "\n"


def _lines(model: type[BaseModel], given: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the lines of a section's keys; `given` holds values by dotted name that are not the defaults."""
    indent = "  " * prefix.count(".")
    lines: list[str] = []
    for name, field in model.model_fields.items():
        dotted = prefix + name
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            summary = (section.__doc__ or "").strip().splitlines()[0]
            lines += ["", *_comment(summary, indent), f"{indent}{name}:", *_lines(section, given, f"{dotted}.")]
        else:
            value = given[dotted] if dotted in given else field.get_default(call_default_factory=True)
            lines += [*_comment(_words(field), indent), f"{indent}{name}: {_flow(value)}"]
    return lines


def _words(field: FieldInfo) -> str:
    """Return a field's description with its range and its default behind it."""
    notes = [describe_range(field)]
    notes.append(
        "required" if field.is_required() else f"default {_flow(field.get_default(call_default_factory=True))}"
    )
    return f"{field.description} ({'; '.join(note for note in notes if note)})"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _flow(value: Any) -> str:
    """Return a value as YAML on one line, quoted where YAML would read something else."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()
