"""JSON and tensors that are not what they seem: depth, numbers, texts, shapes, datatypes, parameters, names."""

import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

INFER = "/v2/models/boxes/infer"
JSON_ROUTES = ["/predict?model=boxes", "/v1/models/boxes:predict", INFER]
# Ordinarily milliseconds; loose, so that a busy machine makes no failure.
AWAKE_S = 3.0
HUGE = "9" * 5000


def post(http: httpx.Client, path: str, body: str | bytes, **headers: str) -> httpx.Response:
    return http.post(path, content=body, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{", id="open"),
        pytest.param(b'{"images": [}', id="broken"),
        pytest.param(b"[" * 100_000, id="depth, open"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="depth"),
        pytest.param(b'{"images":' * 50_000 + b"1" + b"}" * 50_000, id="depth of objects"),
        pytest.param(b'{"images": "\xff\xfe", "instances": "\xff"}', id="not UTF-8"),
        pytest.param(b"\xff\xfe{\0}\0", id="UTF-16"),
        pytest.param(b'{"images": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"images": [1e400]}', id="huge number"),
        pytest.param(b'{"images": [' + HUGE.encode() + b"]}", id="huge whole number"),
        pytest.param(b'{"images": [NaN], "instances": [Infinity]}', id="NaN"),
        pytest.param(b'{"images": [], "images": 3, "instances": [], "inputs": []}', id="twice the same key"),
        pytest.param(b'{"images": [{"b64": "x"}], "__proto__": {}, "inputs": 5, "instances": {}}', id="unknown keys"),
        pytest.param(b'"' + b"a" * 1_000_000 + b'"', id="one long text"),
        pytest.param(b"\0" * 1000, id="NUL"),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, path: str, body: bytes
) -> None:
    hostile.refused(post(http, path, body), 400)


@pytest.mark.parametrize("path", ["/predict?model=boxes", "/v1/models/boxes:predict"])
@pytest.mark.parametrize(
    "image",
    [
        pytest.param(None, id="null"),
        pytest.param(5, id="number"),
        pytest.param("not base64!", id="not base64"),
        pytest.param("é" * 100, id="not ASCII"),
        pytest.param({"b64": None}, id="b64 null"),
        pytest.param({"b64": 5}, id="b64 number"),
        pytest.param({"b64": ""}, id="b64 empty"),
        pytest.param({"b64": "AAAA", "url": "http://x"}, id="two forms"),
        pytest.param({"path": "/etc/passwd"}, id="path"),
        pytest.param({"url": 5}, id="url number"),
        pytest.param([], id="no pixels"),
        pytest.param([[]], id="one empty row"),
        pytest.param([[[1, 2]]], id="two channels"),
        pytest.param([[[1, 2, 3], [1, 2]]], id="ragged"),
        pytest.param([[[0, 0, 256]]], id="too bright"),
        pytest.param([[[0, 0, -1]]], id="negative"),
        pytest.param([[[0.5, 0, 0]]], id="fractions"),
        pytest.param([[["a", "b", "c"]]], id="texts"),
        pytest.param([[[True, False, True]]], id="booleans"),
        pytest.param([[[None, None, None]]], id="nulls"),
        pytest.param([[[2**63, 0, 0]]], id="beyond 64 bit"),
    ],
)
def test_an_image_that_is_none_is_refused(http: httpx.Client, hostile: SimpleNamespace, path: str, image: Any) -> None:
    key = "instances" if path.startswith("/v1") else "images"
    hostile.refused(http.post(path, json={key: [image]}), 400)


@pytest.mark.parametrize("path", ["/predict?model=boxes", "/v1/models/boxes:predict"])
def test_texts_among_pixels_take_no_memory(
    http: httpx.Client, server: Any, hostile: SimpleNamespace, path: str
) -> None:
    """numpy would make every element as wide as the longest text: 1 MB x 4 bytes x 3,000 elements are 12 GB."""
    key = "instances" if path.startswith("/v1") else "images"
    image = [[["a" * 1_000_000, "b", "c"], *[["a", "b", "c"]] * 1000]]
    hostile.refused(http.post(path, json={key: [image]}), 400)


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT8", "BOOL"])
def test_texts_among_numbers_take_no_memory(http: httpx.Client, hostile: SimpleNamespace, datatype: str) -> None:
    data = ["a" * 1_000_000, *["b"] * 3000]
    body = infer_body(name="images" if datatype != "UINT8" else "image", datatype=datatype, shape=[3001], data=data)
    hostile.refused(http.post(INFER, json=body), 400, 413)


def infer_body(**tensor: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3], **tensor}]}


