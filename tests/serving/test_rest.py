"""Plain images over REST: every form of payload and picture gives what `Predictor.predict` gives."""

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

_SORTS = ["png", "jpeg", "webp", "bmp", "exif-rotated", "grey", "rgba", "16-bit", "cmyk"]


def _raw(data: bytes) -> dict[str, Any]:
    return {"content": data, "headers": {"content-type": "image/png"}}


def _octets(data: bytes) -> dict[str, Any]:
    return {"content": data, "headers": {"content-type": "application/octet-stream"}}


def _untyped(data: bytes) -> dict[str, Any]:
    return {"content": data}


def _curl(data: bytes) -> dict[str, Any]:
    return {"content": data, "headers": {"content-type": "application/x-www-form-urlencoded"}}


def _form(data: bytes) -> dict[str, Any]:
    return {"files": {"anything": ("a.bin", data)}}


def _json(data: bytes) -> dict[str, Any]:
    return {"json": {"images": [{"b64": base64.b64encode(data).decode()}]}}


_FORMS = [pytest.param(form, id=form.__name__.lstrip("_")) for form in (_raw, _octets, _untyped, _curl, _form, _json)]


@pytest.mark.parametrize("name", ["boxes", "kinds"])
@pytest.mark.parametrize("form", _FORMS)
def test_every_form_of_payload_gives_the_same(
    form: Callable[[bytes], dict[str, Any]],
    name: str,
    http: httpx.Client,
    images: dict[str, bytes],
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    answer = http.post("/predict", params={"model": name}, **form(images["png"]))

    assert answer.status_code == 200, answer.text
    values = answer.json()
    assert set(values) == {"model", "model_digest", "request_id", "predictions"}
    assert values["model"] == name
    assert values["request_id"] == answer.headers["x-request-id"]
    (found,) = values["predictions"]
    assert (found["width"], found["height"]) == (96, 80)
    assert_same(found, expect(name, images["png"]))


@pytest.mark.parametrize("name", ["boxes", "kinds"])
@pytest.mark.parametrize("sort", _SORTS)
def test_every_sort_of_image_gives_what_the_library_gives(
    sort: str,
    name: str,
    http: httpx.Client,
    images: dict[str, bytes],
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    answer = http.post("/predict", params={"model": name}, content=images[sort])

    (found,) = answer.json()["predictions"]
    assert (found["width"], found["height"]) == ((80, 96) if sort == "exif-rotated" else (96, 80))
    assert_same(found, expect(name, images[sort]))


def test_the_detector_finds_both_squares(http: httpx.Client, images: dict[str, bytes]) -> None:
    found = http.post("/predict", params={"model": "boxes"}, content=images["png"]).json()["predictions"][0]["boxes"]

    best = {box["class"]: box["xyxy"] for box in reversed(found)}  # most confident first
    assert best["blue"] == pytest.approx([64, 40, 80, 56], abs=3)  # it looks every 4 px
    assert best["red"] == pytest.approx([12, 10, 28, 26], abs=3)  # it looks every 4 px


def test_several_images_are_answered_in_order(http: httpx.Client, images: dict[str, bytes]) -> None:
    files = [("a", images["exif-rotated"]), ("b", images["png"]), ("c", images["exif-rotated"])]

    found = http.post("/predict", params={"model": "boxes"}, files=files).json()["predictions"]

    assert [each["width"] for each in found] == [80, 96, 80]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(lambda data: {"params": {"model": "kinds", "top_k": 1}, "content": data}, id="query"),
        pytest.param(
            lambda data: {"data": {"model": "kinds", "top_k": "1"}, "files": {"image": data}}, id="form-fields"
        ),
        pytest.param(
            lambda data: {
                "params": {"model": "kinds"},
                "json": {"images": [{"b64": base64.b64encode(data).decode()}], "parameters": {"top_k": 1}},
            },
            id="json-parameters",
        ),
    ],
)
def test_parameters_are_taken_from_every_place(sent: Any, http: httpx.Client, images: dict[str, bytes]) -> None:
    answer = http.post("/predict", **sent(images["png"]))

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"][0]["top"]) == 1


