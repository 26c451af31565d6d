"""Pages made from docstrings and config fields, so that they cannot lie: READMEs, the reference and the JSON Schema."""

import json
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.config import RunConfig, Section, ServedModelConfig, ServingConfig
from visionyard.config.schema import run_config_schema

_NOTE = "<!-- Made by `make docs` from the docstring. -->\n"


def pages() -> dict[str, str]:
    """Return every made page: path in the repository to its text."""
    from visionyard import components, pipelines

    made = {}
    for room, package in (("components", components), ("pipelines", pipelines)):
        for module in pkgutil.iter_modules(package.__path__):
            if module.ispkg:
                item = getattr(import_module(f"{package.__name__}.{module.name}"), module.name)
                made[f"{room}/{module.name}/README.md"] = item_page(item)
    made["docs/run-config.md"] = config_page()
    made["docs/serving-config.md"] = serving_config_page()
    made["docs/run-config.schema.json"] = json.dumps(run_config_schema(), indent=1, sort_keys=True) + "\n"
    return dict(sorted(made.items()))


def write_pages(root: Path, *, is_check: bool) -> list[str]:
    """Write the pages that differ below `root`, or only look; return their paths."""
    stale = []
    for place, text in pages().items():
        path = root / place
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(place)
            if not is_check:
                write_atomic(path, text)
    return stale


def item_page(item: Any) -> str:
    """Return the README of a KFP component or pipeline: what it does, inputs and outputs with type and description."""
    spec = item.component_spec
    lines = [_NOTE, f"# {spec.name.replace('-', '_')}", "", _first_paragraph(spec.description), ""]
    if spec.inputs:
        lines += ["| input | type | default | what |", "| --- | --- | --- | --- |"]
        for name, value in sorted(spec.inputs.items()):
            default = f"`{value.default!r}`" if value.optional and value.default is not None else ""
            lines.append(f"| `{name}` | {_type_name(value.type)} | {default} | {_one_line(value.description)} |")
        lines.append("")
    if spec.outputs:
        lines += ["| output | type | what |", "| --- | --- | --- |"]
        lines += [
            f"| `{name}` | {_type_name(value.type)} | {_one_line(value.description)} |"
            for name, value in sorted(spec.outputs.items())
        ]
        lines.append("")
    return "\n".join(lines)


def config_page() -> str:
    """Return the reference of the run config: a table a section."""
    lines = [
        "<!-- Made by `make docs` from the run config's fields. -->",
        "",
        "# Run config",
        "",
        (
            "`visionyard init` writes these as a commented file; `--set section.key=value` overrides one; the "
            "environment variable `VISIONYARD_SET_SECTION__KEY` does too; the pipeline's parameter is `section_key`. "
            "Editors check a config against [the JSON Schema](run-config.schema.json)."
        ),
        "",
    ]
    for name, section in _sections(RunConfig).items():
        lines += [f"## {name}", "", _one_line(section.__doc__), "", *_field_rows(section), ""]
    return "\n".join(lines)


def serving_config_page() -> str:
    """Return the reference of the serving config: a table a section."""
    lines = [
        "<!-- Made by `make docs` from the serving config's fields. -->",
        "",
        "# Serving config",
        "",
        (
            "`visionyard serve BUNDLE` needs none of these; `--config serving.yaml` reads them from a file, "
            "`--set section.key=value` overrides one, and so does the environment variable "
            "`VISIONYARD_SERVE_SECTION__KEY`. An override wins over the environment, and that over the file. All "
            "mistakes are reported at once. Secrets are files, never values in here."
        ),
        "",
        "| key | default | what |",
        "| --- | --- | --- |",
    ]
    sections = _sections(ServingConfig)
    loose = [row for row in _field_rows(ServingConfig)[2:] if row.split("`")[1] not in {"models", *sections}]
    lines += [*loose, "", "## models", "", f"A list. {_one_line(ServedModelConfig.__doc__)}", ""]
    lines += [*_field_rows(ServedModelConfig), ""]
    for name, section in sections.items():
        lines += [f"## {name}", "", _one_line(section.__doc__), "", *_field_rows(section), ""]
    return "\n".join(lines)


def _sections(config: type[Section]) -> dict[str, type[Section]]:
    kinds = {name: field.annotation for name, field in config.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _field_rows(section: type[Section]) -> list[str]:
    return ["| key | default | what |", "| --- | --- | --- |", *_rows(section)]


def _rows(section: type[Section], prefix: str = "") -> list[str]:
    rows = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if section is not ServingConfig and isinstance(inner, type) and issubclass(inner, Section):
            rows += _rows(inner, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        rows.append(f"| `{prefix}{name}` | {default} | {_one_line(field.description)} |")
    return rows


def _type_name(text: str) -> str:
    return text.removeprefix("system.").partition("@")[0]


def _first_paragraph(text: str | None) -> str:
    return _one_line((text or "").split("\n\n")[0])


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
