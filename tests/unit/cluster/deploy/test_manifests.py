"""What is sent to a cluster: held to the schemas of Kubernetes and of KServe, closed against unknown fields."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from visionyard.cluster.deploy.kserve_manifests import canary_arm, inference_service, rolled_back, split_service
from visionyard.cluster.deploy.plain_manifests import manifests
from visionyard.cluster.deploy.record import Served
from visionyard.config import DeploymentConfig, load_serving_config

CRDS = Path(os.environ.get("VISIONYARD_SHARED_CRDS", Path(__file__).parents[5] / "shared" / "crds"))
NEW, OLD = Served("b" * 64, "s3://yard/bundles/new", "onnx"), Served("a" * 64, "s3://yard/bundles/old", "torchscript")
EVERY_OPTION: dict[str, Any] = {
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "environment": {"AWS_ENDPOINT_URL": "http://minio:9000"},
    "annotations": {"team": "vision"},
    "gpu_resource": "amd.com/gpu",
    "image_pull_policy": "Never",
}


def settings(**values: Any) -> DeploymentConfig:
    return DeploymentConfig(**{"target": "kserve", "name": "digits", "store_uri": "s3://yard/bundles", **values})


def _closed(schema: Any) -> Any:
    """Return a schema in which an unknown field is a mistake, as the API server's strict validation has it."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    is_open = "additionalProperties" in made or made.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(made.get("properties"), dict) and not is_open:
        made["additionalProperties"] = False
    return made


@pytest.fixture(scope="module")
def check() -> Any:
    path = CRDS / "serving.kserve.io_inferenceservices.yaml"
    if not path.exists():
        pytest.skip(f"needs KServe's CRDs in {CRDS} (set VISIONYARD_SHARED_CRDS)")
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    schema = _closed(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
    validator = jsonschema.Draft7Validator(schema)

    def check_spec(spec: dict[str, Any]) -> list[str]:
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(spec)]

    return check_spec


@pytest.mark.parametrize(
    ("values", "options"),
    [
        pytest.param({}, {}, id="defaults"),
        pytest.param({"min_replicas": 2, "max_replicas": 9, "scale_metric": "memory"}, {}, id="autoscaled"),
        pytest.param(
            {"mode": "Knative", "min_replicas": 0, "scale_metric": "concurrency", "scale_target": 4}, {}, id="to zero"
        ),
        pytest.param(
            {"gpu_count": 2, "image": "yard/serve:1"},
            {**EVERY_OPTION, "runtime": "own", "labels": {"a": "b"}},
            id="every option",
        ),
        pytest.param({"format": "torchscript"}, {}, id="torchscript"),
    ],
)
def test_an_inference_service_fits_kserves_schema(check: Any, values: dict[str, Any], options: dict[str, Any]) -> None:
    served = Served("b" * 64, "s3://yard/x", values.get("format", "onnx"))
    made = inference_service(settings(**values), options, served, [served, OLD], namespace="vision")
    assert check(made["spec"]) == []
    # No schema says so: KServe's webhook denies it, "the 'name' field is not allowed in standard predictor".
    assert "name" not in made["spec"]["predictor"]["model"]


def test_a_canary_fits_kserves_schema(check: Any) -> None:
    predictor = {"minReplicas": 1, **canary_arm(settings(), EVERY_OPTION, NEW)}
    spec = inference_service(settings(), {}, OLD, [OLD], namespace="vision")["spec"]
    assert check({**spec, "canary": [{"trafficPercent": 25, "predictor": predictor}]}) == []
    del predictor["model"]["name"]
    assert check({**spec, "canary": [{"trafficPercent": 25, "predictor": predictor}]}), "the schema asks for a name"


def test_the_closed_schema_sees_a_misspelt_field(check: Any) -> None:
    made = inference_service(settings(), {}, NEW, [NEW], namespace="vision")
    made["spec"]["predictor"]["minReplcas"] = 1
    assert any("minReplcas" in problem for problem in check(made["spec"]))


@pytest.mark.parametrize(
    ("values", "annotation", "value"),
    [
        pytest.param({}, "serving.kserve.io/autoscalerClass", "none", id="fixed number: no HPA"),
        pytest.param({"max_replicas": 3}, "serving.kserve.io/autoscalerClass", "hpa", id="HPA"),
        pytest.param({"mode": "Knative", "scale_metric": "rps"}, "serving.kserve.io/autoscalerClass", None, id="KPA"),
        pytest.param(
            {"mode": "Knative"}, "autoscaling.knative.dev/class", "hpa.autoscaling.knative.dev", id="Knative by cpu"
        ),
    ],
)
def test_who_scales(values: dict[str, Any], annotation: str, value: str | None) -> None:
    made = inference_service(settings(**values), {}, NEW, [NEW], namespace="vision")
    assert made["metadata"]["annotations"].get(annotation) == value


def test_going_back_changes_the_bundle_and_nothing_else() -> None:
    live = inference_service(settings(), {}, NEW, [NEW, OLD], namespace="vision")
    change = rolled_back(OLD, [OLD], live)
    assert change["spec"]["predictor"]["model"] == {
        "modelFormat": {"name": "torchscript"},
        "runtime": "visionyard-torchscript",
        "storageUri": OLD.uri,
    }
    live["spec"]["predictor"]["model"]["runtime"] = "own"
    assert rolled_back(OLD, [OLD], live)["spec"]["predictor"]["model"]["runtime"] == "own"


@pytest.mark.parametrize(
    ("values", "options", "kinds"),
    [
        pytest.param({}, {}, ["Deployment", "Service"], id="fixed"),
        pytest.param(
            {"max_replicas": 5, "gpu_count": 1},
            EVERY_OPTION,
            ["Deployment", "Service", "HorizontalPodAutoscaler"],
            id="autoscaled, every option",
        ),
    ],
)
def test_plain_objects_fit_kubernetes_schemas(
    values: dict[str, Any], options: dict[str, Any], kinds: list[str]
) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    made = manifests(settings(target="kubernetes", **values), options, NEW, [NEW], namespace="vision")
    assert [each["kind"] for each in made] == kinds
    for each in [*made, split_service("digits", namespace="vision")]:
        validate.validate(each, "1.35", strict=True)


def test_the_server_reads_what_the_pod_is_told() -> None:
    made = manifests(settings(target="kubernetes"), {}, NEW, [NEW], namespace="vision")[0]
    container = made["spec"]["template"]["spec"]["containers"][0]
    told = {each["name"]: each["value"] for each in container["env"]}
    (model,) = load_serving_config(environment=told).models
    assert (model.name, model.path, model.format) == ("digits", NEW.uri, "onnx")


def test_a_pod_is_restricted() -> None:
    spec = manifests(settings(target="kubernetes"), {}, NEW, [NEW], namespace="vision")[0]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert not spec["automountServiceAccountToken"] and not spec["enableServiceLinks"]


def test_no_secret_is_in_what_is_sent() -> None:
    made = manifests(settings(target="kubernetes"), {}, NEW, [NEW], namespace="vision")
    assert "SECRET_ACCESS_KEY" not in json.dumps(made)
    assert made[0]["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] == "visionyard-s3"