def test_the_confidence_threshold_of_a_request_holds(
    http: httpx.Client, images: dict[str, bytes], expect: Callable[..., Any], assert_same: Callable[..., None]
) -> None:
    few = http.post("/predict", params={"model": "boxes", "confidence": 0.999999}, content=images["png"])
    many = http.post("/predict", params={"model": "boxes", "confidence": 0.01}, content=images["png"])

    assert_same(few.json()["predictions"][0], expect("boxes", images["png"], 0.999999))
    assert_same(many.json()["predictions"][0], expect("boxes", images["png"], 0.01))
    assert len(many.json()["predictions"][0]["boxes"]) > len(few.json()["predictions"][0]["boxes"])


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        pytest.param({"params": {"model": "boxes"}, "content": b""}, 400, "body is empty", id="empty"),
        pytest.param({"params": {"model": "boxes"}, "content": b"GIF?"}, 400, "not an image", id="no-image"),
        pytest.param({"params": {"model": "nope"}, "content": b"x"}, 404, "served: boxes, kinds", id="unknown-model"),
        pytest.param({"content": b"x"}, 400, "name one of boxes, kinds", id="no-model-named"),
        pytest.param(
            {"params": {"model": "boxes", "confidence": 2}, "content": b"x"}, 400, "confidence = '2'", id="out-of-range"
        ),
        pytest.param(
            {"params": {"model": "boxes", "treshold": 1}, "content": b"x"}, 400, "'treshold': unknown", id="unknown"
        ),
        pytest.param({"params": {"model": "boxes"}, "json": {"image": 1}}, 400, '"images"', id="other-json"),
        pytest.param({"params": {"model": "boxes"}, "json": {"images": []}}, 400, "at least one", id="no-images"),
        pytest.param(
            {"params": {"model": "boxes"}, "json": {"images": [{"b64": "%"}]}}, 400, "images[0].b64", id="no-base64"
        ),
        pytest.param(
            {"params": {"model": "boxes"}, "json": {"images": [{"url": "http://example.com/a.png"}]}},
            403,
            "url",
            id="url-switched-off",
        ),
        pytest.param(
            {"params": {"model": "boxes"}, "json": {"images": [{"b64": "AA=="}] * 17}}, 413, "17 images", id="too-many"
        ),
        pytest.param(
            {"params": {"model": "boxes"}, "content": b"{", "headers": {"content-type": "application/json"}},
            400,
            "no JSON",
            id="broken-json",
        ),
        pytest.param(
            {"params": {"model": "boxes"}, "content": b"x", "headers": {"content-type": "text/html"}},
            400,
            "'text/html'",
            id="other-type",
        ),
        pytest.param(
            {"params": {"model": "boxes"}, "content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "form cannot be read",
            id="form-without-boundary",
        ),
        pytest.param({"params": {"model": "boxes"}, "data": {"a": "b"}, "files": {}}, 400, "image", id="form-no-file"),
        pytest.param(
            {"params": {"model": "boxes"}, "content": b"x", "headers": {"content-encoding": "gzip"}},
            415,
            "uncompressed",
            id="gzip",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    sent: dict[str, Any], status: int, words: str, http: httpx.Client
) -> None:
    answer = http.post("/predict", **sent)

    assert answer.status_code == status, answer.text
    values = answer.json()
    assert set(values) == {"error", "request_id"}
    assert words.lower() in values["error"].lower()
    assert "Traceback" not in answer.text


def test_a_refusal_keeps_the_connection(http: httpx.Client, images: dict[str, bytes]) -> None:
    with httpx.Client(base_url=http.base_url, limits=httpx.Limits(max_connections=1)) as client:
        ports = set()
        for content in (b"nothing", images["png"], b"", images["png"]):
            answer = client.post("/predict", params={"model": "boxes"}, content=content)
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            assert answer.headers.get("connection") != "close"
    assert len(ports) == 1


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        pytest.param("my-id_7.x", True, id="valid"),
        pytest.param("a" * 64, True, id="longest"),
        pytest.param("a" * 65, False, id="too-long"),
        pytest.param("a b", False, id="space"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_request_id_is_taken_or_made(given: str, is_taken: bool, http: httpx.Client) -> None:
    answer = http.post("/predict", headers={"x-request-id": given}, content=b"")

    assert (answer.headers["x-request-id"] == given) == is_taken
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_an_image_comes_back_drawn(http: httpx.Client, images: dict[str, bytes], pixels: np.ndarray) -> None:
    answer = http.post("/predict/image", params={"model": "boxes"}, content=images["png"])

    assert answer.headers["content-type"] == "image/jpeg"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert drawn.shape == pixels.shape
    assert np.abs(drawn.astype(int) - pixels).max() > 100


def test_one_image_is_drawn_at_a_time(http: httpx.Client, images: dict[str, bytes]) -> None:
    files = [("a", images["png"]), ("a", images["png"])]

    answer = http.post("/predict/image", params={"model": "boxes"}, files=files)

    assert (answer.status_code, "one can be drawn" in answer.json()["error"]) == (400, True)


def test_the_server_tells_what_it_serves(http: httpx.Client) -> None:
    listed = http.get("/models").json()["models"]
    info = http.get("/model/info", params={"model": "boxes"}).json()

    assert [(each["name"], each["task"], each["is_ready"]) for each in listed] == [
        ("boxes", "detection", True),
        ("kinds", "classification", True),
    ]
    assert info["manifest"]["classes"] == ["blue", "red"]
    assert info["format"] in info["manifest"]["formats"]
    assert info["reason"] and info["device"] == "cpu"
    assert info["digest"] == listed[0]["digest"]
    assert http.get("/health").json() == {"status": "ready", "models": {"boxes": True, "kinds": True}}


def test_metrics_count_requests_and_phases(http: httpx.Client, images: dict[str, bytes]) -> None:
    for _ in range(2):
        http.post("/predict", params={"model": "boxes"}, content=images["png"])
    http.post("/predict", params={"model": "boxes"}, content=b"nothing")
    http.post("/predict", params={"model": "no-such-model"}, content=b"nothing")

    answer = http.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    for line in (
        'visionyard_serving_requests_total{model="boxes",protocol="http",status="200"}',
        'visionyard_serving_requests_total{model="boxes",protocol="http",status="400"}',
        'visionyard_serving_requests_total{model="",protocol="http",status="404"}',
        'visionyard_serving_phase_seconds_count{model="boxes",phase="decode"}',
        'visionyard_serving_errors_total{error="RequestError",model="boxes"}',
        "process_resident_memory_bytes",
    ):
        assert line in text
    assert "no-such-model" not in text


def test_the_pages_bring_everything_along(http: httpx.Client) -> None:
    docs = http.get("/docs")

    assert docs.status_code == 200
    assert "http" not in docs.text.replace("http-equiv", "")
    assert "default-src 'none'" in docs.headers["content-security-policy"]


def test_the_openapi_document_tells_routes_and_refusals(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()

    assert {"/predict", "/v2/models/{model_name}/infer", "/v1/models/{model_name}:predict"} <= set(document["paths"])
    operation = document["paths"]["/predict"]["post"]
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert {"400", "413", "503"} <= set(operation["responses"])
    assert "422" not in str(document)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/nope", 404, id="unknown-route"),
        pytest.param("GET", "/predict", 405, id="other-method"),
        pytest.param("GET", "/v2/models/nope", 404, id="unknown-model"),
        pytest.param("GET", "/v2/models/..%2f..%2fetc", 404, id="path-trick"),
        pytest.param("GET", "/v2/models/boxes/versions/1", 501, id="versions"),
        pytest.param("POST", "/v1/models/boxes:explain", 400, id="explain-without-body"),
        pytest.param("POST", "/v2/repository/models/nope/load", 404, id="load-unknown"),
        pytest.param("POST", "/v2/repository/models/nope/unload", 404, id="unload-unknown"),
    ],
)
def test_every_route_refuses_in_one_shape(method: str, path: str, status: int, http: httpx.Client) -> None:
    answer = http.request(method, path)

    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "request_id"}


