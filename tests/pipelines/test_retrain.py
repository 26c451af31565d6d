"""The pipeline retrain: what it compiles to, and a year of it on tiny data by the subprocess runner."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from visionyard.cli.compile import compile_pipeline
from visionyard.config import parse_run_config, to_parameters
from visionyard.events import EVENTS_VARIABLE, RUN_VARIABLE, read_events
from visionyard.tracking.registry import Registry

TRAINING_STAGES = {
    "ingest_dataset",
    "extract_frames",
    "prepare_dataset",
    "train_model",
    "validate_model",
    "export_model",
    "benchmark_model",
    "promote_model",
    "deploy_model",
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("compiled") / "retrain.yaml"
    compile_pipeline("retrain", path)
    return next(yaml.safe_load_all(path.read_text()))


def _tasks(compiled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks that are pods, of all graphs."""
    graphs = [compiled["root"], *(one for one in compiled["components"].values() if "dag" in one)]
    tasks = {name: task for graph in graphs for name, task in graph["dag"]["tasks"].items()}
    return {
        name: task
        for name, task in tasks.items()
        if "executorLabel" in compiled["components"][task["componentRef"]["name"]]
    }


def test_its_tasks_are_fewer_than_twelve(compiled: dict[str, Any]):
    names = {name.replace("-", "_") for name in _tasks(compiled)}
    assert names == TRAINING_STAGES | {"find_new_data", "notify_end"}


def test_its_parameters_are_the_run_configs_and_its_own(compiled: dict[str, Any]):
    expected = set(to_parameters(parse_run_config({"data": {"source": "x"}})))
    found = compiled["root"]["inputDefinitions"]["parameters"]
    own = {"retrain_warm_start", "notify_when", "software_digest", "training_checkpoints_uri"}
    own |= {"data_split_file_digest", "frames_anonymize_digest"}
    assert set(found) == expected | own
    assert not [name for name, value in found.items() if not value.get("description")]
    assert found["training_epochs"] == {
        "defaultValue": 20.0,
        "description": "Passes over the training split.",
        "isOptional": True,
        "parameterType": "NUMBER_INTEGER",
    }


def test_its_one_condition_is_on_a_word_that_a_component_computed(compiled: dict[str, Any]):
    graphs = [compiled["root"], *(one for one in compiled["components"].values() if "dag" in one)]
    policies = [
        task["triggerPolicy"] for graph in graphs for task in graph["dag"]["tasks"].values() if "triggerPolicy" in task
    ]
    conditions = [one["condition"] for one in policies if "condition" in one]
    assert len(conditions) == 1
    assert conditions[0].endswith("find-new-data-Output'] == 'train'")


def test_nothing_that_depends_on_the_world_is_cached(compiled: dict[str, Any]):
    uncached = {
        name for name, task in _tasks(compiled).items() if not task.get("cachingOptions", {}).get("enableCache")
    }
    assert uncached >= {"find-new-data", "promote-model", "notify-end"}


def _photos(folder: Path, first: int, count: int, *, flips: bool = False) -> None:
    """Write photos of two classes; `flips` gives each the other's label."""
    random = np.random.default_rng(first)
    for name, colour in (("blue", (30, 60, 200)), ("yellow", (230, 200, 40))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            image = random.integers(0, 60, (72, 96, 3)) + np.array(colour) * 3 // 4
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


class _Schedule:
    """Runs the pipeline as a schedule would: the same arguments each time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.source = folder / "photos"
        values = {
            "name": "colours",
            "data": {"source": str(self.source), "test_fraction": 0.4},
            "model": {"name": "torchvision-classification", "preset": "mobilenet_v3_small"},
            "training": {"epochs": 1, "batch_size": 4, "image_size_px": 64, "device": "cpu", "loader_workers": 0},
            "export": {"formats": ["onnx"]},
            "benchmark": {"batch_sizes": [1], "threads": [1], "repeat_count": 5},
            "promotion": {"store": str(folder / "store")},
        }
        self.arguments = to_parameters(parse_run_config(values))

    @property
    def registry(self) -> Registry:
        return Registry("colours", f"sqlite:///{self.folder / 'mlflow.db'}")

    def run(self, **arguments: Any) -> tuple[set[str], dict[str, Any]]:
        """Return the stages that ran, and the verdict where there was one."""
        self.number += 1
        place = self.folder / f"run-{self.number}"
        place.mkdir()
        request = {
            "package_path": str(place / "retrain.yaml"),
            "pipeline_root": str(place / "root"),
            "arguments": {**self.arguments, **arguments},
            "runner": "subprocess",
        }
        (place / "request.json").write_text(json.dumps(request))
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            EVENTS_VARIABLE: str(place / "events.jsonl"),
            RUN_VARIABLE: f"colours-{self.number}",
        }
        command = [sys.executable, "-m", "visionyard.cli.pipeline_process", "retrain", str(place / "request.json")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=place)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        finished = [one for one in read_events(place / "events.jsonl") if one["kind"] == "stage_finished"]
        verdicts = [json.loads(path.read_text()) for path in (place / "root").rglob("judgement/verdict.json")]
        return {one["stage"] for one in finished}, verdicts[0] if verdicts else {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")  # MLflow and Alembic warn of their own dependencies
def test_a_year_of_retraining(tmp_path: Path):
    """First a champion; then nothing to do; new data brings a challenger that has to be better, and is not."""
    schedule = _Schedule(tmp_path)
    _photos(schedule.source, 0, 8)

    stages, verdict = schedule.run()
    assert stages == TRAINING_STAGES | {"find_new_data", "notify_end"}
    assert verdict["verdict"] == "promote", verdict["reasons"]
    assert verdict["reasons"][0].startswith("colours has no champion yet")
    first = schedule.registry.state().champion
    assert first is not None
    assert first.bundle_digest == verdict["challenger"]["bundle_digest"]

    stages, _ = schedule.run()
    assert stages == {"find_new_data", "notify_end"}

    _photos(schedule.source, 8, 8)
    stages, verdict = schedule.run()
    assert stages == TRAINING_STAGES | {"find_new_data", "notify_end"}
    assert list((tmp_path / "store/retrain/colours/weights").iterdir()) == [
        tmp_path / f"store/retrain/colours/weights/{first.bundle_digest}.pt"
    ]
    assert verdict["champion"] == {"model": "colours", "version": 1, "bundle_digest": first.bundle_digest}
    assert verdict["reasons"]
    if verdict["verdict"] == "reject":
        assert schedule.registry.state().champion.number == 1
    else:
        assert schedule.registry.state().champion.bundle_digest == verdict["challenger"]["bundle_digest"]

    stages, _ = schedule.run()
    assert stages == {"find_new_data", "notify_end"}
