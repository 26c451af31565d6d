"""The Kubernetes API as far as deploying needs it: objects as plain mappings, and refusals as errors that say why.

Objects are applied with `fieldValidation=Strict`: a field that the installed version does not know is an error. The API
server's default drops it, and what was asked for never happens. Every call may be made twice with the same result, so
one that meets an API server that restarts is made again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from visionyard.errors import DeployError, NoAnswerError
from visionyard.storage.base import is_transient_connection_fault, with_retries

Manifest = dict[str, Any]

FIELD_MANAGER = "visionyard"
_TIMEOUT_S = (5.0, 30.0)
_CORRECT = "correct what it names"
# An API server that is busy, that changes its leader, or whose webhook restarts.
_PASSING = {429, 500, 502, 503, 504}
_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Kind:
    """A kind of object: where its API is, and its plural there."""

    api: str
    plural: str

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api.split("/")[1] if self.api.startswith("apis/") else ""


INFERENCE_SERVICE = Kind("apis/serving.kserve.io/v1beta1", "inferenceservices")
DEPLOYMENT = Kind("apis/apps/v1", "deployments")
AUTOSCALER = Kind("apis/autoscaling/v2", "horizontalpodautoscalers")
HTTP_ROUTE = Kind("apis/gateway.networking.k8s.io/v1", "httproutes")
SERVICE = Kind("api/v1", "services")
POD = Kind("api/v1", "pods")
EVENT = Kind("api/v1", "events")


class Cluster:
    """One namespace of a cluster.

    Attributes:
        namespace: Where everything is made and looked for.
    """

    def __init__(self, client: Any, namespace: str) -> None:
        """Take a connected client.

        Args:
            client: A `kubernetes.client.ApiClient`.
            namespace: As the attribute.
        """
        self._client = client
        self.namespace = namespace

    @classmethod
    def connect(cls, namespace: str = "") -> Self:
        """Connect as the kubeconfig says, or as the pod's service account where there is none.

        Args:
            namespace: Empty: the context's or the account's own.

        Raises:
            DeployError: There is neither, or the kubeconfig cannot be read.
        """
        try:
            from kubernetes import client, config
        except ModuleNotFoundError:
            raise DeployError("deploying needs the package kubernetes; pip install 'visionyard[cluster]'") from None
        try:
            config.load_config()
        except (config.ConfigException, OSError) as error:
            raise DeployError(
                f"no Kubernetes cluster is configured ({error}); name one in KUBECONFIG, or run this in a pod"
            ) from None
        settings = client.Configuration.get_default_copy()
        settings.retries = False  # those of urllib3, without a wait
        return cls(client.ApiClient(settings), namespace or _own_namespace(config))

    def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object or change it to what the manifest says, by server-side apply; return it.

        Raises:
            DeployError: Refused, also for a field that is not known.
            NoAnswerError: The cluster does not answer.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return self._call("PATCH", kind, manifest["metadata"]["name"], query, manifest, "application/apply-patch+yaml")

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any], *, is_strategic: bool = False) -> Manifest:
        """Change parts of an object; None removes a field. Lists are replaced, or merged by key when strategic.

        Raises:
            DeployError: As in `apply`.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        word = "strategic-merge-patch" if is_strategic else "merge-patch"
        return self._call("PATCH", kind, name, query, dict(change), f"application/{word}+json")

    def get(self, kind: Kind, name: str) -> Manifest | None:
        """Return an object, None when there is none.

        Raises:
            DeployError: As in `apply`.
        """
        found = self._call("GET", kind, name, is_absence_fine=True)
        return found or None

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; none there is no error.

        Raises:
            DeployError: As in `apply`.
        """
        self._call("DELETE", kind, name, is_absence_fine=True)

    def list(self, kind: Kind, *, labels: str = "", fields: str = "") -> list[Manifest]:
        """Return the objects of the namespace whose labels and fields fit selectors.

        Raises:
            DeployError: As in `apply`.
        """
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {name: selector for name, selector in selectors.items() if selector}
        return list(self._call("GET", kind, "", query).get("items", []))

    def groups(self) -> set[str]:
        """Return the names of the API groups that the cluster has."""
        return {group["name"] for group in self._request("GET", "/apis").get("groups", [])}

    def knows_field(self, kind: Kind, schema: str, path: str) -> bool:
        """Return whether a kind's schema has a field.

        Args:
            kind: The kind.
            schema: End of its name in OpenAPI, such as `InferenceService`.
            path: Names of properties, joined by dots.
        """
        document = self._request("GET", f"/openapi/v3/{kind.api}")
        schemas = document.get("components", {}).get("schemas", {})
        place: Any = next((value for name, value in schemas.items() if name.split(".")[-1] == schema), {})
        for name in path.split("."):
            place = place.get("properties", {}).get(name)
            if place is None:
                return False
        return True

    def _call(
        self,
        method: str,
        kind: Kind,
        name: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        is_absence_fine: bool = False,
    ) -> Manifest:
        path = f"/{kind.api}/namespaces/{self.namespace}/{kind.plural}{f'/{name}' if name else ''}"
        return self._request(method, path, query, body, content_type, is_absence_fine=is_absence_fine)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        is_absence_fine: bool = False,
    ) -> Manifest:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        def send() -> Any:
            return self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT_S,
            )

        try:
            return dict(with_retries(send, _is_transient))
        except ApiException as error:
            if error.status == 404 and is_absence_fine and _names_an_object(error):
                return {}
            kind = NoAnswerError if error.status in _PASSING else DeployError
            raise kind(_refusal(method, path, error)) from None
        except HTTPError as error:
            host = self._client.configuration.host
            message = f"{host}: the cluster does not answer ({error}); check KUBECONFIG and network"
            raise NoAnswerError(message) from None


def _is_transient(error: BaseException) -> bool:
    return getattr(error, "status", 0) in _PASSING or is_transient_connection_fault(error)


def _names_an_object(error: Any) -> bool:
    """Tell an object that is absent from a kind that the cluster does not have."""
    return bool(_status(error).get("details", {}).get("name"))


def _refusal(method: str, path: str, error: Any) -> str:
    said = _status(error).get("message") or str(error.reason)
    way_out = {
        401: "the credentials are not valid any more; renew them",
        403: "grant it as docs/deploying.md lists, under Rights",
        404: "install what is missing; for KServe its custom resource definitions",
    }.get(error.status, "try again later" if error.status in _PASSING else _CORRECT)
    # What an admission webhook, a quota or Pod Security denies is a 403 too, and no right would help.
    if error.status == 403 and " cannot " not in said:
        way_out = _CORRECT
    return f"{method} {path}: {error.status}, {said}; {way_out}"


def _status(error: Any) -> dict[str, Any]:
    try:
        found = json.loads(error.body or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _own_namespace(config: Any) -> str:
    try:
        _, active = config.list_kube_config_contexts()
    except config.ConfigException:
        return _ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip() if _ACCOUNT_NAMESPACE.exists() else "default"
    return str(active["context"].get("namespace") or "default")
