"""The target kserve: an InferenceService, updated, rolled back and explained."""

from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.cluster.deploy.bundles import put_bundle
from visionyard.cluster.deploy.canary import SPLIT, Canary, CanaryJudge
from visionyard.cluster.deploy.canary_ways import find_way
from visionyard.cluster.deploy.judging import judge_canary
from visionyard.cluster.deploy.kserve_manifests import (
    NAME_PARTS,
    OPTIONS,
    SERVICE_LABEL,
    inference_service,
    rolled_back,
)
from visionyard.cluster.deploy.kserve_state import ServiceWatch, address_of, is_serving, state_in_words
from visionyard.cluster.deploy.kube import INFERENCE_SERVICE, Cluster, Manifest
from visionyard.cluster.deploy.reasons import is_ready, pod_troubles, pods_of
from visionyard.cluster.deploy.record import Served, canary_of, check_name, history_of, with_newest
from visionyard.cluster.deploy.target import Deployed, ServiceStatus, nothing_before, read_options
from visionyard.cluster.deploy.waiting import PATIENCE_S, wait_until_served
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError


class KServeTarget:
    """Serves bundles by KServe; see `Target`."""

    def __init__(
        self,
        config: DeploymentConfig,
        cluster: Cluster | None = None,
        *,
        patience_s: float = PATIENCE_S,
        judge: CanaryJudge = judge_canary,
    ) -> None:
        """Connect.

        Args:
            config: Its `name` is the InferenceService's.
            cluster: None connects as the environment says.
            patience_s: How long a service must be stuck to be given up.
            judge: Watches a canary and decides.

        Raises:
            ConfigError: The name is too long, or an option is unknown.
            DeployError: No cluster is configured.
        """
        self._config = config
        self._options = read_options(config.options, OPTIONS, "kserve")
        self._cluster = cluster or Cluster.connect(config.namespace)
        self._patience_s, self._judge = patience_s, judge
        check_name(config.name, self._cluster.namespace, parts=NAME_PARTS)

    def deploy(self, bundle: Path) -> Deployed:
        """Serve a bundle; see `Target`."""
        served = put_bundle(bundle, self._config.store_uri, self._config.format)
        live = self._live()
        history = _history(live)
        if live is None or not history:
            return self._put(served, history, live)
        live = self._without_canary(live, history)
        if history[0].digest == served.digest or not self._config.canary_percent:
            return self._put(served, history, live)
        if not is_serving(live):
            events.warn(f"{self._config.name}: no canary, as what is there does not serve: {state_in_words(live)}")
            return self._put(served, history, live)
        return self._try(served, history, live)

    def rollback(self) -> Deployed:
        """Serve the bundle before; see `Target`."""
        live = self._needed()
        history = _history(live)
        if canary_of(_annotations(live)):
            live = self._without_canary(live, history)
            return Deployed("rolled back", self._url(live), history[0].digest, ("the canary was ended",))
        if len(history) < 2:
            raise nothing_before(self._config.name)
        self._restore(history[1], history[1:], live)
        return Deployed("rolled back", self._url(self._needed()), history[1].digest)

    def status(self) -> ServiceStatus:
        """Return what the service is doing; see `Target`."""
        live = self._needed()
        history, canary = _history(live), canary_of(_annotations(live))
        labels = f"{SERVICE_LABEL}={self._config.name}"
        pods = pods_of(self._cluster, history[0], labels=labels) if history else []
        shown = ""
        if canary:
            ready = sum(map(is_ready, pods_of(self._cluster, canary, labels=labels)))
            shown = f"{canary.digest[:12]}, {ready} ready"
        return ServiceStatus(
            name=self._config.name,
            url=self._url(live),
            digest=history[0].digest if history else "",
            state=state_in_words(live),
            replicas=sum(map(is_ready, pods)),
            canary=shown,
            previous=tuple(entry.digest for entry in history[1:]),
            problems=tuple(trouble.text for trouble in pod_troubles(pods)),
        )

    def _put(self, served: Served, history: list[Served], live: Manifest | None) -> Deployed:
        """Give all traffic to a bundle; when it does not come to serve, what served before is brought back."""
        if self._config.canary_percent:
            find_way(self._cluster, self._config)  # refused now rather than at the next deployment
        after = with_newest(history, served)
        watch = ServiceWatch(self._cluster, self._config.name, served, before=live)
        manifest = inference_service(self._config, self._options, served, after, namespace=self._cluster.namespace)
        applied = self._cluster.apply(INFERENCE_SERVICE, manifest)
        try:
            self._wait(watch, applied)
        except DeployError as error:
            if live is None or not history or history[0].digest == served.digest:
                raise DeployError(f"{error}; it is left as it is, to be looked at") from None
            self._cluster.patch(INFERENCE_SERVICE, self._config.name, rolled_back(history[0], history, live))
            raise DeployError(f"{error}; {history[0].digest[:12]}, which served before, was brought back") from None
        if self._config.canary_percent:
            self._canary().prepare()
        return Deployed("deployed", self._url(self._needed()), served.digest)

    def _try(self, served: Served, history: list[Served], live: Manifest) -> Deployed:
        """Give a share of the traffic to a bundle, and all of it or none when the judge has decided."""
        canary = self._canary()
        verdict = canary.run(served, history, live)
        if verdict.decision == "promote":
            done = self._put(served, history, self._needed())
            canary.end()
            return Deployed("promoted", self._url(self._needed()), done.digest, verdict.reasons)
        self._without_canary(self._needed(), history)
        return Deployed("rolled back", self._url(self._needed()), history[0].digest, verdict.reasons)

    def _without_canary(self, live: Manifest, history: list[Served]) -> Manifest:
        """End a canary that is there, of this or of an earlier deployment that was interrupted."""
        if not canary_of(_annotations(live)):
            return live
        self._canary().abandon(live, history)
        return self._needed()

    def _canary(self) -> Canary:
        return Canary(self._cluster, self._config, self._options, patience_s=self._patience_s, judge=self._judge)

    def _restore(self, served: Served, history: list[Served], live: Manifest) -> None:
        watch = ServiceWatch(self._cluster, self._config.name, served, before=live)
        change = rolled_back(served, history, live)
        applied = self._cluster.patch(INFERENCE_SERVICE, self._config.name, change)
        self._wait(watch, applied)

    def _wait(self, watch: ServiceWatch, applied: Manifest) -> None:
        wait_until_served(
            lambda: watch.look(applied),
            what=f"InferenceService {self._config.name}",
            timeout_s=self._config.timeout_s,
            patience_s=self._patience_s,
        )

    def _live(self) -> Manifest | None:
        return self._cluster.get(INFERENCE_SERVICE, self._config.name)

    def _needed(self) -> Manifest:
        live = self._live()
        if live is None:
            raise DeployError(
                f"InferenceService {self._config.name}: there is none in namespace {self._cluster.namespace}; check "
                "the name and the namespace"
            )
        return live

    def _url(self, live: Manifest) -> str:
        """Return where it answers: over both arms, where a Service of ours splits the traffic."""
        split = _annotations(live).get(SPLIT)
        return f"http://{split}.{self._cluster.namespace}.svc.cluster.local" if split else address_of(live)


def _annotations(live: Manifest) -> dict[str, Any]:
    return dict(live["metadata"].get("annotations") or {})


def _history(live: Manifest | None) -> list[Served]:
    return history_of(_annotations(live)) if live else []
