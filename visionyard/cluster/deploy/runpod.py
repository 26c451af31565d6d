"""The target runpod: a serverless endpoint whose workers run `runpod_handler` in our serving image.

Everything goes through RunPod's own package, which is not among our dependencies. A bundle is a template of its own,
named after its digest, so that going back is pointing the endpoint at the template before. What was served is kept
beside the bundles in the object store: RunPod keeps no place for notes on an endpoint.
"""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from visionyard import storage
from visionyard.cluster.deploy.bundles import put_bundle
from visionyard.cluster.deploy.plain_manifests import DEFAULT_IMAGE
from visionyard.cluster.deploy.record import HISTORY, Served, check_name, history_of, history_text, with_newest
from visionyard.cluster.deploy.target import Deployed, ServiceStatus, nothing_before, read_options
from visionyard.config import DeploymentConfig
from visionyard.errors import DeployError

OPTIONS: dict[str, type] = {
    "gpu_ids": str,
    "environment": dict,
    "container_disk_gb": int,
    "idle_timeout_s": int,
    "registry_auth_id": str,
}
KEY_VARIABLE = "RUNPOD_API_KEY"
HANDLER = "python3 -m visionyard.cluster.deploy.runpod_handler"


class RunPodTarget:
    """Serves bundles on RunPod; see `Target`."""

    def __init__(self, config: DeploymentConfig, api: Any = None) -> None:
        """Find RunPod's package and the key.

        Args:
            config: Its `name` is the endpoint's.
            api: The package `runpod`; None imports it.

        Raises:
            ConfigError: An option is unknown.
            DeployError: The package or the key is missing.
        """
        self._config = config
        self._options = read_options(config.options, OPTIONS, "runpod")
        check_name(config.name, "")
        self._api = api or _import_api()

    def deploy(self, bundle: Path) -> Deployed:
        """Serve a bundle; see `Target`."""
        served = put_bundle(bundle, self._config.store_uri, self._config.format)
        endpoint = self._find()
        history = self._history()
        template = self._template(served)
        if endpoint is None:
            endpoint = self._ask(
                "create_endpoint",
                name=self._config.name,
                template_id=template,
                gpu_ids=self._options.get("gpu_ids", "AMPERE_16"),
                gpu_count=max(1, self._config.gpu_count),
                workers_min=self._config.min_replicas,
                workers_max=self._config.max_replicas,
                idle_timeout=self._options.get("idle_timeout_s", 5),
            )
        else:
            self._ask("update_endpoint_template", endpoint["id"], template)
        self._keep(with_newest(history, served))
        return Deployed("deployed", _url(endpoint), served.digest)

    def rollback(self) -> Deployed:
        """Serve the bundle before; see `Target`."""
        endpoint, history = self._needed(), self._history()
        if len(history) < 2:
            raise nothing_before(self._config.name)
        self._ask("update_endpoint_template", endpoint["id"], self._template(history[1]))
        self._keep(history[1:])
        return Deployed("rolled back", _url(endpoint), history[1].digest)

    def status(self) -> ServiceStatus:
        """Return what the endpoint is meant to do; its workers come with requests."""
        endpoint, history = self._needed(), self._history()
        return ServiceStatus(
            name=self._config.name,
            url=_url(endpoint),
            digest=history[0].digest if history else "",
            state=f"template {endpoint.get('templateId', 'unknown')}, "
            f"{endpoint.get('workersMin', '?')} to {endpoint.get('workersMax', '?')} workers",
            previous=tuple(entry.digest for entry in history[1:]),
        )

    def _template(self, served: Served) -> str:
        """Make the template of a bundle; one of that name is replaced. Return its id."""
        # The package pastes values into its query unescaped: no quotes, hence no JSON.
        environment = {
            "VISIONYARD_BUNDLE": served.uri,
            "VISIONYARD_MODEL_NAME": self._config.name,
            "VISIONYARD_MODEL_FORMAT": served.format,
            **{name: str(value) for name, value in self._options.get("environment", {}).items()},
        }
        if unfit := [name for name, value in environment.items() if '"' in value or "\\" in value or "\n" in value]:
            raise DeployError(
                f"deployment.options.environment.{unfit[0]}: RunPod's package takes no quotes, backslashes or line "
                "ends in values; keep such a value in a RunPod secret and name that"
            )
        made = self._ask(
            "create_template",
            name=f"{self._config.name}-{served.label}",
            image_name=self._config.image or DEFAULT_IMAGE,
            docker_start_cmd=HANDLER,
            container_disk_in_gb=self._options.get("container_disk_gb", 10),
            env=environment,
            is_serverless=True,
            registry_auth_id=self._options.get("registry_auth_id"),
        )
        return str(made["id"])

    def _find(self) -> dict[str, Any] | None:
        # RunPod appends " -fb" to the names of endpoints with quick starts.
        names = {self._config.name, f"{self._config.name} -fb"}
        return next((dict(each) for each in self._ask("get_endpoints") if each["name"] in names), None)

    def _needed(self) -> dict[str, Any]:
        endpoint = self._find()
        if endpoint is None:
            raise DeployError(f"RunPod endpoint {self._config.name}: there is none for this key; check the name")
        return endpoint

    def _ask(self, what: str, *arguments: Any, **values: Any) -> Any:
        given = {name: value for name, value in values.items() if value is not None}
        try:
            return getattr(self._api, what)(*arguments, **given)
        # Its errors have no common base, and those of its HTTP library come through.
        except Exception as error:
            raise DeployError(f"RunPod, {what}: {error}; check {KEY_VARIABLE} and the options") from error

    @property
    def _notes(self) -> str:
        return storage.join(self._config.store_uri, f"services/runpod-{self._config.name}.json")

    def _history(self) -> list[Served]:
        if not storage.exists(self._notes):
            return []
        return history_of({HISTORY: json.dumps(json.loads(storage.read_bytes(self._notes))["deployed"])})

    def _keep(self, history: list[Served]) -> None:
        notes = {"schema_version": 1, "deployed": json.loads(history_text(history))}
        storage.write_bytes(self._notes, json.dumps(notes, indent=1).encode())


def _import_api() -> Any:
    if not os.environ.get(KEY_VARIABLE):
        raise DeployError(f"{KEY_VARIABLE} is not set; put the API key of RunPod into it")
    try:
        api = import_module("runpod")
    except ModuleNotFoundError:
        raise DeployError("the target runpod needs RunPod's package; pip install runpod") from None
    api.api_key = os.environ[KEY_VARIABLE]  # type: ignore[attr-defined]
    return api


def _url(endpoint: dict[str, Any]) -> str:
    return f"https://api.runpod.ai/v2/{endpoint['id']}/runsync"
