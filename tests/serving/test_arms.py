"""A/B over a running server: one name, two models behind it, counted by arm."""

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

NAME = "pictures"


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], bundle_arguments: list[str]) -> Any:
    """A server that splits one name over both models, three to one."""
    settings = [f"arms.name={NAME}", "arms.weights={boxes: 0.75, kinds: 0.25}"]
    running = start_server(*bundle_arguments, *(part for each in settings for part in ("--set", each)))
    assert running.process.poll() is None, "".join(running.log_lines)
    return running


def ask(http: httpx.Client, image: bytes, **headers: str) -> httpx.Response:
    return http.post(f"/predict?model={NAME}", content=image, headers={"content-type": "image/png", **headers})


def counted(http: httpx.Client) -> dict[str, float]:
    """Requests by arm, as Prometheus reads them."""
    lines = re.findall(
        r"^visionyard_serving_arm_requests_total\{(.*?)\} (\S+)", http.get("/metrics").text, re.MULTILINE
    )
    return {re.search(r'arm="(\w+)"', labels)[1]: float(value) for labels, value in lines}  # type: ignore[index]


@pytest.mark.parametrize("arm", ["boxes", "kinds"])
def test_the_header_picks_the_arm_that_answers(http: httpx.Client, images: dict[str, bytes], arm: str) -> None:
    answer = ask(http, images["png"], **{"X-Arm": arm})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == arm


def test_a_client_keeps_its_arm_and_both_arms_have_clients(http: httpx.Client, images: dict[str, bytes]) -> None:
    def arm_of(client: int) -> str:
        return str(ask(http, images["png"], **{"X-Client-Id": f"camera-{client}"}).json()["model"])

    first = [arm_of(client) for client in range(40)]
    assert [arm_of(client) for client in range(40)] == first
    assert 2 <= Counter(first)["kinds"] <= 20


def test_arms_are_counted(http: httpx.Client, images: dict[str, bytes]) -> None:
    before = counted(http)
    for _ in range(3):
        ask(http, images["png"], **{"X-Arm": "kinds"})
    after = counted(http)
    assert after["kinds"] - before.get("kinds", 0) == 3
    assert after.get("boxes", 0) == before.get("boxes", 0)


def test_an_unknown_arm_is_refused_with_the_known_ones(http: httpx.Client, images: dict[str, bytes]) -> None:
    answer = ask(http, images["png"], **{"X-Arm": "other"})
    assert answer.status_code == 400
    assert "the arms are boxes, kinds" in answer.json()["error"]


def test_each_model_still_answers_under_its_own_name(http: httpx.Client, images: dict[str, bytes]) -> None:
    answer = http.post("/predict?model=boxes", content=images["png"], headers={"X-Arm": "kinds"})
    assert answer.json()["model"] == "boxes"


@pytest.fixture(scope="module")
def watching_server(
    start_server: Callable[..., Any], bundle_arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server whose arms are a detector and a classifier, which never agree; each request is shown to both."""
    place = tmp_path_factory.mktemp("samples")
    settings = [f"arms.name={NAME}", "arms.weights={boxes: 1, kinds: 0}", f"sampling.uri={place}"]
    settings += ["sampling.rate=0", "sampling.hard_rate=1", "sampling.second_opinion_rate=1"]
    running = start_server(*bundle_arguments, *(part for each in settings for part in ("--set", each)))
    assert running.process.poll() is None, "".join(running.log_lines)
    return running


def test_what_two_arms_answer_otherwise_is_sampled(watching_server: Any, images: dict[str, bytes]) -> None:
    with httpx.Client(base_url=watching_server.url, timeout=30) as http:
        answer = ask(http, images["png"])
        assert answer.json()["model"] == "boxes", "the caller gets the arm's own answer"
        deadline = time.monotonic() + 30
        kept = 'visionyard_serving_samples_total{model="boxes",reason="disagreement"} 1.0'
        while kept not in (text := http.get("/metrics").text):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        observed = dict(re.findall(r'drift_observed_total\{model="(\w+)"\} (\S+)', text))
        assert observed.get("kinds", "0.0") == "0.0", "the second opinion does not count towards the other's drift"
        ask(http, images["png"], **{"X-Arm": "boxes"})
        assert kept in http.get("/metrics").text, "the same picture is kept once"
