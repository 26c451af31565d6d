"""What chart and manifest tests share: helm, and the schemas of every kind that is rendered."""

import json
import os
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from charts import make_chart

REPOSITORY = Path(__file__).parents[2]
# Read by ourselves: kubernetes_validate.validate() parses 3 MB of definitions for every object.
_SCHEMAS = Path(str(files("kubernetes_validate"))) / "kubernetes-json-schema" / "v1.35.0-local-strict"
# Custom kinds that the chart renders.
_RENDERED = ("servingruntimes", "servicemonitors", "podmonitors", "prometheusrules")


@pytest.fixture(scope="session")
def helm() -> Path:
    """Return the path of helm, or skip."""
    if not make_chart.HELM.exists():
        pytest.skip(f"needs {make_chart.HELM}: make .venv/bin/helm")
    return make_chart.HELM


@cache
def _builtin_definitions() -> Registry[Any]:
    """Return the definitions that the schemas of Kubernetes' own kinds refer to; strict: unknown fields are refused."""
    text = (_SCHEMAS / "_definitions.json").read_text(encoding="utf-8")
    return Resource.from_contents(json.loads(text)) @ Registry()


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator | None:
    """Return the validator of a kind, or None for a custom one whose schema is not at hand."""
    group, _, version = api_version.rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        schema = _custom_kinds().get((api_version, kind))
        return None if schema is None else Draft202012Validator(schema)
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], version)))
    path = _SCHEMAS / f"{name}.json"
    assert path.exists(), f"{api_version} {kind}: not a kind that Kubernetes knows"
    schema = json.loads(path.read_text(encoding="utf-8"))
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _builtin_definitions())


@cache
def _custom_kinds() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the schema of each custom kind at hand, closed against unknown fields."""
    folder = Path(os.environ.get("VISIONYARD_SHARED_CRDS", REPOSITORY.parent / "shared" / "crds"))
    found = {}
    for path in sorted(path for name in _RENDERED for path in folder.glob(f"*_{name}.yaml")):
        definition = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = _closed(schema)
    return found


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items() if key not in {"format", "nullable"}}
    if made.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="session")
def check_schema() -> Callable[[dict[str, Any]], bool]:
    """Return a function that holds an object to its kind's schema; False: a custom kind whose schema is not at hand."""

    seen: dict[str, bool] = {}

    def check(item: dict[str, Any]) -> bool:
        text = json.dumps(item, sort_keys=True)
        if text not in seen:
            validator = _validator(item["apiVersion"], item["kind"])
            if validator is not None:
                # Through JSON: the schemas know no dates.
                validator.validate(json.loads(text))
            seen[text] = validator is not None
        return seen[text]

    return check
