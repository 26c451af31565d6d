"""A compiled pipeline's tasks as Jobs, where there is no KFP backend.

All it knows is the compiled file, both of its documents: the executors' commands, images and resources, and the
platform's settings. It does what KFP's driver and launcher do around a task: resolves its inputs, mounts the folders
of artifacts and hands these to and from the store (`launch.py`).
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kube import CONTAINER_SECURITY, POD_SECURITY, Namespace
from visionyard.storage import exists, read_bytes

SERVICE_ACCOUNT = "visionyard-pipeline"
_LAUNCHER = Path(__file__).with_name("launch.py")
_PLACEHOLDER = re.compile(r"^\{\{\$\.inputs\.parameters\['(?P<name>.+)'\]\}\}$")
_CHANNEL = "pipelinechannel--"


class PodDriver:
    """One run of a compiled pipeline in a namespace."""

    def __init__(
        self,
        namespace: Namespace,
        compiled: Path,
        *,
        root: str,
        arguments: dict[str, Any],
        is_placed_only: bool = False,
    ) -> None:
        """Read a compiled pipeline and give the namespace what its pods need.

        Args:
            namespace: Where the pods run.
            compiled: The file that `visionyard compile` wrote.
            root: The s3:// prefix of this run's artifacts.
            arguments: Pipeline parameters; the file's defaults where one is missing.
            is_placed_only: Whether pods only have to be placed: what earlier tasks put out is not looked for.
        """
        self._pipeline, self._platform = yaml.safe_load_all(compiled.read_text())
        self._namespace, self._root, self._is_placed_only = namespace, root, is_placed_only
        defined = self._pipeline["root"]["inputDefinitions"]["parameters"]
        defaults = {name: each["defaultValue"] for name, each in defined.items() if "defaultValue" in each}
        self._arguments = {**defaults, **arguments}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE_ACCOUNT}}
        launcher = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "launcher"}}
        namespace.apply(account, {**launcher, "data": {"launch.py": _LAUNCHER.read_text()}})

    def task_names(self) -> list[str]:
        """Return the names of the pipeline's tasks."""
        return list(self._pipeline["root"]["dag"]["tasks"])

    def record_uri(self, task: str) -> str:
        """Return where a task's outputs are recorded once all of them are in the store."""
        return f"{self._root}/{task}/executor_output.json"

    def is_recorded(self, task: str) -> bool:
        """Return whether a task has put out its results."""
        return exists(self.record_uri(task))

    def artifact_uri(self, task: str, output: str) -> str:
        """Return the address of an artifact."""
        return f"{self._root}/{task}/{output}"

    def start(self, task: str, *, artifacts_size: str = "") -> str:
        """Start a task's Job and return its name.

        Args:
            task: The task.
            artifacts_size: Size of the volume that artifacts pass through, in memory then; empty: the node's disk.
        """
        name = f"{task}-{len(self._namespace.list('jobs'))}"
        artifacts = {"medium": "Memory", "sizeLimit": artifacts_size} if artifacts_size else {}
        self._namespace.apply(self._job(name, task, artifacts))
        return name

    def _job(self, name: str, task: str, artifacts: dict[str, str]) -> dict[str, Any]:
        spec = self._pipeline["root"]["dag"]["tasks"][task]
        component = self._pipeline["components"][spec["componentRef"]["name"]]
        label = component["executorLabel"]
        container = self._pipeline["deploymentSpec"]["executors"][label]["container"]
        platform = self._platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].get(label, {})
        inputs = self._inputs(spec)
        given = json.dumps(self._executor_input(task, spec, component, inputs))
        command = [*container["command"], *container["args"]]
        main = {
            "name": "main",
            "image": container["image"],
            "imagePullPolicy": platform.get("imagePullPolicy", "IfNotPresent"),
            "command": ["python3", "/launcher/launch.py", given, self.record_uri(task)],
            "args": [part.replace("{{$}}", given) for part in command],
            "env": _environment(container, platform),
            "resources": _resources(container.get("resources", {}), inputs),
            "securityContext": CONTAINER_SECURITY,
            **_mounts(platform),
        }
        pod = {
            "restartPolicy": "Never",
            "serviceAccountName": SERVICE_ACCOUNT,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {**POD_SECURITY, **_user(platform)},
            "containers": [main],
            "volumes": _volumes(platform, artifacts),
            **_placement(platform),
        }
        metadata = platform.get("podMetadata", {})
        labels = {**metadata.get("labels", {}), "pipeline/runid": self._root.rpartition("/")[2]}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {
                "backoffLimit": int(spec.get("retryPolicy", {}).get("maxRetryCount", 0)),
                # What the stage itself has judged is not tried again; a pod that was lost is.
                "podFailurePolicy": {
                    "rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]
                },
                "template": {
                    "metadata": {"labels": labels, "annotations": metadata.get("annotations", {})},
                    "spec": pod,
                },
            },
        }

    def _inputs(self, spec: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, given in spec.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in given:
                found[name] = self._arguments[given["componentInputParameter"]]
            elif "taskOutputParameter" in given:
                producer = given["taskOutputParameter"]
                values = self._record(producer["producerTask"]).get("parameterValues", {})
                found[name] = "" if self._is_placed_only else values[producer["outputParameterKey"]]
            else:
                found[name] = self._resolved(given["runtimeValue"]["constant"], {})
        return found

    def _resolved(self, value: Any, inputs: dict[str, Any]) -> Any:
        match = _PLACEHOLDER.match(value) if isinstance(value, str) else None
        if match is None:
            return value
        name = match["name"]
        return inputs[name] if name in inputs else self._arguments[name.removeprefix(_CHANNEL)]

    def _record(self, task: str) -> dict[str, Any]:
        return {} if self._is_placed_only else dict(json.loads(read_bytes(self.record_uri(task))))

    def _executor_input(
        self, task: str, spec: dict[str, Any], component: dict[str, Any], inputs: dict[str, Any]
    ) -> dict[str, Any]:
        wanted = component.get("inputDefinitions", {})
        put_out = component.get("outputDefinitions", {})
        taken = {}
        for name, given in spec.get("inputs", {}).get("artifacts", {}).items():
            source = given["taskOutputArtifact"]
            recorded = self._record(source["producerTask"]).get("artifacts", {}).get(source["outputArtifactKey"])
            metadata = recorded["artifacts"][0].get("metadata", {}) if recorded else {}
            uri = self.artifact_uri(source["producerTask"], source["outputArtifactKey"])
            taken[name] = _artifact(name, wanted["artifacts"][name], uri, metadata)
        made = {
            name: _artifact(name, one, self.artifact_uri(task, name), {})
            for name, one in put_out.get("artifacts", {}).items()
        }
        types = {name: one["parameterType"] for name, one in wanted.get("parameters", {}).items()}
        parameters = {
            # The compiled file writes 95 as 95.0.
            name: int(inputs[name]) if kind == "NUMBER_INTEGER" else inputs[name]
            for name, kind in types.items()
            if name in inputs
        }
        return {
            "inputs": {"parameterValues": parameters, "artifacts": taken},
            "outputs": {
                "parameters": {
                    name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in put_out.get("parameters", {})
                },
                "artifacts": made,
                "outputFile": "/tmp/kfp_outputs/output_metadata.json",
            },
        }


def _artifact(name: str, defined: dict[str, Any], uri: str, metadata: dict[str, Any]) -> dict[str, Any]:
    one = {"name": name, "type": defined["artifactType"], "uri": uri, "metadata": metadata}
    return {"artifacts": [one]}


def _resources(given: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    def value(text: str) -> str:
        match = _PLACEHOLDER.match(text)
        return str(inputs[match["name"]]) if match else text

    limits, requests = {}, {}
    for kind, values in (("Limit", limits), ("Request", requests)):
        for resource in ("Cpu", "Memory"):
            if text := given.get(f"resource{resource}{kind}", ""):
                values[resource.lower()] = value(text)
    if accelerator := given.get("accelerator"):
        count = value(accelerator.get("resourceCount", accelerator.get("count", "0")))
        if count not in {"", "0"}:
            limits[value(accelerator.get("resourceType", accelerator.get("type", "")))] = count
    return {"limits": limits, "requests": requests}


def _environment(container: dict[str, Any], platform: dict[str, Any]) -> list[dict[str, Any]]:
    found = [{"name": each["name"], "value": each["value"]} for each in container.get("env", [])]
    found += [
        {"name": each["name"], "valueFrom": {"fieldRef": {"fieldPath": each["fieldPath"]}}}
        for each in platform.get("fieldPathAsEnv", [])
    ]
    for secret in platform.get("secretAsEnv", []):
        for pair in secret["keyToEnv"]:
            key = {"name": secret["secretName"], "key": pair["secretKey"], "optional": secret.get("optional", False)}
            found.append({"name": pair["envVar"], "valueFrom": {"secretKeyRef": key}})
    return found


def _mounts(platform: dict[str, Any]) -> dict[str, Any]:
    mounts = [{"name": "artifacts", "mountPath": "/s3"}, {"name": "launcher", "mountPath": "/launcher"}]
    mounts += [
        {"name": each["volumeName"], "mountPath": each["mountPath"]} for each in platform.get("emptyDirMounts", [])
    ]
    return {"volumeMounts": mounts}


def _volumes(platform: dict[str, Any], artifacts: dict[str, str]) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "artifacts", "emptyDir": artifacts},
        {"name": "launcher", "configMap": {"name": "launcher"}},
    ]
    for each in platform.get("emptyDirMounts", []):
        settings = {key: each[key] for key in ("medium", "sizeLimit") if key in each}
        volumes.append({"name": each["volumeName"], "emptyDir": settings})
    return volumes


def _user(platform: dict[str, Any]) -> dict[str, Any]:
    given = platform.get("securityContext", {})
    return {"runAsUser": int(given["runAsUser"])} if "runAsUser" in given else {}


def _placement(platform: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"nodeSelector": platform.get("nodeSelector", {}).get("labels", {})}
    fields = ("key", "operator", "value", "effect")
    found["tolerations"] = [
        {key: each[key] for key in fields if each.get(key)} for each in platform.get("tolerations", [])
    ]
    required = [
        {"matchExpressions": each["matchExpressions"]}
        for each in platform.get("nodeAffinity", [])
        if not each.get("weight")
    ]
    if required:
        terms = {"nodeSelectorTerms": required}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    if "activeDeadlineSeconds" in platform:
        found["activeDeadlineSeconds"] = int(platform["activeDeadlineSeconds"])
    return found
