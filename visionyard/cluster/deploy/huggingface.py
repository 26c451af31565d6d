"""The target huggingface: the bundle in a repository of the Hub, and an Inference Endpoint that serves it.

Every bundle is a commit of the repository, so the history is the Hub's own and a rollback is a revision. The endpoint
runs our serving image with the repository mounted where it expects one.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from visionyard.cluster.deploy.record import check_name
from visionyard.cluster.deploy.target import Deployed, ServiceStatus, nothing_before, read_options
from visionyard.config import DeploymentConfig
from visionyard.errors import ConfigError, DeployError
from visionyard.inference.bundle import MANIFEST, Bundle

OPTIONS: dict[str, type] = {
    "repository": str,
    "endpoint": bool,
    "public": bool,
    "vendor": str,
    "region": str,
    "instance_type": str,
    "instance_size": str,
    "environment": dict,
}
TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 (its name)
_MOUNT = "/repository"
_TITLE = "Bundle "


class HuggingFaceTarget:
    """Serves bundles on Hugging Face; see `Target`."""

    def __init__(self, config: DeploymentConfig, hub: Any = None) -> None:
        """Connect.

        Args:
            config: Its `name` is the endpoint's.
            hub: A `huggingface_hub.HfApi`; None makes one with the token of HF_TOKEN.

        Raises:
            ConfigError: An option is unknown, or `repository` or the image is missing.
            DeployError: The package is missing.
        """
        self._config = config
        self._options = read_options(config.options, OPTIONS, "huggingface")
        self._repository = self._options.get("repository", "")
        self._owner = self._repository.partition("/")[0]
        self._has_endpoint = self._options.get("endpoint", True)
        problems = []
        if self._repository.count("/") != 1:
            problems.append(f"deployment.options.repository {self._repository!r}: expected owner/name on the Hub")
        if self._has_endpoint and not config.image:
            problems.append(
                "deployment.image is empty; an endpoint needs the serving image in a registry it can reach, or set "
                "deployment.options.endpoint to false for the upload alone"
            )
        if problems:
            raise ConfigError(problems)
        check_name(config.name, "")
        self._hub = hub or _connect()

    def deploy(self, bundle: Path) -> Deployed:
        """Upload a bundle and serve it; see `Target`."""
        opened = Bundle.open(bundle)
        opened.format_name(self._config.format)
        self._ask("create_repo", self._repository, private=not self._options.get("public", False), exist_ok=True)
        commit = self._ask(
            "upload_folder",
            repo_id=self._repository,
            folder_path=bundle,
            # Only what the manifest names: a folder may hold other files, and those of the bundle before must go.
            allow_patterns=[*opened.manifest.files, MANIFEST],
            delete_patterns=["*"],
            commit_message=f"{_TITLE}{opened.digest}",
        )
        if not self._has_endpoint:
            return Deployed("deployed", str(commit.commit_url), opened.digest)
        settings = self._settings(commit.oid)
        if self._exists():
            endpoint = self._ask("update_inference_endpoint", self._config.name, namespace=self._owner, **settings)
        else:
            endpoint = self._ask(
                "create_inference_endpoint",
                self._config.name,
                namespace=self._owner,
                framework="custom",
                task="custom",
                vendor=self._options.get("vendor", "aws"),
                region=self._options.get("region", "us-east-1"),
                **settings,
            )
        return Deployed("deployed", self._wait(endpoint), opened.digest)

    def rollback(self) -> Deployed:
        """Serve the commit before the present one; see `Target`."""
        commits = self._served(self._endpoint())
        if len(commits) < 2:
            raise nothing_before(self._config.name)
        before = commits[1]
        endpoint = self._ask(
            "update_inference_endpoint", self._config.name, namespace=self._owner, revision=before.commit_id
        )
        return Deployed("rolled back", self._wait(endpoint), before.title.removeprefix(_TITLE))

    def status(self) -> ServiceStatus:
        """Return what the endpoint is doing; see `Target`."""
        endpoint = self._endpoint()
        digests = [commit.title.removeprefix(_TITLE) for commit in self._served(endpoint)]
        status = endpoint.raw.get("status", {})
        return ServiceStatus(
            name=self._config.name,
            url=str(endpoint.url or ""),
            digest=digests[0] if digests else "",
            state=str(endpoint.status),
            replicas=status.get("readyReplica"),
            previous=tuple(digests[1:]),
            problems=(status["message"],) if status.get("message") and endpoint.status != "running" else (),
        )

    def _settings(self, revision: str) -> dict[str, Any]:
        config = self._config
        image = {"url": config.image, "healthRoute": "/v2/health/ready", "port": 8080}
        return {
            "repository": self._repository,
            "revision": revision,
            "accelerator": "gpu" if config.gpu_count else "cpu",
            "instance_type": self._options.get("instance_type", "nvidia-t4" if config.gpu_count else "intel-icl"),
            "instance_size": self._options.get("instance_size", "x1"),
            "min_replica": config.min_replicas,
            "max_replica": config.max_replicas,
            "custom_image": image,
            "container_args": [_MOUNT, "--host", "0.0.0.0", "--name", config.name],  # noqa: S104 (in its container)
            "env": {name: str(value) for name, value in self._options.get("environment", {}).items()},
        }

    def _wait(self, endpoint: Any) -> str:
        from huggingface_hub.errors import InferenceEndpointError

        try:
            endpoint.wait(timeout=int(self._config.timeout_s))
        except InferenceEndpointError as error:
            said = endpoint.raw.get("status", {}).get("message", "")
            raise DeployError(
                f"Inference Endpoint {self._config.name} does not come to serve: {error} {said}"
            ) from None
        return str(endpoint.url)

    def _exists(self) -> bool:
        return any(
            each.name == self._config.name for each in self._ask("list_inference_endpoints", namespace=self._owner)
        )

    def _endpoint(self) -> Any:
        if not self._exists():
            raise DeployError(f"Inference Endpoint {self._config.name}: there is none; check the name and the owner")
        return self._ask("get_inference_endpoint", self._config.name, namespace=self._owner)

    def _served(self, endpoint: Any) -> list[Any]:
        """Return the commits of the bundles that an endpoint serves and served before, newest first."""
        commits = [each for each in self._ask("list_repo_commits", self._repository) if each.title.startswith(_TITLE)]
        revision = endpoint.raw.get("model", {}).get("revision")
        place = next((number for number, commit in enumerate(commits) if commit.commit_id == revision), 0)
        return commits[place:]

    def _ask(self, what: str, *arguments: Any, **values: Any) -> Any:
        try:
            return getattr(self._hub, what)(*arguments, **values)
        # The errors of its HTTP library come through, and which library that is differs by version.
        except Exception as error:
            text = " ".join(str(error).split())
            raise DeployError(f"Hugging Face, {what}: {text}; check {TOKEN_VARIABLE} and the options") from error


def _connect() -> Any:
    try:
        hub = import_module("huggingface_hub")
    except ModuleNotFoundError:
        raise DeployError("the target huggingface needs its package; pip install huggingface_hub") from None
    return hub.HfApi(token=os.environ.get(TOKEN_VARIABLE) or None, library_name="visionyard")