@pytest.fixture(scope="module")
def own_input(http: httpx.Client) -> dict[str, Any]:
    """The model's own input: name and shape."""
    inputs = http.get("/v2/models/boxes").json()["inputs"]
    return next(each for each in inputs if each["datatype"] == "FP32")


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param({"shape": [1, 1, 4]}, id="shape beyond data"),
        pytest.param({"shape": [1, 1, 1]}, id="shape below data"),
        pytest.param({"shape": [-1, 1, 3]}, id="shape -1"),
        pytest.param({"shape": [-1, -1, 3]}, id="two negatives"),
        pytest.param({"shape": [2**31, 2**31, 3]}, id="shape huge"),
        pytest.param({"shape": [2**62, 4, 3]}, id="shape that overflows"),
        pytest.param({"shape": [0, 2**62, 3], "data": []}, id="nothing times huge"),
        pytest.param({"shape": [10**9, 0, 0, 3], "data": []}, id="a thousand million empty images"),
        pytest.param({"shape": [0, 0, 3], "data": []}, id="empty"),
        pytest.param({"shape": []}, id="no dimension"),
        pytest.param({"shape": [1] * 1000}, id="a thousand dimensions"),
        pytest.param({"shape": [1, 1, 3.0]}, id="a fraction"),
        pytest.param({"shape": [1, 1, True]}, id="a boolean"),
        pytest.param({"shape": ["1", "1", "3"]}, id="texts"),
        pytest.param({"shape": None}, id="shape null"),
        pytest.param({"shape": 3}, id="shape number"),
        pytest.param({"shape": {"0": 1}}, id="shape object"),
        pytest.param({"data": [1, 2, 300]}, id="beyond the datatype"),
        pytest.param({"data": [1, 2, -3]}, id="below the datatype"),
        pytest.param({"data": [1, 2, "3"]}, id="a text"),
        pytest.param({"data": [1, 2, None]}, id="a null"),
        pytest.param({"data": [[1], [2, 3]]}, id="ragged"),
        pytest.param({"data": [{}, {}, {}]}, id="objects"),
        pytest.param({"data": "AAAA"}, id="data text"),
        pytest.param({"data": {}}, id="data object"),
        pytest.param({"data": None}, id="data null"),
        pytest.param({"datatype": "UINT9"}, id="unknown datatype"),
        pytest.param({"datatype": "x" * 10_000}, id="long datatype"),
        pytest.param({"datatype": 5}, id="datatype number"),
        pytest.param({"datatype": "BYTES", "shape": [3]}, id="numbers as BYTES"),
        pytest.param({"datatype": "BYTES", "shape": [1], "data": [["AAAA", ["AAAA"]]]}, id="BYTES too deep"),
        pytest.param({"datatype": "BYTES", "shape": [10**6], "data": ["AAAA"]}, id="BYTES of another count"),
        pytest.param({"name": "x" * 100_000}, id="long name"),
        pytest.param({"name": "../../etc/passwd"}, id="name of a path"),
        pytest.param({"name": None}, id="no name"),
        pytest.param({"parameters": {"binary_data_size": 10**9}}, id="binary without any"),
        pytest.param({"parameters": {"binary_data_size": -1}}, id="binary below none"),
        pytest.param({"parameters": {"binary_data_size": 0}}, id="binary and data"),
        pytest.param({"parameters": []}, id="parameters list"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, tensor: dict[str, Any]
) -> None:
    hostile.refused(http.post(INFER, json=infer_body(**tensor)), 400, 413)


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "1e400", "1e39"])
def test_a_number_that_is_none_in_the_models_own_input_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, own_input: dict[str, Any], bad: str
) -> None:
    shape = [1, *own_input["shape"][1:]]
    data = ",".join([bad, *["0.5"] * (math.prod(shape) - 1)])
    tensor = f'{{"name":"{own_input["name"]}","datatype":"FP32","shape":{shape},"data":[{data}]}}'
    hostile.refused(post(http, INFER, f'{{"inputs":[{tensor}]}}'), 400)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_nan_in_a_binary_tensor_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, own_input: dict[str, Any], value: float
) -> None:
    import numpy as np

    shape = [1, *own_input["shape"][1:]]
    values = np.zeros(shape, np.float32)
    values.ravel()[-1] = value
    raw = values.tobytes()
    head = json.dumps(
        {"inputs": [{"name": own_input["name"], "datatype": "FP32", "shape": shape,
                     "parameters": {"binary_data_size": len(raw)}}]}
    ).encode()  # fmt: skip
    answer = http.post(INFER, content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))})
    assert "NaN" in hostile.refused(answer, 400)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param([0, 2**62], id="nothing times huge"),
        pytest.param([10**9, 3, 0, 0], id="empty images"),
        pytest.param([1], id="too few dimensions"),
        pytest.param([1, 3, 1, 1], id="too small"),
    ],
)
def test_another_shape_of_the_models_own_input_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, own_input: dict[str, Any], shape: list[int]
) -> None:
    body = infer_body(name=own_input["name"], datatype="FP32", shape=shape, data=[0.5] * math.prod(shape))
    hostile.refused(http.post(INFER, json=body), 400, 413)


