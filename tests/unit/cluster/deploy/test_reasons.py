"""What is said when a bundle does not come to serve: refusals of the API, and warnings among the events."""

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from kubernetes import client

from tests.fixtures.http_stand_in import http_stand_in
from visionyard.cluster.deploy.kube import Cluster, _refusal
from visionyard.cluster.deploy.reasons import event_counts, new_warnings

RIGHTS = "grant it as docs/deploying.md lists, under Rights"


@pytest.mark.parametrize(
    ("status", "said", "way_out"),
    [
        pytest.param(403, 'services is forbidden: User "ann" cannot list resource "services"', RIGHTS, id="no right"),
        pytest.param(
            403, 'admission webhook "kserve" denied the request: bad name', "correct what it names", id="webhook"
        ),
        pytest.param(
            403, "pods is forbidden: violates PodSecurity restricted", "correct what it names", id="pod security"
        ),
        pytest.param(422, "minReplcas: unknown field", "correct what it names", id="unknown field"),
        pytest.param(401, "Unauthorized", "the credentials are not valid any more; renew them", id="old credentials"),
    ],
)
def test_a_refusal_names_the_way_out(status: int, said: str, way_out: str) -> None:
    error = SimpleNamespace(status=status, body=json.dumps({"message": said}), reason="Forbidden")
    assert _refusal("PATCH", "/apis/x", error) == f"PATCH /apis/x: {status}, {said}; {way_out}"


def event(number: int, reason: str, message: str, *, about: str = "digits-predictor-1") -> dict[str, Any]:
    return {
        "metadata": {"uid": f"uid-{number}"},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": "ReplicaSet", "name": about},
    }


def test_the_server_sends_warnings_alone() -> None:
    with http_stand_in(200) as server:
        settings = client.Configuration(host=server.url)
        settings.retries = False
        cluster = Cluster(client.ApiClient(settings), "yard")
        event_counts(cluster)
        new_warnings(cluster, {}, names="digits-.*", has_pods=False)
    assert [unquote(sent.path) for sent in server.sent] == [
        "/api/v1/namespaces/yard/events?fieldSelector=type=Warning"
    ] * 2


def test_a_pod_that_is_refused_again_and_again_is_told_once() -> None:
    refused = [event(number, "FailedCreate", f'pods "digits-{number}" is forbidden') for number in range(9)]
    listed = [event(99, "FailedCreate", "told before"), *refused, event(98, "Other", "x", about="another")]
    cluster: Any = SimpleNamespace(list=lambda _kind, fields: listed)

    found = new_warnings(cluster, {"uid-99": 1}, names="digits-.*", has_pods=False)

    assert [trouble.text for trouble in found] == [
        'ReplicaSet digits-predictor-1: FailedCreate: pods "digits-8" is forbidden'
    ]
    assert found[0].is_stuck
