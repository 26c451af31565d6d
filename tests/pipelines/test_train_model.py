"""The pipeline train_model: what it compiles to."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from visionyard.cli.compile import compile_pipeline, pipeline_names
from visionyard.cli.stages import TRAIN_MODEL_STAGES
from visionyard.config import parse_run_config, to_parameters
from visionyard.errors import ConfigError
from visionyard.pipelines.train_model import train_model

# What a run knows beyond its config.
RUN_PARAMETERS = {
    "data_digest",
    "data_split_file_digest",
    "frames_anonymize_digest",
    "software_digest",
    "training_checkpoints_uri",
    "resources_cpu",
    "resources_memory",
    "resources_accelerator_type",
    "resources_accelerator_count",
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("compiled") / "train_model.yaml"
    compile_pipeline("train_model", path)
    return next(yaml.safe_load_all(path.read_text()))


def test_it_is_listed():
    assert "train_model" in pipeline_names()


def test_its_parameters_are_the_run_configs(compiled: dict[str, Any]):
    expected = to_parameters(parse_run_config({"data": {"source": "x"}}))
    found = compiled["root"]["inputDefinitions"]["parameters"]
    assert set(found) == set(expected) | RUN_PARAMETERS
    defaults = {name: value.get("defaultValue") for name, value in found.items() if name not in RUN_PARAMETERS}
    expected["data_source"] = None
    assert defaults == expected


def test_every_input_and_output_has_a_description(compiled: dict[str, Any]):
    missing = []
    for name, component in {**compiled["components"], "root": compiled["root"]}.items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for kind in ("parameters", "artifacts"):
                items = component.get(side, {}).get(kind, {})
                missing += [f"{name}.{key}" for key, item in items.items() if not item.get("description")]
    assert not missing


def test_resource_parameters_are_texts(compiled: dict[str, Any]):
    # The backend reads them as texts: an int is dropped without a word, and the GPU with it.
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    kinds = {name: value["parameterType"] for name, value in parameters.items() if name.startswith("resources_")}
    assert set(kinds.values()) == {"STRING"}


def test_its_tasks_are_few_and_known_to_the_live_view(compiled: dict[str, Any]):
    tasks = compiled["root"]["dag"]["tasks"]
    assert set(tasks) == {stage.task_name for stage in TRAIN_MODEL_STAGES}
    assert len(tasks) < 12


def test_every_place_of_a_run_folder_is_an_output(compiled: dict[str, Any]):
    for stage in TRAIN_MODEL_STAGES:
        outputs = compiled["components"][f"comp-{stage.task_name}"]["outputDefinitions"].get("artifacts", {})
        assert set(stage.places) <= set(outputs)


def test_every_task_has_the_software_digest_among_its_inputs(compiled: dict[str, Any]):
    # KFP's cache key holds a component's source, not the library it calls.
    for task in compiled["root"]["dag"]["tasks"].values():
        assert "software_digest" in task["inputs"]["parameters"]


def test_no_condition_compares_and_nothing_is_optional(compiled: dict[str, Any]):
    for task in compiled["root"]["dag"]["tasks"].values():
        assert "triggerPolicy" not in task
    for value in compiled["root"]["inputDefinitions"]["parameters"].values():
        assert not value.get("isOptional") or "defaultValue" in value


def test_training_gets_the_shared_memory_its_loaders_need(tmp_path: Path):
    # 4 processes x 2 batches x 16 images x 640 px x 640 px x 3 channels x 4 bytes, and a quarter: 750 MiB.
    parameters = to_parameters(parse_run_config({"data": {"source": "x"}, "training": {"loader_workers": 4}}))
    compile_pipeline("train_model", tmp_path / "p.yaml", parameters=parameters)
    _, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounts = {mount["mountPath"]: mount for mount in executors["exec-train-model"]["emptyDirMounts"]}
    assert mounts["/dev/shm"] == {
        "medium": "Memory",
        "mountPath": "/dev/shm",
        "sizeLimit": "768Mi",
        "volumeName": "shared-memory",
    }


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path):
    for name in ("a.yaml", "b.yaml"):
        compile_pipeline("train_model", tmp_path / name)
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


def test_a_configs_values_become_the_run_forms_defaults(tmp_path: Path):
    config = parse_run_config({"data": {"source": "s3://clips/today"}, "training": {"epochs": 7}})
    compile_pipeline("train_model", tmp_path / "p.yaml", parameters=to_parameters(config))
    compiled = next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert parameters["data_source"]["defaultValue"] == "s3://clips/today"
    assert parameters["training_epochs"]["defaultValue"] == 7


@pytest.mark.parametrize(
    ("name", "file", "match"),
    [("train", "p.yaml", r"train: no such pipeline; known: .*, train_"), ("train_model", "p.txt", r"p\.txt.*\.yaml")],
    ids=["unknown pipeline", "not a yaml"],
)
def test_wrong_use_is_refused(name: str, file: str, match: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=match):
        compile_pipeline(name, tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_the_pipeline_says_what_it_does():
    assert "certified" in train_model.component_spec.description
