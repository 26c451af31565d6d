"""Several node types, one table; and what the fleet is made of."""

import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.cluster.fleet import compare, fleet_profiles, node_type_of
from visionyard.data.artifacts import write_manifest
from visionyard.errors import ArtifactError, ConfigError

GPU = {"cpu_count": 4, "memory_bytes": 0, "accelerator_type": "NVIDIA L4", "accelerator_count": 1}
CPU = {"cpu_count": 2, "memory_bytes": 0, "accelerator_type": "", "accelerator_count": 0}
PRICES = "currency: EUR\ncpu_hour: 0.05\naccelerator_hour: {l4: 0.8}\nnode_hour: {spot: 0.18}\n"


def node(folder: Path, name: str, images_per_s: float, resources: dict[str, Any], digest: str = "d") -> Path:
    place = folder / name
    place.mkdir()
    figures = {"format": "onnx", "p50_ms": 10.0, "images_per_s": images_per_s}
    values = {"fastest": figures, "most_images_per_s": figures, "machine": {"cpu": "a | b"}, "bundle_digest": digest}
    write_manifest(place, "benchmark", values, name="benchmark.json")
    (place / "node.json").write_text(json.dumps({"schema_version": 1, "node_type": name, "resources": resources}))
    return place


def test_the_cheapest_node_comes_first(tmp_path: Path):
    (tmp_path / "prices.yaml").write_text(PRICES)
    folders = [node(tmp_path, "gpu", 500, GPU), node(tmp_path, "cpu", 50, CPU), node(tmp_path, "spot", 400, GPU)]
    rows = compare(
        folders, table=tmp_path / "t.md", fleet=tmp_path / "f.json", prices_uri=str(tmp_path / "prices.yaml")
    )
    # A whole spot node is 0.18 an hour; of the others what the container held is paid: 2 cores, 4 cores and an L4.
    assert {row.node_type: row.hourly for row in rows} == pytest.approx({"spot": 0.18, "gpu": 1.0, "cpu": 0.1})
    costs = [row.per_1000_images for row in rows]
    assert costs == sorted(costs)
    assert rows[0].node_type == "spot"
    assert rows[0].per_1000_images == pytest.approx(0.18 / 3600 / 400 * 1000)
    text = (tmp_path / "t.md").read_text()
    assert "| spot | a / b | 4 | 1 x NVIDIA L4 | onnx | 10.0 | 400.0 | 0.180 | 0.000125 |" in text
    assert json.loads((tmp_path / "f.json").read_text())["nodes"][0]["node_type"] == "spot"


def test_without_prices_the_fastest_comes_first_and_no_cost_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VISIONYARD_PRICES", raising=False)
    folders = [node(tmp_path, "cpu", 50, CPU), node(tmp_path, "gpu", 500, GPU)]
    rows = compare(folders, table=tmp_path / "t.md", fleet=tmp_path / "f.json")
    assert [row.node_type for row in rows] == ["gpu", "cpu"]
    assert "1,000" not in (tmp_path / "t.md").read_text()


def test_measurements_of_two_bundles_are_not_compared(tmp_path: Path):
    folders = [node(tmp_path, "cpu", 50, CPU), node(tmp_path, "gpu", 500, GPU, digest="e")]
    with pytest.raises(ArtifactError, match="expected measurements of one bundle, got those of 2"):
        compare(folders, table=tmp_path / "t", fleet=tmp_path / "f")


def test_a_folder_without_its_node_is_refused(tmp_path: Path):
    place = node(tmp_path, "cpu", 50, CPU)
    (place / "node.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"cpu/node\.json: not a node's measurement"):
        compare([place], table=tmp_path / "t", fleet=tmp_path / "f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ["cpu"]), ("cpu, nodes/l4.yaml", ["cpu", "nodes/l4.yaml"])],
    ids=["default", "a name and a file"],
)
def test_the_fleet_is_what_the_variable_lists(text: str, expected: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONYARD_FLEET", text)
    assert fleet_profiles() == expected
    assert node_type_of(expected[-1]) == expected[-1].rpartition("/")[2].removesuffix(".yaml")


@pytest.mark.parametrize("text", [",", "a,b,c,d,e,f,g,h,i", "a/l4.yaml,l4"], ids=["none", "nine", "twice"])
def test_an_impossible_fleet_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONYARD_FLEET", text)
    with pytest.raises(ConfigError, match="VISIONYARD_FLEET"):
        fleet_profiles()
