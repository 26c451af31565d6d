"""What the client sends, what it makes of answers, and how long it is patient."""

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.client import AsyncClient, Box, ClassifiedImage, ClassScore, Client, DetectedImage
from visionyard.errors import (
    ConfigError,
    DeadlineError,
    DeniedError,
    MediaError,
    NotFoundError,
    OverloadedError,
    RequestError,
    ShapeError,
    StorageError,
    TooLargeError,
    VisionyardError,
)

BOX = {"class": "red", "class_id": 1, "confidence": 0.75, "xyxy": [10.0, 20.0, 30.5, 40.25]}
FOUND = {"width": 96, "height": 80, "boxes": [BOX]}
TOP = [
    {"class": "red", "class_id": 1, "confidence": 0.9},
    {"class": "blue", "class_id": 0, "confidence": 0.1},
]
CLASS = {"width": 96, "height": 80, **TOP[0], "top": TOP}


def _answer(*predictions: Any) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"model": "m", "model_digest": "d", "request_id": "r", "predictions": list(predictions)}


def _png(width: int = 96, height: int = 80) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_boxes_as_frozen_values(server: Any) -> None:
    server.answers = [_answer(FOUND)]

    with Client(server.url) as client:
        found = client.predict(_png())

    assert found == DetectedImage(96, 80, (Box("red", 1, 0.75, (10.0, 20.0, 30.5, 40.25)),))
    assert found.to_json() == FOUND
    with pytest.raises(AttributeError):
        found.width = 3  # type: ignore[misc]


def test_classes_as_frozen_values(server: Any) -> None:
    server.answers = [_answer(CLASS)]

    with Client(server.url) as client:
        found = client.predict(_png(), top_k=2)

    assert found == ClassifiedImage(96, 80, (ClassScore("red", 1, 0.9), ClassScore("blue", 0, 0.1)))
    assert (found.class_name, found.class_id, found.confidence) == ("red", 1, 0.9)
    assert found.to_json() == CLASS


def test_what_is_sent(server: Any, tmp_path: Path) -> None:
    server.answers = [_answer(FOUND)]
    data = _png()
    (tmp_path / "a.png").write_bytes(data)

    with Client(f"{server.url}/", model="m", api_key="secret") as client:
        client.predict(tmp_path / "a.png", confidence=0.5, iou=0.4, max_detections=7)
        client.predict(np.full((80, 96, 3), 99, np.uint8))

    line, headers, body = server.requests[0]
    assert line == "POST /predict?model=m&confidence=0.5&iou=0.4&max_detections=7"
    assert body == data
    assert headers["authorization"] == "Bearer secret"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(server.requests[1][2]))), 99)
    assert server.connection_count == 1


def test_a_path_prefix_is_kept(server: Any) -> None:
    server.answers = [_answer(FOUND)]
    with Client(f"{server.url}/yard/models/") as client:
        client.predict(_png())
    assert server.requests[0][0] == "POST /yard/models/predict"


def test_many_images_go_in_requests_of_eight(server: Any) -> None:
    server.answers = [_answer(*[FOUND] * 8), _answer(CLASS)]

    with Client(server.url) as client:
        found = client.predict_many([_png()] * 9)

    assert [type(one).__name__ for one in found] == ["DetectedImage"] * 8 + ["ClassifiedImage"]
    assert server.requests[0][1]["content-type"].startswith("multipart/form-data")
    assert server.requests[0][2].count(_png()) == 8
    with Client(server.url) as client:
        assert client.predict_many([]) == []


def test_scaled_images_have_boxes_in_the_pixels_of_the_given_one(server: Any) -> None:
    small = {"width": 100, "height": 50, "boxes": [{**BOX, "xyxy": [10.0, 5.0, 100.0, 50.0]}]}
    server.answers = [_answer(small)]

    with Client(server.url) as client:
        found = client.predict(_png(403, 201), downsize_px=100)
        client.predict(np.zeros((201, 403, 3), np.uint8), downsize_px=100)
        client.predict(_png(90, 80), downsize_px=100)

    assert found == DetectedImage(403, 201, (Box("red", 1, 0.75, (40.3, 20.1, 403.0, 201.0)),))
    assert [Image.open(io.BytesIO(body)).size for *_, body in server.requests] == [(100, 50), (100, 50), (90, 80)]
    assert server.requests[2][2] == _png(90, 80)


