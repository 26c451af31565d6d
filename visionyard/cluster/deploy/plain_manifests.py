"""The objects of the target kubernetes: Deployment, Service, HorizontalPodAutoscaler."""

import json
from typing import Any

from visionyard import __version__
from visionyard.cluster.deploy.kserve_manifests import labels_of, resources_of
from visionyard.cluster.deploy.kube import Manifest
from visionyard.cluster.deploy.record import DIGEST_LABEL, HISTORY, Served, history_text
from visionyard.config import DeploymentConfig

OPTIONS: dict[str, type] = {
    "node_selector": dict,
    "tolerations": list,
    "environment": dict,
    "annotations": dict,
    "gpu_resource": str,
    "image_pull_policy": str,
}
DEFAULT_IMAGE = f"visionyard/serve-python:{__version__}"
# Whether an autoscaler was made: who never makes one needs no right to remove one.
AUTOSCALED = "visionyard.dev/autoscaled"
_MODELS_VARIABLE = "VISIONYARD_SERVE_MODELS"
# A pod's own time to finish requests (server.grace_s, 30 s) and the five seconds before, with some to spare.
_GRACE_S = 45


def manifests(
    config: DeploymentConfig, options: dict[str, Any], served: Served, history: list[Served], *, namespace: str
) -> list[Manifest]:
    """Return Deployment, Service and, where the number of pods may change, HorizontalPodAutoscaler.

    Args:
        config: Its `name` is that of all.
        options: The target's own, checked.
        served: The bundle.
        history: What is served after this, newest first.
        namespace: Where.
    """
    metadata = {"name": config.name, "namespace": namespace, "labels": labels_of(config.name, "serving")}
    is_fixed = config.min_replicas == config.max_replicas
    annotations = {HISTORY: history_text(history), **({} if is_fixed else {AUTOSCALED: "true"})}
    deployment: Manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata, "annotations": annotations},
        "spec": {
            "selector": {"matchLabels": selector_of(config.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": _template(config, options, served),
            # Left out where an autoscaler decides: applying it again would undo that.
            **({"replicas": config.min_replicas} if is_fixed else {}),
        },
    }
    ports = [
        {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
        {"name": "grpc", "port": 8081, "targetPort": "grpc", "protocol": "TCP"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": selector_of(config.name), "ports": ports},
    }
    return [deployment, service] if is_fixed else [deployment, service, _autoscaler(config, metadata)]


def selector_of(name: str) -> dict[str, str]:
    """Return the labels by which the pods of a service are found."""
    return {"app.kubernetes.io/name": "visionyard-serve", "app.kubernetes.io/instance": name}


def models_variable(name: str, served: Served) -> dict[str, str]:
    """Return the variable that tells the server what to serve: one model, always under the service's name."""
    return {
        "name": _MODELS_VARIABLE,
        "value": json.dumps([{"name": name, "path": served.uri, "format": served.format}]),
    }


def _template(config: DeploymentConfig, options: dict[str, Any], served: Served) -> Manifest:
    live = {"path": "/v2/health/live", "port": "http"}
    environment = [{"name": key, "value": str(value)} for key, value in sorted(options.get("environment", {}).items())]
    container = {
        "name": "server",
        "image": config.image or DEFAULT_IMAGE,
        "imagePullPolicy": options.get("image_pull_policy", "IfNotPresent"),
        "args": ["--host", "0.0.0.0", "--http-port", "8080", "--grpc-port", "8081"],  # noqa: S104 (in its own pod)
        "env": [models_variable(config.name, served), {"name": "HOME", "value": "/tmp"}, *environment],  # noqa: S108 (a volume)
        "envFrom": [{"secretRef": {"name": config.credentials, "optional": True}}],
        "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "grpc", "containerPort": 8081, "protocol": "TCP"},
        ],
        "resources": resources_of(config, options),
        "startupProbe": {"httpGet": live, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 150},
        "livenessProbe": {"httpGet": live, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": "http"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        },
        # The server's last words then stand in the pod's status, where whoever deploys may read them without its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # Until every node has forgotten the pod, requests still come.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108 (a volume)
    }
    return {
        "metadata": {
            "labels": {**labels_of(config.name, "serving"), DIGEST_LABEL: served.label},
            "annotations": options.get("annotations", {}),
        },
        "spec": {
            "serviceAccountName": config.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # a Service's variables would be read as settings of the server
            "terminationGracePeriodSeconds": _GRACE_S,
            "nodeSelector": options.get("node_selector", {}),
            "tolerations": options.get("tolerations", []),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    }


def _autoscaler(config: DeploymentConfig, metadata: Manifest) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": config.scale_target}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": config.name},
            "minReplicas": config.min_replicas,
            "maxReplicas": config.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": config.scale_metric, "target": target}}],
        },
    }
