"""The pipelines batch_predict and benchmark_fleet: what they compile to, and whole runs of them on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionyard.cli.compile import compile_pipeline
from visionyard.cluster.lint import find_lint
from visionyard.cluster.packages import Package, read_package
from visionyard.cluster.profiles import load_profile
from visionyard.events import read_events

GPU_NODE = "extends: cpu\ndescription: A GPU node.\nstages:\n  benchmark_node:\n    accelerator_type: nvidia.com/gpu\n"
GPU_NODE += "    accelerator_count: 1\n    node_selector: {pool: l4}\n"


def compiled(name: str, folder: Path) -> Package:
    compile_pipeline(name, folder / f"{name}.yaml")
    return read_package(folder / f"{name}.yaml")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "l4.yaml").write_text(GPU_NODE)
    text = f"cpu,{tmp_path / 'l4.yaml'}"
    monkeypatch.setenv("VISIONYARD_FLEET", text)
    return text


@pytest.mark.parametrize("name", ["batch_predict", "benchmark_fleet"])
def test_it_passes_the_lint(name: str, tmp_path: Path, fleet: str):
    assert find_lint(compiled(name, tmp_path), load_profile("cpu")) == []


def test_each_node_type_is_a_task_on_its_own_nodes(tmp_path: Path, fleet: str):
    package = compiled("benchmark_fleet", tmp_path)
    tasks = package.spec["root"]["dag"]["tasks"]
    types = {
        name: task["inputs"]["parameters"]["node_type"]["runtimeValue"]["constant"]
        for name, task in tasks.items()
        if name.startswith("benchmark-node")
    }
    assert types == {"benchmark-node": "cpu", "benchmark-node-2": "l4"}
    executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    selectors = {name: values.get("nodeSelector", {}).get("labels") for name, values in executors.items()}
    assert selectors["exec-benchmark-node"] is None
    assert selectors["exec-benchmark-node-2"] == {"pool": "l4"}
    resources = package.spec["deploymentSpec"]["executors"]["exec-benchmark-node-2"]["container"]["resources"]
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    # A measurement is never taken from a cache, nor are predictions on sources that may have changed.
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())


def test_what_happens_on_each_node_is_written_to_the_store_of_the_run(tmp_path: Path, fleet: str):
    profile = load_profile("cpu").with_store("s3://yard/x")
    compile_pipeline("benchmark_fleet", tmp_path / "fleet.yaml", profile=profile)
    executors = read_package(tmp_path / "fleet.yaml").spec["deploymentSpec"]["executors"]
    events = {
        name: [one["value"] for one in executor["container"]["env"] if one["name"] == "VISIONYARD_EVENTS"]
        for name, executor in executors.items()
    }
    assert len(events) == 3
    assert all(found == ["s3://yard/x/events"] for found in events.values()), events


def run(name: str, folder: Path, **arguments: Any) -> "subprocess.CompletedProcess[str]":
    folder.mkdir(exist_ok=True)
    request = {
        "package_path": str(folder / "pipeline.yaml"),
        "pipeline_root": str(folder / "root"),
        "arguments": arguments,
        "runner": "subprocess",
    }
    (folder / "request.json").write_text(json.dumps(request))
    environment = {**os.environ, "VISIONYARD_EVENTS": str(folder / "events.jsonl"), "VISIONYARD_RUN": "r"}
    command = [sys.executable, "-m", "visionyard.cli.pipeline_process", name, str(folder / "request.json")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def finished(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [
        (event["stage"], event["figures"])
        for event in read_events(folder / "events.jsonl")
        if event["kind"] == "stage_finished"
    ]


@pytest.mark.slow
def test_a_batch_is_predicted_and_goes_on(tiny_bundle: Callable[[str], tuple[Path, Path]], tmp_path: Path):
    bundle, dataset = tiny_bundle("detection")
    target = tmp_path / "results"
    for resumed in (0, 1):
        done = run(
            "batch_predict",
            tmp_path / "run",
            bundle_uri=str(bundle),
            sources=[str(dataset)],
            target_uri=str(target),
        )
        assert done.returncode == 0, done.stdout[-3000:]
        figures = {"pictures": 15, "items": 15, "failed": 0, "resumed_parts": resumed}
        assert finished(tmp_path / "run")[-1] == ("predict_images", figures)
    records = [json.loads(text) for text in (target / "part-00000.jsonl").read_text().splitlines()]
    assert len(records) == 15


@pytest.mark.slow
def test_a_batch_with_wrong_values_fails_with_all_of_them(tmp_path: Path):
    done = run(
        "batch_predict",
        tmp_path / "run",
        bundle_uri="b",
        sources=[],
        target_uri="t",
        file_format="csv",
        rate_hz=0.0,
    )
    assert done.returncode != 0
    (event,) = [one for one in read_events(tmp_path / "run/events.jsonl") if one["kind"] == "stage_failed"]
    assert event["report"]["exit_class"] == "bad_config"
    for part in ("file_format = 'csv'", "rate_hz = 0.0", "sources: expected"):
        assert part in event["report"]["message"]


@pytest.mark.slow
def test_a_fleet_of_two_is_measured_and_compared(
    tiny_bundle: Callable[[str], tuple[Path, Path]], tmp_path: Path, fleet: str
):
    bundle, dataset = tiny_bundle("detection")
    (tmp_path / "prices.yaml").write_text("currency: EUR\nnode_hour: {cpu: 0.1, l4: 0.8}\n")
    done = run(
        "benchmark_fleet",
        tmp_path / "run",
        bundle_uri=str(bundle),
        dataset_uri=str(dataset),
        batch_sizes=[1],
        threads=[1],
        repeat_count=5,
        prices_uri=str(tmp_path / "prices.yaml"),
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert [stage for stage, _ in finished(tmp_path / "run")] == ["benchmark_node", "benchmark_node", "compare_nodes"]
    (table,) = (tmp_path / "run/root").glob("*/compare-nodes/table")
    lines = table.read_text().splitlines()
    assert lines[0].endswith("| EUR/hour | EUR/1,000 images |")
    assert sorted(line.split(" | ")[0] for line in lines[2:]) == ["| cpu", "| l4"]