def test_masks_and_keypoints_come_along(server: Any) -> None:
    from visionyard.geometry import Mask

    pixels = np.zeros((80, 96), np.bool_)
    pixels[20:40, 10:30] = True
    mask = {"rle": Mask.from_array(pixels).to_json()}
    points = [[12.0, 22.0, 0.9], [20.5, 30.0, 0.1]]
    box = {**BOX, "mask": mask, "polygons": [[10.0, 20.0, 30.0, 20.0, 30.0, 40.0]], "keypoints": points}
    server.answers = [_answer({**FOUND, "boxes": [box]})]

    with Client(server.url) as client:
        found = client.predict(_png(), masks="polygons")
        scaled = client.predict(_png(960, 800), downsize_px=96)

    assert found.to_json()["boxes"] == [box]
    assert isinstance(scaled, DetectedImage)
    large = scaled.boxes[0]
    assert server.requests[0][0] == "POST /predict?masks=polygons"
    assert large.polygons == ((100.0, 200.0, 300.0, 200.0, 300.0, 400.0),)
    assert large.keypoints == ((120.0, 220.0, 0.9), (205.0, 300.0, 0.1))
    assert large.mask is not None
    np.testing.assert_array_equal(large.mask.to_array(), pixels.repeat(10, axis=0).repeat(10, axis=1))


def test_a_turned_photo_is_scaled_upright(server: Any) -> None:
    server.answers = [_answer({"width": 50, "height": 100, "boxes": []})]
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(stream, "JPEG", exif=exif)

    with Client(server.url) as client:
        found = client.predict(stream.getvalue(), downsize_px=100)

    assert (found.width, found.height) == (200, 400)
    assert Image.open(io.BytesIO(server.requests[0][2])).size == (50, 100)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        pytest.param(400, RequestError, "confidence = 7", id="bad_request"),
        pytest.param(401, DeniedError, "give a valid api_key", id="no_key"),
        pytest.param(403, DeniedError, "confidence = 7", id="forbidden"),
        pytest.param(404, NotFoundError, "confidence = 7", id="no_model"),
        pytest.param(413, TooLargeError, "confidence = 7", id="too_large"),
        pytest.param(422, RequestError, "confidence = 7", id="schema"),
        pytest.param(500, VisionyardError, "see the server's log", id="fault"),
        pytest.param(504, DeadlineError, "confidence = 7", id="deadline"),
        pytest.param(302, RequestError, "status 302", id="redirect"),
    ],
)
def test_a_refusal_is_told_and_not_tried_again(server: Any, status: int, error: type[Exception], message: str) -> None:
    body = b"" if status == 302 else {"error": "confidence = 7: expected 0.01 to 1", "request_id": "r"}
    server.answers = [(status, {}, body)]

    with Client(server.url) as client, pytest.raises(error, match=message) as caught:
        client.predict(_png())

    assert type(caught.value) is error
    assert str(caught.value).startswith(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503, 0, 502], ids=["rate_limit", "overload", "broken_connection", "gateway"])
def test_what_may_pass_is_tried_again(server: Any, status: int) -> None:
    server.answers = [(status, {"Retry-After": "0"}, {"error": "busy"})] * 2 + [_answer(FOUND)]

    with Client(server.url) as client:
        assert client.predict(_png()).to_json() == FOUND

    assert len(server.requests) == 3
    assert {body for *_, body in server.requests} == {_png()}


def test_tries_are_bounded(server: Any) -> None:
    server.answers = [(503, {"Retry-After": "0"}, {"error": "64 images wait"})]
    with Client(server.url, try_count=3) as client, pytest.raises(OverloadedError, match="64 images wait"):
        client.predict(_png())
    assert len(server.requests) == 3


