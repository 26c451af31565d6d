"""Write a run with a metric and an artifact to MLflow and read both back. Usage: check_mlflow.py URL."""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

EXPERIMENT = "visionyard-helm-test"


class Mlflow:
    """The few calls of MLflow's REST API that the check needs; its client would be 80 MB more of an image."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Call MLflow and return the body of its answer."""
        request = urllib.request.Request(f"{self._url}{path}", data=body, method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json" if path.startswith("/api/2.0/mlflow/") else "text/plain")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read()[:500].decode(errors='replace')}")

    def call(self, method: str, name: str, /, **values: Any) -> Any:
        """Call a method of the tracking API, such as `runs/create`."""
        query = "?" + urllib.parse.urlencode(values) if method == "GET" else ""
        body = None if method == "GET" else json.dumps(values).encode()
        return json.loads(self.ask(method, f"/api/2.0/mlflow/{name}{query}", body) or b"{}")


def experiment_id(mlflow: Mlflow) -> str:
    """Return the id of the test's experiment, made where it is missing."""
    found = mlflow.call("POST", "experiments/search", max_results=1, filter=f"name = '{EXPERIMENT}'")
    if found.get("experiments"):
        return str(found["experiments"][0]["experiment_id"])
    return str(mlflow.call("POST", "experiments/create", name=EXPERIMENT)["experiment_id"])


def main(url: str) -> None:
    """Check an MLflow server.

    Args:
        url: Its address.
    """
    mlflow = Mlflow(url)
    now_ms = int(time.time() * 1000)
    info = mlflow.call("POST", "runs/create", experiment_id=experiment_id(mlflow), start_time=now_ms)["run"]["info"]
    run = info["run_id"]
    mlflow.call("POST", "runs/log-metric", run_id=run, key="map_50", value=0.5, timestamp=now_ms, step=1)
    content = os.urandom(1 << 16)
    place = info["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/check.bin"
    mlflow.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}", content)
    if mlflow.ask("GET", f"/api/2.0/mlflow-artifacts/artifacts/{place}") != content:
        sys.exit(f"{place}: read other bytes than were written")
    metrics = mlflow.call("GET", "runs/get", run_id=run)["run"]["data"]["metrics"]
    if [(metric["key"], metric["value"]) for metric in metrics] != [("map_50", 0.5)]:
        sys.exit(f"run {run}: expected map_50 = 0.5, got {metrics}")
    mlflow.call("POST", "runs/update", run_id=run, status="FINISHED", end_time=now_ms)
    print(f"{url}: run {run} with a metric and an artifact written and read")


if __name__ == "__main__":
    main(sys.argv[1])
