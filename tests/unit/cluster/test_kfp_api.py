"""The client of the API: what it sends, and how its errors read."""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.kfp_stub import KfpStub, Refusal
from visionyard.cluster.kfp_api import KfpApi, Server, find_server
from visionyard.errors import NoAnswerError, VisionyardError


def test_the_environment_names_the_server_and_whom_it_is_asked_as(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("from-file\n")
    variables = {"KF_PIPELINES_ENDPOINT": "http://kfp/", "KF_PIPELINES_SA_TOKEN_PATH": str(token)}
    assert find_server(environment=variables) == Server("http://kfp", token="from-file")
    variables |= {"VISIONYARD_KFP_TOKEN": "typed", "VISIONYARD_KFP_COOKIE": "authservice_session=1"}
    found = find_server("https://other", "team", variables)
    assert found == Server("https://other", "team", "typed", "authservice_session=1")


@pytest.mark.parametrize(
    ("host", "match"),
    [("", "give --host or set KF_PIPELINES_ENDPOINT.*port-forward"), ("kfp:8888", "kfp:8888: expected .* http://")],
    ids=["none", "no scheme"],
)
def test_a_server_that_cannot_be_one_is_refused(host: str, match: str):
    with pytest.raises(VisionyardError, match=match):
        find_server(host, environment={})


def test_an_experiment_is_made_once(stub: KfpStub):
    api = KfpApi(Server(stub.host))
    first = api.ensure_experiment("parts")
    assert api.ensure_experiment("parts") == first
    assert api.ensure_experiment("others") != first
    assert len(stub.experiments) == 2


def test_an_experiment_that_another_makes_meanwhile_is_taken(stub: KfpStub, monkeypatch: pytest.MonkeyPatch):
    look = stub._list_experiments

    def look_then_make(query: dict[str, str]) -> dict[str, Any]:
        found = look(query)
        if not stub.experiments:
            stub.answer("POST", "/apis/v2beta1/experiments", {}, {"display_name": "parts"})
        return found

    monkeypatch.setattr(stub, "_list_experiments", look_then_make)
    assert [KfpApi(Server(stub.host)).ensure_experiment("parts")] == list(stub.experiments)


@pytest.mark.parametrize("name", ["a+b", "50%", "%41", 'a "b" & c', "Prüfung"])
def test_an_experiment_is_found_again_whatever_its_name(name: str, stub: KfpStub):
    api = KfpApi(Server(stub.host))
    assert api.find_experiment(name) == ""
    assert api.ensure_experiment(name) == api.ensure_experiment(name) == api.find_experiment(name)


def test_a_run_has_no_workflow_until_it_begins(stub: KfpStub):
    api = KfpApi(Server(stub.host))
    stub.runs["r"] = {}
    assert api.workflow("r") == {}
    stub.workflows["r"] = {"metadata": {"name": "w"}}
    assert api.workflow("r") == {"metadata": {"name": "w"}}


def test_a_closed_port_is_told_with_the_host():
    with pytest.raises(
        NoAnswerError, match=r"http://127.0.0.1:9: no answer from Kubeflow Pipelines .*check the address"
    ):
        KfpApi(Server("http://127.0.0.1:9")).create_run({})


@pytest.mark.parametrize(
    ("status", "match"),
    [(401, "401: asked to fail; sign in: put a token into VISIONYARD_KFP_TOKEN"), (403, "403: .*--namespace")],
    ids=["not signed in", "not allowed"],
)
def test_a_refusal_is_told_with_the_way_out(status: int, match: str, stub: KfpStub):
    stub.fail_next = status
    with pytest.raises(VisionyardError, match=match):
        KfpApi(Server(stub.host)).run("x")


def test_a_multi_user_kubeflow_that_was_asked_without_a_namespace_is_told_with_the_way_out(
    stub: KfpStub, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise Refusal(400, "Invalid input error: A run cannot have an empty namespace in multi-user mode")

    monkeypatch.setattr(stub, "answer", refuse)
    with pytest.raises(VisionyardError, match="empty namespace in multi-user mode; name yours with --namespace"):
        KfpApi(Server(stub.host)).runs()


def test_a_read_is_tried_again_and_a_change_is_not(stub: KfpStub):
    api = KfpApi(Server(stub.host))
    experiment = api.ensure_experiment("parts")
    stub.fail_next = 503
    assert api.ensure_experiment("parts") == experiment
    stub.fail_next = 503
    with pytest.raises(VisionyardError, match="POST /apis/v2beta1/experiments was refused with 503"):
        api._call("POST", "experiments", body={"display_name": "others"})
    assert len(stub.experiments) == 1


def test_the_token_goes_with_each_request(stub: KfpStub):
    stub.required_token = "secret"
    KfpApi(Server(stub.host, token="secret")).ensure_experiment("parts")
    assert set(stub.tokens) == {"Bearer secret"}
    with pytest.raises(VisionyardError, match="there is no user identity header") as caught:
        KfpApi(Server(stub.host, token="wrong")).runs()
    assert "wrong" not in str(caught.value)
