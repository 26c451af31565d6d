"""The Kubernetes API that is busy, restarts, refuses or is not there; on a real HTTP server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.fixtures.http_stand_in import HttpStandIn, http_stand_in
from visionyard.cluster.deploy.kube import DEPLOYMENT, POD, Cluster
from visionyard.errors import DeployError, NoAnswerError
from visionyard.storage import base

CALLS = {
    "list": lambda cluster: cluster.list(POD),
    "get": lambda cluster: cluster.get(DEPLOYMENT, "digits"),
    "apply": lambda cluster: cluster.apply(DEPLOYMENT, {"metadata": {"name": "digits"}}),
    "patch": lambda cluster: cluster.patch(DEPLOYMENT, "digits", {"spec": {"replicas": 2}}),
    "delete": lambda cluster: cluster.delete(DEPLOYMENT, "digits"),
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_FIRST_WAIT_S", 0.001)


def cluster_at(url: str) -> Cluster:
    settings = client.Configuration(host=url)
    settings.retries = False
    return Cluster(client.ApiClient(settings), "yard")


def requests(server: HttpStandIn) -> list[tuple[str, str]]:
    return [(sent.method, sent.path.partition("?")[0]) for sent in server.sent]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_meets_a_restart_is_made_again(call: Callable[[Cluster], Any]) -> None:
    with http_stand_in(503, 429, 500, 200) as server:
        call(cluster_at(server.url))
    assert len(set(requests(server))) == 1
    assert len(server.sent) == 4
    assert len({sent.body for sent in server.sent}) == 1


def test_a_server_that_stays_busy_is_told_after_five_tries() -> None:
    with http_stand_in(503) as server, pytest.raises(NoAnswerError, match=r"pods: 503, .*; try again later$"):
        cluster_at(server.url).list(POD)
    assert len(server.sent) == base.TRY_COUNT


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
def test_a_refusal_is_told_at_once(status: int) -> None:
    with http_stand_in(status) as server, pytest.raises(DeployError, match=f"pods: {status}, ") as caught:
        cluster_at(server.url).list(POD)
    assert not isinstance(caught.value, NoAnswerError)
    assert len(server.sent) == 1


def test_a_server_that_is_not_there_is_told() -> None:
    with http_stand_in() as server:
        cluster = cluster_at(server.url)
    with pytest.raises(NoAnswerError, match=r"^http://127\.0\.0\.1:\d+: the cluster does not answer .*KUBECONFIG"):
        cluster.list(POD)


def test_a_cluster_is_connected_as_the_kubeconfig_says(tmp_path: Path) -> None:
    # In a process of its own: the package reads KUBECONFIG when it is imported.
    program = "from visionyard.cluster.deploy.kube import POD, Cluster; cluster = Cluster.connect(); "
    program += "print(cluster.namespace, cluster.list(POD))"
    with http_stand_in(503, 200) as server:
        context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "yard"}}
        users = [{"name": "u", "user": {"token": "s3cret"}}]
        clusters = [{"name": "c", "cluster": {"server": server.url}}]
        config = {"current-context": "c", "contexts": [context], "clusters": clusters, "users": users}
        (tmp_path / "config").write_text(json.dumps(config))
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config")}
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
    assert ended.stdout == "yard []\n"
    assert [sent.headers["authorization"] for sent in server.sent] == ["Bearer s3cret"] * 2