def test_millions_of_empty_elements_do_not_stop_the_others(
    http: httpx.Client, hostile: SimpleNamespace, stays_awake: Callable[[], float]
) -> None:
    """16 MiB of zeros are four million elements of no bytes."""
    raw = bytes(16 * 2**20)
    head = json.dumps(
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(raw) // 4],
                     "parameters": {"binary_data_size": len(raw)}}]}
    ).encode()  # fmt: skip
    answer = http.post(INFER, content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))})
    hostile.refused(answer, 400, 413)
    assert answer.elapsed.total_seconds() < 3
    assert stays_awake() < AWAKE_S


@pytest.mark.parametrize(
    "length",
    ["-1", "99999999", "abc", "1.5", "0x10", "", " ", "٣", HUGE, "+5", "1e3"],
    ids=lambda text: text[:8] or "empty",
)
def test_a_wrong_inference_header_length_is_refused(wire: Any, hostile: SimpleNamespace, length: str) -> None:
    """All but the empty one, which counts as none."""
    body = json.dumps(infer_body()).encode()
    headers = {"Content-Length": str(len(body)), "Inference-Header-Content-Length": length.encode().decode("latin-1")}
    answer = wire.post(INFER, headers, body)
    if length.strip():
        assert "Content-Length" in hostile.refused(answer, 400)
    else:
        assert answer.status == 200


@pytest.mark.parametrize("name", ["confidence", "iou", "max_detections", "top_k"])
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-1", "1e400", HUGE, "abc", "\u0663.5", "1_0.5_", "0x1"], ids=lambda text: text[:6]
)
def test_a_parameter_out_of_range_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, images: dict[str, bytes], name: str, value: str
) -> None:
    answer = http.post("/predict", params={"model": "boxes", name: value}, content=images["png"])
    assert name in hostile.refused(answer, 400)


@pytest.mark.parametrize(
    "value", [[], {}, [1], {"a": 1}, True, "x" * 10_000], ids=["list", "object", "one", "a", "true", "long"]
)
def test_a_parameter_of_another_type_is_refused(http: httpx.Client, hostile: SimpleNamespace, value: Any) -> None:
    body = {"images": [{"b64": hostile.b64(hostile.png(8, 8))}], "parameters": {"confidence": value}}
    assert "confidence" in hostile.refused(http.post("/predict?model=boxes", json=body), 400)


