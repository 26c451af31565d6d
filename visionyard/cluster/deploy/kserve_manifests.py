"""The InferenceService of a bundle, and the Service that splits traffic where nothing else does.

Facts behind it, each seen with KServe's controller of August 2026:

- In Standard mode a field `canaryTrafficPercent` is accepted and ignored; `spec.canary` is what makes a second arm.
- An HPA is made even for a fixed number of pods, unless the annotation `autoscalerClass` is `none`.
- Kubernetes gives a pod a variable for each Service, and those of a Service named `visionyard-serve-...` would be read
  as settings of the server; hence `enableServiceLinks: false`.
"""

from typing import Any

from visionyard import __version__
from visionyard.cluster.deploy.kube import Manifest
from visionyard.cluster.deploy.record import CANARY_ARM, DIGEST_LABEL, HISTORY, Served, history_text
from visionyard.config import DeploymentConfig

OPTIONS: dict[str, type] = {
    "node_selector": dict,
    "tolerations": list,
    "environment": dict,
    "annotations": dict,
    "labels": dict,
    "gpu_resource": str,
    "runtime": str,
    "image_pull_policy": str,
}
AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
MODE = "serving.kserve.io/deploymentMode"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
_KNATIVE_CLASS = "autoscaling.knative.dev/class"
# What KServe makes of a name; all of them must be names too.
NAME_PARTS = ("-predictor-{namespace}", f"-{CANARY_ARM}-predictor")


def labels_of(name: str, component: str) -> dict[str, str]:
    """Return the labels that everything of a service carries."""
    return {
        "app.kubernetes.io/name": "visionyard-serve",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "visionyard",
        "app.kubernetes.io/managed-by": "visionyard",
        "app.kubernetes.io/version": __version__,
    }


def resources_of(config: DeploymentConfig, options: dict[str, Any]) -> Manifest:
    """Return requests and limits of a serving container; they are the same, so that no neighbour takes them away."""
    held = {"cpu": config.cpu, "memory": config.memory}
    if config.gpu_count:
        held[options.get("gpu_resource", "nvidia.com/gpu")] = str(config.gpu_count)
    return {"requests": dict(held), "limits": held}


def inference_service(
    config: DeploymentConfig, options: dict[str, Any], served: Served, history: list[Served], *, namespace: str
) -> Manifest:
    """Return the InferenceService that serves a bundle.

    Args:
        config: Its `name` is the service's.
        options: The target's own, checked.
        served: The bundle.
        history: What it serves after this, newest first.
        namespace: Where.
    """
    is_knative = config.mode == "Knative"
    annotations = {**options.get("annotations", {}), MODE: config.mode, HISTORY: history_text(history)}
    if not is_knative:
        is_fixed = config.min_replicas == config.max_replicas
        annotations[AUTOSCALER_CLASS] = "none" if is_fixed else "hpa"
    elif config.scale_metric in ("cpu", "memory"):
        annotations[_KNATIVE_CLASS] = "hpa.autoscaling.knative.dev"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": config.name,
            "namespace": namespace,
            "labels": {**options.get("labels", {}), **labels_of(config.name, "serving")},
            "annotations": annotations,
        },
        "spec": {
            "predictor": {
                "minReplicas": config.min_replicas,
                "maxReplicas": config.max_replicas,
                "scaleMetric": config.scale_metric,
                "scaleTarget": config.scale_target,
                "serviceAccountName": config.service_account,
                "enableServiceLinks": False,
                "nodeSelector": options.get("node_selector", {}),
                "tolerations": options.get("tolerations", []),
                **arm(config, options, served),
            }
        },
    }


def arm(config: DeploymentConfig, options: dict[str, Any], served: Served) -> Manifest:
    """Return what differs between the arms of a service: the bundle, and the pods' label that tells them apart."""
    model: Manifest = {
        "modelFormat": {"name": served.format},
        "runtime": options.get("runtime") or f"visionyard-{served.format}",
        "protocolVersion": "v2",
        "storageUri": served.uri,
        "resources": resources_of(config, options),
        "env": [{"name": name, "value": str(value)} for name, value in sorted(options.get("environment", {}).items())],
    }
    if config.image:
        model["image"] = config.image
    if options.get("image_pull_policy"):
        model["imagePullPolicy"] = options["image_pull_policy"]
    return {"labels": {DIGEST_LABEL: served.label}, "model": model}


def canary_arm(config: DeploymentConfig, options: dict[str, Any], served: Served) -> Manifest:
    """Return the second arm of a service, as `spec.canary` takes it."""
    predictor = {"name": CANARY_ARM, **arm(config, options, served)}
    # KServe's schema requires the container's name here; in the first arm its webhook refuses any.
    predictor["model"]["name"] = "kserve-container"
    return predictor


def rolled_back(served: Served, history: list[Served], live: Manifest) -> Manifest:
    """Return the change that brings a bundle back to an InferenceService and ends its canary; all else stays.

    Args:
        served: The bundle.
        history: What it serves after this, newest first.
        live: The service as it is.
    """
    runtime = live["spec"]["predictor"]["model"].get("runtime", "")
    # A runtime of ours is named after the format; another one was chosen by an option and stays.
    own = f"visionyard-{served.format}" if runtime.startswith("visionyard-") else runtime
    return {
        "metadata": {"annotations": {HISTORY: history_text(history)}},
        "spec": {
            "predictor": {
                "labels": {DIGEST_LABEL: served.label},
                "canaryTrafficPercent": None,
                "model": {"modelFormat": {"name": served.format}, "runtime": own, "storageUri": served.uri},
            }
        },
    }


def split_service(name: str, *, namespace: str) -> Manifest:
    """Return the Service that takes in the pods of both arms, so that traffic goes by their numbers."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-split", "namespace": namespace, "labels": labels_of(name, "split")},
        "spec": {
            "selector": {SERVICE_LABEL: name, "component": "predictor"},
            "ports": [
                {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                {"name": "grpc", "port": 8081, "targetPort": 8081, "protocol": "TCP"},
            ],
        },
    }
