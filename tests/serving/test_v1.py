"""KServe's v1 protocol: instances in, predictions out."""

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


_FORMS: dict[str, Callable[[bytes], Any]] = {
    "b64": lambda data: {"b64": _text(data)},
    "image-b64": lambda data: {"image": {"b64": _text(data)}},
    "text": _text,
    "data-address": lambda data: f"data:image/png;base64,{_text(data)}",
}


@pytest.mark.parametrize("name", ["boxes", "kinds"])
@pytest.mark.parametrize("form", list(_FORMS))
def test_every_form_of_instance_gives_the_same(
    form: str,
    name: str,
    http: httpx.Client,
    images: dict[str, bytes],
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    instances = [_FORMS[form](images[sort]) for sort in ("png", "exif-rotated")]

    answer = http.post(f"/v1/models/{name}:predict", json={"instances": instances})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    for found, sort in zip(answer.json()["predictions"], ("png", "exif-rotated"), strict=True):
        assert_same(found, expect(name, images[sort]))


def test_pixels_are_an_instance_too(
    http: httpx.Client,
    images: dict[str, bytes],
    pixels: np.ndarray,
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    answer = http.post("/v1/models/boxes:predict", json={"instances": [pixels.tolist()]})

    assert_same(answer.json()["predictions"][0], expect("boxes", images["png"]))


def test_parameters_hold(http: httpx.Client, images: dict[str, bytes]) -> None:
    body = {"instances": [{"b64": _text(images["png"])}], "parameters": {"top_k": 1}}

    answer = http.post("/v1/models/kinds:predict", json=body)

    assert len(answer.json()["predictions"][0]["top"]) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "no JSON", id="empty"),
        pytest.param(b"[1]", '"instances"', id="list"),
        pytest.param(b'{"inputs": []}', '"instances"', id="other-key"),
        pytest.param(b'{"instances": []}', "at least one", id="none"),
        pytest.param(b'{"instances": [1]}', "instances[0]", id="number"),
        pytest.param(b'{"instances": [[[1,2],[3]]]}', "different lengths", id="ragged"),
        pytest.param(b'{"instances": [[[[1,2,999]]]]}', "255", id="pixel-over-255"),
        pytest.param(b'{"instances": ["AA=="], "parameters": 3}', "parameters", id="parameters"),
        pytest.param(b'{"instances": ["AA=="], "x": 3}', "unknown keys x", id="unknown-key"),
        pytest.param(b'{"instances": ["AA=="]}', "not an image", id="no-image"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, words: str, http: httpx.Client) -> None:
    answer = http.post("/v1/models/boxes:predict", content=body)

    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def test_there_is_no_explainer(http: httpx.Client, images: dict[str, bytes]) -> None:
    answer = http.post("/v1/models/boxes:explain", json={"instances": [_text(images["png"])]})

    assert answer.status_code == 404
    assert "this server has no explainer; use :predict" in answer.text


def test_models_are_listed_and_ready(http: httpx.Client) -> None:
    assert http.get("/v1/models").json() == {"models": ["boxes", "kinds"]}
    assert http.get("/v1/models/boxes").json() == {"name": "boxes", "ready": True}
    assert http.get("/v1/models/nope").status_code == 404


def test_a_cloud_event_is_answered_as_one(http: httpx.Client, images: dict[str, bytes]) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "36077800-0c23-4f38-a0b4-01f4369f670a",
        "ce-source": "https://example.com/event-producer",
        "ce-type": "com.example.sampletype1",
        "content-type": "application/json",
    }

    answer = http.post("/v1/models/kinds:predict", json={"instances": [{"b64": _text(images["png"])}]}, headers=headers)

    assert answer.status_code == 200, answer.text
    assert answer.headers["ce-specversion"] == "1.0"
    assert answer.json()["predictions"][0]["width"] == 96


def test_a_broken_cloud_event_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/models/kinds:predict", content=b"{", headers={"ce-specversion": "1.0", "ce-id": "1"})

    assert answer.status_code == 400, answer.text
