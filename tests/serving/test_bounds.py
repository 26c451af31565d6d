"""What a server does when it has too much to do, too little time, or a caller that goes away; A/B; drift."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from visionyard.serving.kserve_sdk import GRPCInferenceServiceStub, pb


def _request(name: str, image: bytes) -> Any:
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", shape=[1], datatype="BYTES")
    raw = len(image).to_bytes(4, "little") + image
    return pb.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[raw])


@pytest.fixture(scope="module")
def split(start_server: Callable[..., Any], bundle_paths: dict[str, Path]) -> Any:
    """Return a server whose name `both` is split between two models, with a queue for two images."""
    settings = [
        "arms.name=both",
        "arms.weights={one: 1.0, two: 0.0}",
        "batching.queue_size=2",
        "batching.max_delay_ms=100",
        "limits.max_images=2",
        "drift.enabled=true",
        "server.docs=false",
    ]
    bundle = str(bundle_paths["kinds"])
    return start_server(
        bundle, bundle, "--name", "one", "--name", "two", *[part for each in settings for part in ("--set", each)]
    )


def test_a_full_queue_refuses_with_the_time_to_come_back(split: Any, images: dict[str, bytes]) -> None:
    together = threading.Barrier(6)

    def ask(_: int) -> httpx.Response:
        with httpx.Client(base_url=split.url) as client:
            client.get("/health")
            together.wait()
            return client.post("/predict", params={"model": "one"}, files=[("a", images["png"])] * 2)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))

    assert {answer.status_code for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers.get("connection") != "close"


def test_a_name_is_split_between_models_and_a_header_picks_one(split: Any, images: dict[str, bytes]) -> None:
    def ask(**headers: str) -> str:
        answer = httpx.post(f"{split.url}/predict", params={"model": "both"}, content=images["png"], headers=headers)
        return str(answer.json().get("model", answer.status_code))

    assert {ask() for _ in range(3)} == {"one"}
    assert ask(**{"x-arm": "two"}) == "two"
    assert ask(**{"x-arm": "three"}) == "400"
    assert httpx.post(f"{split.url}/predict", content=images["png"]).json()["model"] == "one"
    text = httpx.get(f"{split.url}/metrics").text
    assert 'visionyard_serving_arm_requests_total{arm="two",model="both"} 1.0' in text


def test_protocols_know_the_split_by_its_name(split: Any, images: dict[str, bytes]) -> None:
    with grpc.insecure_channel(split.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(_request("both", images["png"]), metadata=(("x-arm", "two"),))
        assert answer.model_name == "both"
        assert stub.ModelReady(pb.ModelReadyRequest(name="both")).ready
        assert stub.ModelMetadata(pb.ModelMetadataRequest(name="both")).inputs[0].name == "image"
    assert httpx.get(f"{split.url}/v2/models").json() == {"models": ["both", "one", "two"]}


def test_drift_is_told(split: Any, images: dict[str, bytes]) -> None:
    answer = httpx.get(f"{split.url}/drift", params={"model": "one"})

    assert answer.status_code == 200, answer.text
    values = answer.json()
    assert values["model"] == "one"
    assert isinstance(values["features"], list)


def test_docs_can_be_switched_off(split: Any) -> None:
    assert httpx.get(f"{split.url}/docs").status_code == 404
    assert httpx.get(f"{split.url}/openapi.json").status_code == 404
    assert "docs" not in httpx.get(split.url).text, "the page leads nowhere that is not there"


def test_a_caller_that_goes_away_is_noted_and_nothing_breaks(split: Any, images: dict[str, bytes]) -> None:
    host, port = split.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: 9\r\n\r\nabc")
    deadline = time.monotonic() + 5
    while not (found := [each for each in split.log if each.get("request_id") == "gone"]):
        assert time.monotonic() < deadline
        httpx.get(f"{split.url}/health")

    assert found[0]["status"] == 499
    assert httpx.post(f"{split.url}/predict", params={"model": "one"}, content=images["png"]).status_code == 200


@pytest.fixture(scope="module")
def hurried(start_server: Callable[..., Any], bundle_paths: dict[str, Path]) -> Any:
    """Return a server whose requests have no time at all."""
    return start_server(str(bundle_paths["kinds"]), "--name", "kinds", "--set", "limits.deadline_s=0.000001")


def test_a_request_that_is_not_answered_in_time_is_told_so(hurried: Any, images: dict[str, bytes]) -> None:
    answer = httpx.post(f"{hurried.url}/predict", content=images["png"])

    assert (answer.status_code, "deadline" in answer.json()["error"]) == (504, True)
    with grpc.insecure_channel(hurried.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            GRPCInferenceServiceStub(channel).ModelInfer(_request("kinds", images["png"]))
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_health_answers_while_much_is_asked(split: Any, images: dict[str, bytes]) -> None:
    """The event loop is never held up: a probe is answered within a fraction of a second under load."""
    is_over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=split.url) as client:
            while not is_over.is_set():
                client.post("/predict", params={"model": "one"}, content=images["png"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with httpx.Client(base_url=split.url) as client:
            for _ in range(20):
                assert client.get("/v2/health/ready", timeout=2).status_code == 200
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_the_page_is_served_with_nothing_from_elsewhere(split: Any) -> None:
    answer = httpx.get(split.url)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