@pytest.mark.parametrize(
    "name",
    ["..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e", "boxes%00", "%00", "boxes/../kinds",
     "x" * 8000, "%F0%9F%90%8D", "%ff%fe", "boxes%0d%0aX-Evil:1", "%252e%252e", "C:%5Cwindows", "//boxes",
     "boxes;kinds", "${jndi:x}"],
    ids=lambda text: text[:24],
)  # fmt: skip
@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/{}",
        "/v2/models/{}/infer",
        "/v1/models/{}:predict",
        "/v2/repository/models/{}/load",
        "/predict?model={}",
    ],
)
def test_a_model_name_with_tricks_is_not_found(wire: Any, hostile: SimpleNamespace, path: str, name: str) -> None:
    """Sent as it is: a client library would tidy it up. v1 models named in a query are asked for by a picture."""
    body = hostile.png(8, 8) if "predict?" in path else json.dumps(infer_body()).encode()
    kind = "image/png" if "predict?" in path else "application/json"
    if path == "/v2/models/{}":
        answer = wire.send(f"GET {path.format(name)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    else:
        answer = wire.post(path.format(name), {"Content-Type": kind, "Content-Length": str(len(body))}, body)
    message = hostile.refused(answer, 400, 404, 405, 431)
    assert "root:" not in message


def test_no_route_lists_or_reads_files(wire: Any, hostile: SimpleNamespace) -> None:
    for path in (
        "/../../../etc/passwd",
        "/static/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/.git/config",
        "/.env",
    ):
        hostile.refused(wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()), 400, 404)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_the_repository_takes_no_path_in_the_body(http: httpx.Client, hostile: SimpleNamespace, verb: str) -> None:
    body = {"parameters": {"config": "{}", "file:1/model.onnx": "AAAA", "path": "/etc"}}
    hostile.refused(http.post(f"/v2/repository/models/passwd/{verb}", json=body), 400, 404)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({"ce-specversion": "1.0"}, b"{}", id="binary, nothing else"),
        pytest.param(
            {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "x", "ce-type": "y"}, b"\xff\xfe", id="binary"
        ),
        pytest.param({"ce-specversion": "9.9", "ce-id": "1", "ce-source": "x", "ce-type": "y"}, b"{}", id="version"),
        pytest.param({"content-type": "application/cloudevents+json"}, b"{}", id="structured, empty"),
        pytest.param({"content-type": "application/cloudevents+json"}, b"[1", id="structured, broken"),
        pytest.param({"content-type": "application/cloudevents+json"}, b"null", id="structured, null"),
        pytest.param(
            {"content-type": "application/cloudevents+json"},
            b'{"specversion": "1.0", "id": "1", "source": "x", "type": "y", "data_base64": "!"}',
            id="structured, not base64",
        ),
    ],
)
def test_a_cloud_event_that_is_none_is_refused(
    http: httpx.Client, hostile: SimpleNamespace, headers: dict[str, str], body: bytes
) -> None:
    answer = http.post(
        "/v1/models/boxes:predict", content=body, headers={"content-type": "application/json", **headers}
    )
    hostile.refused(answer, 400)


@pytest.mark.parametrize(
    "query", ["&".join(["confidence=0.5"] * 5000), "a=b&" * 10_000, "%", "%zz=%", "=&=&="], ids=str.__len__
)
def test_a_query_of_nonsense_is_answered_or_refused(wire: Any, hostile: SimpleNamespace, query: str) -> None:
    body = hostile.png(8, 8)
    headers = {"Content-Type": "image/png", "Content-Length": str(len(body))}
    answer = wire.post(f"/predict?model=boxes&{query}", headers, body)
    if answer.status != 200:
        hostile.refused(answer, 400, 414, 431)
