"""The target kubernetes: a Deployment, a Service and, where the number of pods may change, an autoscaler.

The pods fetch the bundle from the object store themselves. A new bundle is a rolling update in which no pod goes before
the next one is ready; one that does not come up leaves the old pods where they are.
"""

import re
from pathlib import Path

from visionyard.cluster.deploy.bundles import put_bundle
from visionyard.cluster.deploy.kube import AUTOSCALER, DEPLOYMENT, POD, SERVICE, Cluster, Manifest
from visionyard.cluster.deploy.plain_manifests import AUTOSCALED, OPTIONS, manifests, models_variable, selector_of
from visionyard.cluster.deploy.reasons import (
    event_counts,
    is_ending,
    is_of,
    is_ready,
    new_warnings,
    pod_troubles,
    pods_of,
)
from visionyard.cluster.deploy.record import (
    DIGEST_LABEL,
    HISTORY,
    Served,
    check_name,
    history_of,
    history_text,
    with_newest,
)
from visionyard.cluster.deploy.target import Deployed, ServiceStatus, nothing_before, read_options
from visionyard.cluster.deploy.waiting import PATIENCE_S, Progress, wait_until_served
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError


class PlainTarget:
    """Serves bundles without KServe; see `Target`."""

    def __init__(
        self, config: DeploymentConfig, cluster: Cluster | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        """Connect; arguments as of `KServeTarget`.

        Raises:
            ConfigError: The name is too long, or an option is unknown.
            DeployError: No cluster is configured.
        """
        self._config = config
        self._options = read_options(config.options, OPTIONS, "kubernetes")
        self._cluster = cluster or Cluster.connect(config.namespace)
        self._patience_s = patience_s
        check_name(config.name, self._cluster.namespace)

    def deploy(self, bundle: Path) -> Deployed:
        """Serve a bundle; see `Target`."""
        served = put_bundle(bundle, self._config.store_uri, self._config.format)
        live = self._cluster.get(DEPLOYMENT, self._config.name)
        history = history_of(live["metadata"].get("annotations") or {}) if live else []
        before = event_counts(self._cluster)
        after = with_newest(history, served)
        made = manifests(self._config, self._options, served, after, namespace=self._cluster.namespace)
        for kind, manifest in zip((DEPLOYMENT, SERVICE, AUTOSCALER), made, strict=False):
            self._cluster.apply(kind, manifest)
        if live and AUTOSCALED in (live["metadata"].get("annotations") or {}) and len(made) < 3:
            self._cluster.delete(AUTOSCALER, self._config.name)
        try:
            self._wait(served, before)
        except DeployError as error:
            if not history or history[0].digest == served.digest:
                raise DeployError(f"{error}; it is left as it is, to be looked at") from None
            self._bring_back(history[0], history)
            raise DeployError(f"{error}; {history[0].digest[:12]}, which served before, was brought back") from None
        return Deployed("deployed", self._url(), served.digest)

    def rollback(self) -> Deployed:
        """Serve the bundle before; see `Target`."""
        history = history_of(self._live()["metadata"].get("annotations") or {})
        if len(history) < 2:
            raise nothing_before(self._config.name)
        before = event_counts(self._cluster)
        self._bring_back(history[1], history[1:])
        self._wait(history[1], before)
        return Deployed("rolled back", self._url(), history[1].digest)

    def status(self) -> ServiceStatus:
        """Return what the service is doing; see `Target`."""
        live = self._live()
        history = history_of(live["metadata"].get("annotations") or {})
        pods = pods_of(self._cluster, history[0], labels=self._labels()) if history else []
        count, wanted = live.get("status", {}).get("readyReplicas", 0), live["spec"].get("replicas", 1)
        return ServiceStatus(
            name=self._config.name,
            url=self._url(),
            digest=history[0].digest if history else "",
            state=f"{count} of {wanted} pods ready",
            replicas=sum(map(is_ready, pods)),
            previous=tuple(entry.digest for entry in history[1:]),
            problems=tuple(trouble.text for trouble in pod_troubles(pods)),
        )

    def _bring_back(self, served: Served, history: list[Served]) -> None:
        change = {
            "metadata": {"annotations": {HISTORY: history_text(history)}},
            "spec": {
                "template": {
                    "metadata": {"labels": {DIGEST_LABEL: served.label}},
                    "spec": {"containers": [{"name": "server", "env": [models_variable(self._config.name, served)]}]},
                }
            },
        }
        self._cluster.patch(DEPLOYMENT, self._config.name, change, is_strategic=True)

    def _wait(self, served: Served, before: dict[str, int]) -> None:
        def look() -> Progress:
            live = self._live()
            status, generation = live.get("status", {}), live["metadata"]["generation"]
            every = self._cluster.list(POD, labels=self._labels())
            pods = [pod for pod in every if is_of(pod, served) and not is_ending(pod)]
            # A pod that is ending answers until it has drained, and is in none of the counts below.
            is_alone = not any(is_ready(pod) and not is_of(pod, served) for pod in every)
            wanted = live["spec"].get("replicas", 1)
            counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
            # The names of a Deployment's ReplicaSets and pods: its own and one or two random parts.
            names = rf"{re.escape(self._config.name)}(-[a-z0-9]{{6,10}}(-[a-z0-9]{{5}})?)?"
            troubles = [
                *pod_troubles(pods),
                *new_warnings(self._cluster, before, names=names, has_pods=bool(pods)),
            ]
            return Progress(
                is_done=status.get("observedGeneration", 0) >= generation and counts == [wanted] * 3 and is_alone,
                is_stuck=any(trouble.is_stuck for trouble in troubles),
                reasons=tuple(trouble.text for trouble in troubles),
                shown=f"{counts[1]} new pods, {counts[2]} available, of {wanted}",
            )

        wait_until_served(
            look,
            what=f"Deployment {self._config.name}",
            timeout_s=self._config.timeout_s,
            patience_s=self._patience_s,
        )

    def _live(self) -> Manifest:
        live = self._cluster.get(DEPLOYMENT, self._config.name)
        if live is None:
            raise DeployError(
                f"Deployment {self._config.name}: there is none in namespace {self._cluster.namespace}; check the name "
                "and the namespace"
            )
        return live

    def _labels(self) -> str:
        return ",".join(f"{name}={value}" for name, value in selector_of(self._config.name).items())

    def _url(self) -> str:
        return f"http://{self._config.name}.{self._cluster.namespace}.svc.cluster.local"
