"""A cluster as its tests see it: kubectl with a time limit, namespaces, pods as Pod Security wants them."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_Value = TypeVar("_Value")


class KubectlError(AssertionError):
    """kubectl ended badly; the message is what it said."""


def kubectl(*arguments: str, stdin: str = "", timeout_s: float = 60) -> str:
    """Run kubectl on the cluster that KUBECONFIG names and return what it wrote.

    Raises:
        KubectlError: It ended with another status than 0.
    """
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_for(look: Callable[[], _Value], *, what: str, patience_s: float = 60) -> _Value:
    """Return the first true value that `look` gives; asked four times a second."""
    end = time.monotonic() + patience_s
    while True:
        if value := look():
            return value
        assert time.monotonic() < end, f"{what}: not within {patience_s:g} s"
        time.sleep(0.25)


class Namespace:
    """One namespace: what is applied to it and what is read from it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *arguments: str, stdin: str = "", timeout_s: float = 60) -> str:
        """Run kubectl in this namespace."""
        return kubectl("--namespace", self.name, *arguments, stdin=stdin, timeout_s=timeout_s)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object, {} when it is not there."""
        found = self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        return dict(json.loads(found)) if found else {}

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return list(json.loads(self.kubectl("get", kind, "--selector", selector, "-o", "json"))["items"])

    def pod_of(self, job: str) -> str:
        """Wait for a Job's first pod and return its name."""
        found = wait_for(lambda: self.list("pods", f"job-name={job}"), what=f"a pod of {job}")
        return str(found[0]["metadata"]["name"])

    def logs(self, pod: str, *arguments: str) -> str:
        """Return what a pod wrote."""
        return self.kubectl("logs", pod, *arguments)

    def kill(self, pod: str) -> None:
        """Delete a pod at once, as the loss of its node would."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def wait_for(
        self, kind: str, name: str, look: Callable[[dict[str, Any]], _Value], *, what: str, patience_s: float = 60
    ) -> _Value:
        """Return the first true value that `look` finds in an object."""
        try:
            return wait_for(lambda: look(self.get(kind, name)), what=f"{kind} {name}: {what}", patience_s=patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._state(kind, name)}") from None

    def _state(self, kind: str, name: str) -> str:
        status = self.get(kind, name).get("status")
        return f"status: {json.dumps(status)}\nevents: {self.events()}"

    def events(self) -> str:
        """Return what the cluster says has happened here."""
        return self.kubectl("get", "events", "-o", "custom-columns=:.involvedObject.name,:.reason,:.message")

    def end_of(self, pod: str, *, patience_s: float = 120) -> dict[str, Any]:
        """Wait until a pod has ended and return its container's last state (`exitCode`, `reason`)."""
        ended = self.wait_for("pod", pod, _ended, what="has not ended", patience_s=patience_s)
        statuses = ended["status"].get("containerStatuses") or [{}]
        state = statuses[0].get("state", {}).get("terminated", {})
        return {"phase": ended["status"]["phase"], "reason": ended["status"].get("reason", ""), **state}


def _ended(pod: dict[str, Any]) -> dict[str, Any] | None:
    return pod if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"} else None


def waiting_reason(pod: dict[str, Any]) -> str:
    """Return why a pod's first container does not start, as the kubelet says it; empty when it does not wait."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))


def unschedulable_message(pod: dict[str, Any]) -> str:
    """Return why the scheduler finds no node for a pod; empty when it has found one or has not looked yet."""
    conditions = pod.get("status", {}).get("conditions", [])
    told = [one["message"] for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"]
    return str(told[0]) if told else ""


def pod_spec(image: str, *, container: dict[str, Any], scratch: str = "64Mi", **rest: Any) -> dict[str, Any]:
    """Return the specification of a pod with one container that Pod Security `restricted` admits.

    Args:
        image: Its image, never pulled when the node has it.
        container: More of the container: command, args, env, resources, probes.
        scratch: Size of /tmp, the one place it can write to.
        rest: More of the pod: volumes, tolerations, nodeSelector.
    """
    mounts = [{"name": "scratch", "mountPath": "/tmp"}, *container.pop("volumeMounts", [])]
    volumes = [{"name": "scratch", "emptyDir": {"sizeLimit": scratch}}, *rest.pop("volumes", [])]
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
        **container,
    }
    return {
        "securityContext": POD_SECURITY,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "volumes": volumes,
        "containers": [main],
        **rest,
    }


def pod(name: str, image: str, **settings: Any) -> dict[str, Any]:
    """Return a pod that runs once; `settings` as in `pod_spec`."""
    # As process 1 most programs do not hear SIGTERM.
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **pod_spec(image, **settings)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
