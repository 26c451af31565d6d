"""kustomize: the bases are the chart, rendered; each overlay builds, fits the schemas and has the chart's names."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import make_chart
from tests.charts.conftest import check_schema, helm  # noqa: F401 (fixtures)

MANIFESTS = make_chart.ROOT / "manifests"
OVERLAYS = ("standalone", "kubeflow", "test")
# Values of the chart that make what an overlay holds.
SAME_AS: dict[str, dict[str, str]] = {
    "standalone": {"monitoring.pushgateway.enabled": "true"},
    "kubeflow": {
        "serving.runtimes.enabled": "always",
        "receiver.enabled": "true",
        "receiver.config.models.digits.run_name": "digits",
        "kfp.endpoint": "http://ml-pipeline:8888",
    },
    "test": {"store.kind": "seaweedfs"},
}


def _build(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.helm
def test_the_bases_are_what_the_chart_renders(helm: Path) -> None:  # noqa: F811
    assert make_chart.stale_files(make_chart.bases(), is_check=True) == [], "run `make chart`"


@pytest.mark.helm
def test_every_made_file_belongs_to_a_room_that_is_made(helm: Path) -> None:  # noqa: F811
    made = {Path(place) for place in make_chart.bases()} | {Path("manifests/base/kustomization.yaml")}
    there = {
        path.relative_to(make_chart.ROOT)
        for room in ("base", "components")
        for path in (MANIFESTS / room).rglob("*.yaml")
    }

    assert there == made


@pytest.mark.helm
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_the_kinds_and_names_of_the_chart(overlay: str, helm: Path) -> None:  # noqa: F811
    built = {make_chart.identity(item) for item in _build(MANIFESTS / "overlays" / overlay)}
    chart = {make_chart.identity(item) for item in make_chart.render({**SAME_AS[overlay], "tests.enabled": "false"})}

    # Secrets come before the overlay is applied, but for the test's own; a namespace is Helm's --create-namespace.
    def compared(names: set[tuple[str, str]]) -> set[tuple[str, str]]:
        return {name for name in names if name[0] not in {"Namespace", "Secret"}}

    assert compared(built) == compared(chart)
    if overlay == "test":
        assert {name for name in built if name[0] == "Secret"} == {name for name in chart if name[0] == "Secret"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_fits_the_schemas_and_lies_in_one_namespace(
    overlay: str,
    check_schema: Callable[[dict[str, Any]], bool],  # noqa: F811
) -> None:
    items = _build(MANIFESTS / "overlays" / overlay)

    assert {item["kind"] for item in items if not check_schema(item)} <= {"ServingRuntime"}
    assert len({item["metadata"]["namespace"] for item in items if item["kind"] != "Namespace"}) == 1
    assert not [item for item in items if any(key.startswith("helm.sh") for key in item["metadata"].get("labels", {}))]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_accounts_that_get_rights_are_those_of_the_overlay(overlay: str) -> None:
    items = _build(MANIFESTS / "overlays" / overlay)
    accounts = {
        (item["metadata"]["namespace"], item["metadata"]["name"]) for item in items if _is(item, "ServiceAccount")
    }
    subjects = [one for item in items if _is(item, "RoleBinding") for one in item["subjects"]]

    assert subjects
    assert {(one.get("namespace"), one["name"]) for one in subjects} <= accounts


def _is(item: dict[str, Any], kind: str) -> bool:
    return bool(item["kind"] == kind)


@pytest.mark.parametrize("component", sorted(path.name for path in (MANIFESTS / "components").iterdir()))
def test_a_component_builds_on_the_base(component: str, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    overlay = tmp_path / "manifests/overlays/one"
    overlay.mkdir()
    content = {"resources": ["../../base"], "components": [f"../../components/{component}"], "namespace": "one"}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))

    plain = {make_chart.identity(item) for item in _build(MANIFESTS / "base")}
    built = {make_chart.identity(item) for item in _build(overlay)}

    assert built >= plain
    assert (component == "seaweedfs") == (built == plain)
