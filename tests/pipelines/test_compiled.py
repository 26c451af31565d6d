"""Every pipeline with every profile that comes with the package: compiled, held to KFP's own specs, byte-stable."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from visionyard.cli.compile import compile_pipeline, pipeline_names
from visionyard.cluster.packages import Package, read_package
from visionyard.cluster.profiles import load_profile, profile_names
from visionyard.errors import ConfigError

# All pipelines with the default; the one with every setting with all.
PAIRS = [(name, "cpu") for name in pipeline_names()] + [
    ("train_model", profile) for profile in profile_names() if profile != "cpu"
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def _package(folder: Path, pipeline: str, profile: str) -> Package:
    path = folder / f"{pipeline}-{profile}.yaml"
    if not path.exists():
        compile_pipeline(pipeline, path, profile=profile)
    return read_package(path)


def _executors(package: Package) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


@pytest.mark.parametrize(("pipeline", "profile"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_both_documents_are_kfps(pipeline: str, profile: str, folder: Path):
    package = _package(folder, pipeline, profile)
    # Unknown fields are refused by both.
    json_format.ParseDict(package.spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(package.platform, pipeline_spec_pb2.PlatformSpec())
    for settings in _executors(package).values():
        json_format.ParseDict(settings, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


@pytest.mark.parametrize("profile", ["gpu", "gpu-spot", "aks"])
def test_only_stages_with_an_accelerator_ask_for_one_and_tolerate_its_taint(profile: str, folder: Path):
    package = _package(folder, "train_model", profile)
    containers = package.spec["deploymentSpec"]["executors"]
    asking = {name for name, one in containers.items() if "accelerator" in one["container"].get("resources", {})}
    tolerating = {name for name, one in _executors(package).items() if "tolerations" in one}
    assert asking == tolerating == {"exec-train-model", "exec-validate-model"}


def test_amounts_of_the_training_pod_can_be_changed_in_the_run_form_and_start_as_the_profile_says(folder: Path):
    package = _package(folder, "train_model", "gpu")
    defaults = {name: value["defaultValue"] for name, value in package.inputs.items() if name.startswith("resources_")}
    assert defaults == {
        "resources_cpu": "8",
        "resources_memory": "32Gi",
        "resources_accelerator_type": "nvidia.com/gpu",
        "resources_accelerator_count": "1",
    }
    resources = package.spec["deploymentSpec"]["executors"]["exec-train-model"]["container"]["resources"]
    assert "resources_memory" in resources["resourceMemoryLimit"]
    assert "resources_accelerator_count" in resources["accelerator"]["resourceCount"]


def test_the_defaults_of_the_pipeline_itself_are_those_of_the_default_profile():
    from visionyard.pipelines.train_model import train_model

    inputs = train_model.component_spec.inputs
    assert {name: inputs[name].default for name in load_profile("cpu").parameters()} == load_profile("cpu").parameters()


def test_every_setting_reaches_the_pod(tmp_path: Path):
    (tmp_path / "own.yaml").write_text(
        """
store: s3://yard/x
image_pull_secrets: [registry]
image_prefix: registry.example.org/v
defaults:
  cpu_request: 500m
  memory_request: 1Gi
  memory_limit: 4Gi
  node_selector: {pool: blue}
  tolerations: [{key: pool, value: blue, effect: NoExecute}]
  affinity: [{weight: 5, match: [{key: zone, values: [a, b]}]}, {match: [{key: disk, operator: Exists}]}]
  shm: 1Gi
  scratch: {size: 10Gi, storage_class: fast}
  secrets: [{name: keys, variables: {AWS_ACCESS_KEY_ID: id}, optional: false}]
  env: {LEVEL: debug}
  timeout_s: 60
  labels: {team: vision}
  annotations: {note: here}
  queue: line
  priority_class: high
  image_pull_policy: Always
  run_as_user: 2000
stages:
  ingest_dataset: {retries: 4}
"""
    )
    compile_pipeline("train_model", tmp_path / "p.yaml", profile=tmp_path / "own.yaml")
    package = read_package(tmp_path / "p.yaml")
    container = package.spec["deploymentSpec"]["executors"]["exec-ingest-dataset"]["container"]
    assert container["image"].startswith("registry.example.org/v/data-python:")
    assert {item["name"]: item["value"] for item in container["env"]} == {
        "LEVEL": "debug",
        "VISIONYARD_EVENTS": "s3://yard/x/events",
    }
    resources = container["resources"]
    assert (resources["resourceCpuRequest"], resources["resourceMemoryRequest"]) == ("500m", "1Gi")
    assert "resourceCpuLimit" not in resources
    task = package.spec["root"]["dag"]["tasks"]["ingest-dataset"]
    assert task["retryPolicy"]["maxRetryCount"] == 4
    pod = _executors(package)["exec-ingest-dataset"]
    assert pod["nodeSelector"] == {"labels": {"pool": "blue"}}
    assert pod["tolerations"] == [{"key": "pool", "operator": "Equal", "value": "blue", "effect": "NoExecute"}]
    assert pod["nodeAffinity"] == [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}], "weight": 5},
        {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
    ]
    assert [mount["mountPath"] for mount in pod["emptyDirMounts"]] == ["/dev/shm"]
    assert pod["genericEphemeralVolume"][0]["storageClassName"] == "fast"
    assert pod["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "id", "envVar": "AWS_ACCESS_KEY_ID"}]
    assert "optional" not in pod["secretAsEnv"][0] or not pod["secretAsEnv"][0]["optional"]
    assert int(pod["activeDeadlineSeconds"]) == 60
    assert pod["podMetadata"]["annotations"] == {"note": "here"}
    assert pod["podMetadata"]["labels"] == {
        "team": "vision",
        "kueue.x-k8s.io/queue-name": "line",
        "kueue.x-k8s.io/priority-class": "high",
    }
    assert pod["imagePullSecret"][0]["secretName"] == "registry"
    assert pod["imagePullPolicy"] == "Always"
    assert pod["securityContext"] == {"runAsUser": "2000", "runAsNonRoot": True}


def test_the_platform_may_choose_the_user(folder: Path):
    for settings in _executors(_package(folder, "train_model", "openshift")).values():
        assert settings["securityContext"] == {"runAsNonRoot": True}


def test_the_same_bytes_whatever_was_compiled_before(folder: Path, tmp_path: Path):
    _package(folder, "train_model", "gpu")
    compile_pipeline("train_model", tmp_path / "other.yaml", profile="cpu")
    compile_pipeline("train_model", tmp_path / "again.yaml", profile="gpu")
    assert (tmp_path / "again.yaml").read_bytes() == (folder / "train_model-gpu.yaml").read_bytes()


def test_a_profile_that_speaks_of_no_stage_is_refused(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("stages: {trian_model: {cpu_limit: 2}}")
    with pytest.raises(ConfigError, match=r"stages\.trian_model: no such stage"):
        compile_pipeline("train_model", tmp_path / "p.yaml", profile=tmp_path / "own.yaml")
    assert not (tmp_path / "p.yaml").exists()