def test_a_wait_beyond_the_deadline_is_not_begun(server: Any) -> None:
    server.answers = [(429, {"Retry-After": "30"}, {"error": "slowly"})]
    began = time.monotonic()

    with Client(server.url, timeout_s=5) as client, pytest.raises(OverloadedError, match="slowly") as caught:
        client.predict(_png())

    assert time.monotonic() - began < 3
    assert (caught.value.retry_after_s, caught.value.is_rate_limit) == (30.0, True)


def test_no_answer_in_time(server: Any) -> None:
    def slow(_: bytes) -> Any:
        time.sleep(0.6)
        return _answer(FOUND)

    server.answers = [slow]
    with Client(server.url, timeout_s=0.1) as client, pytest.raises(DeadlineError, match=r"within 0\.1 s"):
        client.predict(_png())


def test_nobody_is_there(server: Any) -> None:
    server.close()
    with Client(server.url, try_count=2) as client:
        with pytest.raises(StorageError, match="cannot be reached"):
            client.predict(_png())
        assert not client.is_ready()


@pytest.mark.parametrize(
    "body",
    [b"<html>", [1], {"predictions": []}, {"predictions": [{"width": 1, "height": 1}]}],
    ids=["html", "list", "none", "unknown_form"],
)
def test_another_server_is_told(server: Any, body: Any) -> None:
    server.answers = [(200, {}, body)]
    with Client(server.url) as client, pytest.raises(VisionyardError, match="expected"):
        client.predict(_png())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"url": "localhost:8080"}, "expected http://host:8080", id="no_scheme"),
        pytest.param({"url": "ftp://host"}, "expected http://host:8080", id="scheme"),
        pytest.param({"url": "http://host:99999"}, "expected http://host:8080", id="port"),
        pytest.param({"url": "grpc://host"}, "gRPC needs a port", id="grpc_without_port"),
        pytest.param({"url": "http://me:secret@host"}, "api_key", id="password"),
        pytest.param({"url": "http://host", "timeout_s": 0}, "timeout_s = 0", id="timeout"),
        pytest.param({"url": "http://host", "try_count": 0}, "try_count = 0", id="tries"),
        pytest.param({"url": "https://host", "ca_file": "/nowhere.pem"}, "/nowhere.pem", id="ca_file"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Client(**arguments)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        pytest.param("/gone.png", {}, MediaError, "/gone.png: cannot be read", id="no_file"),
        pytest.param(np.zeros((4, 4), np.uint8), {}, ShapeError, r"got \(4, 4\) uint8", id="grey_array"),
        pytest.param(np.zeros((4, 4, 3)), {}, ShapeError, "float64", id="float_array"),
        pytest.param(["a.png"], {}, ConfigError, "predict_many", id="list"),
        pytest.param(b"x", {"downsize_px": 3}, ConfigError, "downsize_px = 3", id="downsize"),
        pytest.param(b"x", {"downsize_px": 300}, MediaError, "image 0: not an image", id="scaling_no_image"),
        pytest.param(b"x", {"treshold": 0.3}, ConfigError, "treshold", id="option"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    server: Any, image: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with Client(server.url) as client, pytest.raises(error, match=message):
        client.predict(image, **options)
    assert server.requests == []


def test_model_info_and_readiness(server: Any) -> None:
    server.answers = [(200, {}, {"name": "m", "classes": ["a"]})]
    with Client(server.url, model="m-1") as client:
        assert client.model_info() == {"name": "m", "classes": ["a"]}
        assert client.is_ready()
    assert [line for line, *_ in server.requests] == ["GET /model/info?model=m-1", "GET /v2/health/ready"]


def test_async_requests_are_in_flight_together(server: Any) -> None:
    import threading

    together = threading.Barrier(2)

    def meet(_: bytes) -> Any:
        together.wait(5)
        return _answer(*[FOUND] * 8)

    server.answers = [meet]

    async def ask() -> Any:
        async with AsyncClient(server.url) as client:
            assert (await client.predict_many([])) == []
            return await client.predict_many([_png()] * 16)

    assert [one.to_json() for one in asyncio.run(ask())] == [FOUND] * 16


def test_async_tries_again_and_tells_errors(server: Any) -> None:
    server.answers = [(503, {"Retry-After": "0"}, {}), _answer(FOUND), (400, {}, {"error": "no image"})]

    async def ask() -> None:
        async with AsyncClient(server.url, model="m") as client:
            assert (await client.predict(_png())).to_json() == FOUND
            with pytest.raises(RequestError, match="no image"):
                await client.predict_many([_png()] * 3)
            server.answers = [(200, {}, {"name": "m"})]
            assert await client.model_info() == {"name": "m"}
            assert await client.is_ready()

    asyncio.run(ask())


def _grpc_answer(texts: list[str], *, is_raw: bool) -> Any:
    from visionyard.client.messages import message

    answer = message("InferResponse")(model_name="m")
    tensor = answer.outputs.add(name="predictions", datatype="BYTES", shape=[len(texts)])
    if is_raw:
        answer.raw_output_contents.append(
            b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
        )
    else:
        tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return answer


@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "contents"])
def test_grpc(grpc_server: Any, is_raw: bool) -> None:
    grpc_server.answer = lambda *_: _grpc_answer([json.dumps(FOUND), json.dumps(CLASS)], is_raw=is_raw)

    with Client(grpc_server.url, model="m", api_key="secret") as client:
        found = client.predict_many([_png(), _png(50, 40)], confidence=0.5, top_k=2)

    assert [one.to_json() for one in found] == [FOUND, CLASS]
    request = grpc_server.requests[0]
    assert request.model_name == "m"
    assert list(request.inputs[0].contents.bytes_contents) == [_png(), _png(50, 40)]
    assert [output.name for output in request.outputs] == ["predictions"]
    parameters = {entry.key: entry.value for entry in request.parameters}
    assert (parameters["confidence"].string_param, parameters["top_k"].int64_param) == ("0.5", 2)
    assert grpc_server.metadata[0]["authorization"] == "Bearer secret"