def test_a_model_is_unloaded_and_loaded_again(http: httpx.Client, images: dict[str, bytes]) -> None:
    assert http.post("/v2/repository/models/kinds/unload").json() == {"name": "kinds", "unload": True}
    assert http.post("/predict", params={"model": "kinds"}, content=images["png"]).status_code == 404
    assert http.get("/v2/models/kinds/ready").status_code == 404
    assert [each["name"] for each in http.post("/v2/repository/index").json()] == ["boxes"]

    assert http.post("/v2/repository/models/kinds/load").json() == {"name": "kinds", "load": True}

    assert http.post("/predict", params={"model": "kinds"}, content=images["png"]).status_code == 200
    assert http.get("/v2/models/kinds/ready").json() == {"name": "kinds", "ready": True}


def test_every_line_of_the_log_is_json(server: Any, http: httpx.Client) -> None:
    http.post("/predict", content=b"x", headers={"content-type": "multipart/form-data; boundary=x"})
    http.get("/", headers={"connection": "upgrade", "upgrade": "websocket"})
    http.get("/health")

    assert [line for line in server.log_lines if not line.startswith('{"time"')] == []


def test_a_log_line_tells_a_request_and_nothing_of_its_content(server: Any, http: httpx.Client) -> None:
    marker = b"\xff\xd8\xff secret-payload"
    http.post("/predict", params={"model": "boxes"}, headers={"x-request-id": "log-test"}, content=marker)
    http.get("/health")

    (line,) = [each for each in server.log if each.get("request_id") == "log-test"]

    assert line["event"] == "request" and line["status"] == 400 and line["model"] == "boxes"
    assert {"time", "level", "protocol", "duration_ms", "images"} <= set(line)
    assert "secret-payload" not in "".join(server.log_lines)
