"""A server that is told to stop answers what it has admitted, and says no to the rest."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from visionyard.serving.kserve_sdk import GRPCInferenceServiceStub, pb


class Load:
    """Clients that ask one request after the other until the server refuses or is gone."""

    def __init__(self, server: Any, image: bytes) -> None:
        self.outcomes: Counter[str] = Counter()
        self._server = server
        self._image = image
        self._threads = [threading.Thread(target=self._rest) for _ in range(6)]
        self._threads += [threading.Thread(target=self._grpc) for _ in range(2)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + 10
        while self.outcomes["200"] < 20 or self.outcomes["OK"] < 5:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.005)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _rest(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=20) as client:
            while True:
                try:
                    answer = client.post("/predict", content=self._image)
                except httpx.ConnectError:
                    self.outcomes["refused"] += 1
                    return
                except httpx.HTTPError as error:
                    self.outcomes[f"broken: {type(error).__name__}"] += 1
                    return
                self.outcomes[str(answer.status_code)] += 1
                if answer.status_code != 200:
                    self.outcomes["closed"] += answer.headers.get("connection") == "close"
                    return

    def _grpc(self) -> None:
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", shape=[1], datatype="BYTES")
        raw = len(self._image).to_bytes(4, "little") + self._image
        request = pb.ModelInferRequest(model_name="boxes", inputs=[tensor], raw_input_contents=[raw])
        with grpc.insecure_channel(self._server.grpc) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while True:
                try:
                    stub.ModelInfer(request)
                except grpc.RpcError as error:
                    known: Any = error
                    self.outcomes[known.code().name] += 1
                    return
                self.outcomes["OK"] += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_no_request_fails_when_it_is_told_to_stop_under_load(
    number: int, start_server: Callable[..., Any], bundle_paths: dict[str, Path], images: dict[str, bytes]
) -> None:
    running = start_server(str(bundle_paths["boxes"]), "--name", "boxes")
    load = Load(running, images["png"])
    load.start()

    code = running.stop(number)

    load.join()
    assert code == 0
    allowed = {"200", "503", "closed", "refused", "OK", "UNAVAILABLE"}
    assert set(load.outcomes) <= allowed, load.outcomes
    assert load.outcomes["503"] == load.outcomes["closed"]
    assert load.outcomes["503"] + load.outcomes["refused"] == 6
    assert load.outcomes["UNAVAILABLE"] == 2
    assert [each["event"] for each in running.log if each["event"] != "request"][-2:] == ["stopping", "stopped"]
    answered = [each for each in running.log if each["event"] == "request" and each["status"] in {200, "OK"}]
    assert len(answered) == load.outcomes["200"] + load.outcomes["OK"]


def test_what_is_in_flight_is_finished_while_readiness_is_gone(
    start_server: Callable[..., Any], bundle_paths: dict[str, Path], images: dict[str, bytes]
) -> None:
    """A request whose body is still coming when the signal comes was admitted, and is answered."""
    running = start_server(str(bundle_paths["boxes"]), "--name", "boxes")
    is_sent, is_stopping = threading.Event(), threading.Event()
    found: list[httpx.Response] = []

    def body() -> Any:
        yield images["png"][:100]
        is_sent.set()
        is_stopping.wait(20)
        yield images["png"][100:]

    def ask() -> None:
        found.append(httpx.post(f"{running.url}/predict", content=body(), timeout=20))

    asking = threading.Thread(target=ask)
    asking.start()
    is_sent.wait(20)
    with httpx.Client(base_url=running.url) as client:
        while client.get("/metrics").status_code != 200:  # the first part has arrived by then
            pass
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while (ready := client.get("/v2/health/ready")).status_code == 200:
            assert time.monotonic() < deadline
        refused = client.post("/predict", content=images["png"])
        live = client.get("/v2/health/live")
        health = client.get("/health").json()
    is_stopping.set()
    asking.join(20)

    assert ready.status_code == 503
    assert (live.status_code, health["status"]) == (200, "stopping")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert found[0].status_code == 200
    assert running.process.wait(20) == 0


@pytest.mark.parametrize(("grace_s", "signals"), [(0.3, 1), (60, 2)], ids=["time-is-over", "signal-again"])
def test_what_is_not_finished_in_time_is_cut_off(
    grace_s: float, signals: int, start_server: Callable[..., Any], bundle_paths: dict[str, Path]
) -> None:
    running = start_server(str(bundle_paths["boxes"]), "--set", f"server.grace_s={grace_s}")
    is_sent, is_over = threading.Event(), threading.Event()
    found: list[httpx.Response] = []

    def body() -> Any:
        yield b"abc"
        is_sent.set()
        is_over.wait(20)

    def ask() -> None:
        found.append(httpx.post(f"{running.url}/predict", content=body(), timeout=20))

    asking = threading.Thread(target=ask)
    asking.start()
    is_sent.wait(20)
    httpx.get(f"{running.url}/metrics")

    start = time.monotonic()
    for _ in range(signals - 1):
        running.process.send_signal(signal.SIGINT)
        while not any(each["event"] == "stopping" for each in running.log):
            assert time.monotonic() - start < 5
    code = running.stop(signal.SIGINT)

    assert code == 0
    assert time.monotonic() - start < 5
    assert any(each["event"] == "requests were cut off" for each in running.log)
    is_over.set()
    asking.join(20)
    assert (found[0].status_code, "stopped before" in found[0].json()["error"]) == (503, True)