def test_grpc_for_asyncio(grpc_server: Any) -> None:
    grpc_server.answer = lambda *_: _grpc_answer([json.dumps(FOUND)], is_raw=True)

    async def ask() -> Any:
        async with AsyncClient(grpc_server.url, model="m") as client:
            return await client.predict(_png())

    assert asyncio.run(ask()).to_json() == FOUND


@pytest.mark.parametrize(
    ("code", "details", "error", "try_count"),
    [
        pytest.param("INVALID_ARGUMENT", "confidence = 7", RequestError, 1, id="bad_request"),
        pytest.param("NOT_FOUND", "no model x", NotFoundError, 1, id="no_model"),
        pytest.param("UNAUTHENTICATED", "no key", DeniedError, 1, id="no_key"),
        pytest.param("DEADLINE_EXCEEDED", "not in time", DeadlineError, 1, id="deadline"),
        pytest.param("RESOURCE_EXHAUSTED", "64 images wait", OverloadedError, 2, id="overload"),
        pytest.param("RESOURCE_EXHAUSTED", "Received message larger than max", TooLargeError, 1, id="too_large"),
        pytest.param("UNAVAILABLE", "shutting down", StorageError, 2, id="unavailable"),
        pytest.param("INTERNAL", "internal error, request id r", VisionyardError, 1, id="fault"),
    ],
)
def test_grpc_errors(grpc_server: Any, code: str, details: str, error: type[Exception], try_count: int) -> None:
    import grpc

    def refuse(_: Any, context: Any) -> None:
        context.set_trailing_metadata((("retry-after", "0.01"),) if code == "RESOURCE_EXHAUSTED" else ())
        context.abort(grpc.StatusCode[code], details)

    grpc_server.answer = refuse
    with Client(grpc_server.url, model="m", try_count=2) as client, pytest.raises(error, match=details) as caught:
        client.predict(_png())
    assert type(caught.value) is error
    assert len(grpc_server.requests) == try_count


def test_importing_it_loads_neither_torch_nor_opencv() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from visionyard.client import Client; Client('http://localhost:1').close()\n"
        "print([name for name in ('torch', 'cv2', 'kserve', 'pandas', 'grpc', 'PIL', 'visionyard.serving')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
