"""The REST API of Kubeflow Pipelines, as far as submitting, watching and scheduling need it.

Not through kfp.Client: that prints as it goes, guesses hosts, and answers a refused connection with a long traceback.
The paths and fields are those of the v2beta1 API.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import urllib3

from visionyard.errors import NoAnswerError, VisionyardError
from visionyard.storage import shown

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
TOKEN_VARIABLE = "VISIONYARD_KFP_TOKEN"  # noqa: S105 (a variable's name)
COOKIE_VARIABLE = "VISIONYARD_KFP_COOKIE"
# Where Kubeflow mounts the token of a pod's account; the variable is KFP's own.
TOKEN_PATH_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 (a variable's name)
_TOKEN_PATH = Path("/var/run/secrets/kubeflow/pipelines/token")
_PAGE_SIZE = 200
# Of what a server says in a failure: it repeats itself at length.
_MOST_SAID = 240
_TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)
_RETRIES = urllib3.Retry(total=3, backoff_factor=0.5, allowed_methods={"GET"}, status_forcelist=(502, 503, 504))
_ADVICE = {
    401: f"sign in: put a token into {TOKEN_VARIABLE}, or the cookie of the Kubeflow page into {COOKIE_VARIABLE}",
    403: "the account may not do this in that namespace; name one of yours with --namespace, or ask for the right",
    404: "check the id, and that the address is the one of Kubeflow Pipelines itself",
}


@dataclass(frozen=True)
class Server:
    """Where Kubeflow Pipelines answers, and as whom.

    Attributes:
        host: `http(s)://host[:port][/path]`.
        namespace: Of a user of a multi-user Kubeflow; empty where there is only one.
        token: Bearer token; empty: none.
        cookie: Of a session in the browser; empty: none.
    """

    host: str
    namespace: str = ""
    token: str = ""
    cookie: str = ""


def find_server(host: str = "", namespace: str = "", environment: Mapping[str, str] | None = None) -> Server:
    """Return the server that an option or the environment names, with the credentials found there.

    Args:
        host: From an option; empty: KF_PIPELINES_ENDPOINT.
        namespace: From an option.
        environment: Variables; the process's own when None.

    Raises:
        VisionyardError: No host is named, or it is no http(s) address.
    """
    variables = os.environ if environment is None else environment
    address = (host or variables.get(HOST_VARIABLE, "")).strip().rstrip("/")
    if not address:
        raise VisionyardError(
            f"no address of Kubeflow Pipelines: give --host or set {HOST_VARIABLE}; without an entry from outside, "
            "`kubectl -n kubeflow port-forward svc/ml-pipeline 8888` and http://localhost:8888"
        )
    if not address.startswith(("http://", "https://")):
        raise VisionyardError(f"{address}: expected an address that begins with http:// or https://")
    token = variables.get(TOKEN_VARIABLE, "").strip()
    token_path = Path(variables.get(TOKEN_PATH_VARIABLE, "") or _TOKEN_PATH)
    if not token and token_path.is_file():
        token = token_path.read_text(encoding="utf-8").strip()
    return Server(address, namespace, token, variables.get(COOKIE_VARIABLE, "").strip())


class KfpApi:
    """Calls of one server."""

    def __init__(self, server: Server) -> None:
        """Talk to `server`; nothing is sent yet."""
        self.server = server
        headers = {"accept": "application/json"}
        if server.token:
            headers["authorization"] = f"Bearer {server.token}"
        if server.cookie:
            headers["cookie"] = server.cookie
        ca_certs = os.environ.get("SSL_CERT_FILE") or certifi.where()
        self._pool = urllib3.PoolManager(headers=headers, timeout=_TIMEOUT, retries=_RETRIES, ca_certs=ca_certs)

    def find_experiment(self, name: str) -> str:
        """Return the id of an experiment; empty when there is none."""
        query = {"filter": _filter("EQUALS", "display_name", name), **self._namespace()}
        found = self._call("GET", "experiments", query=query).get("experiments", [])
        return str(found[0]["experiment_id"]) if found else ""

    def ensure_experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made when there is none."""
        if found := self.find_experiment(name):
            return found
        try:
            made = self._call("POST", "experiments", body={"display_name": name, **self._namespace()})
        except VisionyardError:
            # Another may have made it in between: then its name is refused.
            if found := self.find_experiment(name):
                return found
            raise
        return str(made["experiment_id"])

    def create_run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a run and return it."""
        return self._call("POST", "runs", body=body)

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return self._call("GET", f"runs/{quote(run_id, safe='')}")

    def workflow(self, run_id: str) -> dict[str, Any]:
        """Return the Argo workflow that a run became, as KFP last saw it; empty: it has not begun.

        KFP offers it by this older path only.
        """
        detail = self._call("GET", f"runs/{quote(run_id, safe='')}", version="v1beta1")
        text = detail.get("pipeline_runtime", {}).get("workflow_manifest", "")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def runs(
        self, *, experiment_id: str = "", most: int = 20, where: tuple[str, str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the newest runs, newest first; each with its whole pipeline, so ask for few.

        Args:
            experiment_id: Only runs of this experiment.
            most: How many, up to 200.
            where: Operation, field and value of a filter, such as `("EQUALS", "state", "SUCCEEDED")`.
        """
        query = {"experiment_id": experiment_id} if experiment_id else self._namespace()
        if where:
            query = {**query, "filter": _filter(*where)}
        answer = self._call("GET", "runs", query={"page_size": str(most), "sort_by": "created_at desc", **query})
        return list(answer.get("runs", []))

    def cancel_run(self, run_id: str) -> None:
        """Ask for a run to end."""
        self._call("POST", f"runs/{quote(run_id, safe='')}:terminate")

    def pod_log(self, run_id: str, pod_name: str, *, namespace: str = "") -> str:
        """Return what a pod of a run printed.

        Args:
            run_id: The run.
            pod_name: Its pod.
            namespace: Of the pod; the page's server asks for it in a multi-user Kubeflow.

        Raises:
            VisionyardError: The pod is gone or has not begun, or the server cannot be reached.
        """
        path = f"/apis/v1alpha1/runs/{quote(run_id, safe='')}/nodes/{quote(pod_name, safe='')}/log"
        answer = self._ask("GET", path)
        if answer.status == 404:
            # Behind the address of Kubeflow's page no path of that version is handed on; its server reads pods itself.
            path = "/k8s/pod/logs"
            answer = self._ask("GET", path, query={"podname": pod_name, "runid": run_id, "podnamespace": namespace})
        text = answer.data.decode("utf-8", errors="replace")
        refused = _refusal(self._shown, "GET", path, answer.status, answer.data) if answer.status >= 300 else ""
        if refused := refused or _log_refusal(text):
            # A single-user installation looks for pods in no namespace, and so shows archived logs only (KFP 2.17).
            raise VisionyardError(
                f"pod {pod_name}: its log cannot be read: {refused[:_MOST_SAID]}; while the pod is there: "
                f"`kubectl logs {pod_name} --container main`; when it is gone, the stage's exit report is below "
                "`events` in the store"
            )
        return text

    def schedules(self) -> Iterator[dict[str, Any]]:
        """Yield all recurring runs."""
        query = {"page_size": str(_PAGE_SIZE), **self._namespace()}
        token = ""
        while True:
            answer = self._call("GET", "recurringruns", query={**query, **({"page_token": token} if token else {})})
            # This backend names the list in camel case or in snake case, by its version.
            yield from answer.get("recurringRuns") or answer.get("recurring_runs") or []
            token = answer.get("next_page_token", "")
            if not token:
                return

    def create_schedule(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a recurring run and return it."""
        return self._call("POST", "recurringruns", body=body)

    def delete_schedule(self, schedule_id: str) -> None:
        """Remove a recurring run; runs that it started stay, and go on."""
        # Its workflows are owned by it: by itself Kubernetes would delete those too, in the middle of their work.
        # Servers older than KFP 2.16 know no such option and delete them.
        query = {"propagation_policy": "ORPHAN"}
        self._call("DELETE", f"recurringruns/{quote(schedule_id, safe='')}", query=query)

    def _namespace(self) -> dict[str, str]:
        return {"namespace": self.server.namespace} if self.server.namespace else {}

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        version: str = "v2beta1",
    ) -> dict[str, Any]:
        data = self._send(method, f"/apis/{version}/{path}", query=query, body=body)
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            raise VisionyardError(
                f"{shown(self.server.host)}: answered {method} /apis/{version}/{path} with something that is no JSON "
                f"({data[:60]!r}); often a sign-in page: {_ADVICE[401]}"
            ) from None
        if not isinstance(answer, dict):
            raise VisionyardError(f"{shown(self.server.host)}: expected a JSON object for {path}, got {answer!r}")
        return answer

    def _send(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> bytes:
        answer = self._ask(method, path, query=query, body=body)
        if answer.status >= 300:
            raise VisionyardError(_refusal(self._shown, method, path, answer.status, answer.data))
        return bytes(answer.data)

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> urllib3.BaseHTTPResponse:
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        try:
            return self._pool.request(
                method,
                self.server.host + path,
                fields=dict(query) if query else None,
                body=content,
                headers={**self._pool.headers, **({"content-type": "application/json"} if content else {})},
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise NoAnswerError(
                f"{self._shown}: no answer from Kubeflow Pipelines ({type(reason).__name__}: {reason}); check the "
                "address, the network and that its API server runs"
            ) from None

    @property
    def _shown(self) -> str:
        return shown(self.server.host)


def _filter(operation: str, key: str, value: str) -> str:
    """Return a filter as a parameter of a query.

    The server undoes the encoding of the query a second time, so a plain `+` or `%41` in a name would become another.
    """
    predicate = {"operation": operation, "key": key, "string_value": value}
    return quote(json.dumps({"predicates": [predicate]}), safe="")


def _log_refusal(text: str) -> str:
    """Return why a log could not be read, which the server says in its place with status 200; empty: it is a log."""
    try:
        content = json.loads(text) if text.startswith('{"error_') else None
    except ValueError:
        return ""
    if not isinstance(content, dict) or not content.keys() <= {"error_message", "error_details"}:
        return ""
    return str(content.get("error_message", ""))


def _refusal(host: str, method: str, path: str, status: int, data: bytes) -> str:
    """Return what a server said when it refused: its message, and the way out where we know one."""
    try:
        content = json.loads(data)
        said = content.get("error_message") or content.get("message") or content.get("error") or str(content)
    except (ValueError, AttributeError):
        said = data[:200].decode("utf-8", errors="replace").strip()
    if 300 <= status < 400:
        said, advice = "it redirects, most likely to a sign-in page", _ADVICE[401]
    elif status == 400 and "empty namespace" in said:
        advice = "name yours with --namespace"
    else:
        advice = _ADVICE.get(status, "")
    return f"{host}: {method} {path} was refused with {status}: {said}" + (f"; {advice}" if advice else "")
