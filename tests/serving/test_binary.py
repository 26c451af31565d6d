"""v2 over REST: JSON tensors and the binary tensor extension give what the library gives."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from visionyard.inference import Predictor
from visionyard.transforms import Classification

HEADER = "Inference-Header-Content-Length"


def bytes_tensor(*elements: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in elements)


def post_binary(http: httpx.Client, name: str, head: dict[str, Any], tail: bytes = b"") -> httpx.Response:
    text = json.dumps(head).encode()
    return http.post(f"/v2/models/{name}/infer", content=text + tail, headers={HEADER: str(len(text))})


def read_binary(answer: httpx.Response) -> dict[str, Any]:
    """Return the outputs of an answer by name: lists of JSON, bytes of binary ones."""
    length = int(answer.headers.get(HEADER, len(answer.content)))
    head, tail = json.loads(answer.content[:length]), answer.content[length:]
    outputs: dict[str, Any] = {}
    for output in head["outputs"]:
        if "data" in output:
            outputs[output["name"]] = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            outputs[output["name"]], tail = tail[:size], tail[size:]
    assert not tail
    return outputs


@pytest.mark.parametrize("name", ["boxes", "kinds"])
@pytest.mark.parametrize("sort", ["png", "exif-rotated", "grey", "rgba", "16-bit", "cmyk"])
@pytest.mark.parametrize("form", ["json", "binary", "pixels"])
def test_images_as_tensors_give_what_the_library_gives(
    form: str,
    sort: str,
    name: str,
    http: httpx.Client,
    images: dict[str, bytes],
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    from visionyard.transforms import decode_image

    image = images[sort]
    if form == "json":
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(image).decode()]}
        answer = http.post(f"/v2/models/{name}/infer", json={"id": "a1", "inputs": [tensor]})
    elif form == "binary":
        raw = bytes_tensor(image)
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
        answer = post_binary(http, name, {"id": "a1", "inputs": [tensor]}, raw)
    else:
        seen = decode_image(image)
        raw = seen.tobytes()
        tensor = {
            "name": "image",
            "shape": list(seen.shape),
            "datatype": "UINT8",
            "parameters": {"binary_data_size": len(raw)},
        }
        answer = post_binary(http, name, {"id": "a1", "inputs": [tensor]}, raw)

    assert answer.status_code == 200, answer.text
    values = answer.json()
    assert (values["id"], values["model_name"]) == ("a1", name)
    outputs = {output["name"]: output for output in values["outputs"]}
    expected = expect(name, image)
    assert_same(json.loads(outputs["predictions"]["data"][0]), expected)
    if isinstance(expected, Classification):
        assert outputs["probabilities"]["data"] == pytest.approx(expected.probabilities.tolist(), abs=1e-4)
    else:
        count = len(expected)
        assert outputs["xyxy"]["shape"] == [count, 4]
        assert outputs["xyxy"]["data"] == pytest.approx(expected.xyxy.ravel().tolist(), abs=1e-3)
        assert outputs["confidence"]["data"] == pytest.approx(expected.confidence.tolist(), abs=1e-4)
        assert outputs["class_id"]["data"] == expected.class_ids.tolist()
        assert outputs["image_index"]["data"] == [0] * count


@pytest.mark.parametrize("name", ["boxes", "kinds"])
@pytest.mark.parametrize("form", ["json", "binary"])
def test_the_own_input_is_answered_by_the_raw_output(
    form: str, name: str, http: httpx.Client, predictors: dict[str, Predictor], pixels: np.ndarray
) -> None:
    predictor = predictors[name]
    batch, _ = predictor.preprocessing.apply_all([pixels, pixels[::-1].copy()])
    expected = predictor.backend.run_all(batch)[0]
    own = http.get(f"/v2/models/{name}").json()
    tensor: dict[str, Any] = {"name": own["inputs"][1]["name"], "shape": list(batch.shape), "datatype": "FP32"}
    if form == "json":
        answer = http.post(f"/v2/models/{name}/infer", json={"inputs": [{**tensor, "data": batch.ravel().tolist()}]})
        found = np.array(answer.json()["outputs"][0]["data"], np.float32)
    else:
        raw = batch.tobytes()
        head = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
        answer = post_binary(http, name, head, raw)
        (data,) = read_binary(answer).values()
        found = np.frombuffer(data, np.float32)

    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-4)


def test_only_requested_outputs_come_each_in_its_form(http: httpx.Client, images: dict[str, bytes]) -> None:
    raw = bytes_tensor(images["png"], images["jpeg"])
    head = {
        "inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": "class_id", "parameters": {"binary_data": True}}, {"name": "predictions"}],
        "parameters": {"confidence": 0.5},
    }

    outputs = read_binary(post_binary(http, "boxes", head, raw))

    assert list(outputs) == ["class_id", "predictions"]
    boxes = [json.loads(text)["boxes"] for text in outputs["predictions"]]
    class_ids = np.frombuffer(outputs["class_id"], np.int64).tolist()
    assert class_ids == [box["class_id"] for each in boxes for box in each]


def test_binary_texts_have_their_length_before_them(http: httpx.Client, images: dict[str, bytes]) -> None:
    raw = bytes_tensor(images["png"])
    head = {
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": "predictions", "parameters": {"binary_data": True}}],
    }

    found = read_binary(post_binary(http, "kinds", head, raw))["predictions"]

    assert int.from_bytes(found[:4], "little") == len(found) - 4
    assert json.loads(found[4:])["width"] == 96


def test_an_id_is_made_when_none_is_sent(http: httpx.Client, images: dict[str, bytes]) -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(images["png"]).decode()]}

    answer = http.post("/v2/models/kinds/infer", json={"inputs": [tensor]})

    assert answer.json()["id"] == answer.headers["x-request-id"]


def _image(**values: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="], **values}


@pytest.mark.parametrize(
    ("head", "tail", "words"),
    [
        pytest.param({}, b"", "inputs", id="no-inputs"),
        pytest.param({"inputs": []}, b"", "at least one", id="empty-inputs"),
        pytest.param({"inputs": [1]}, b"", "inputs[0]", id="input-no-object"),
        pytest.param({"inputs": [_image(), _image()]}, b"", "one input tensor", id="two-inputs"),
        pytest.param({"inputs": [_image(name="nope")]}, b"", "not an input", id="unknown-input"),
        pytest.param({"inputs": [_image(datatype="FP99", name="images")]}, b"", "'FP99' is unknown", id="datatype"),
        pytest.param({"inputs": [_image(shape=[2])]}, b"", "2 elements, got 1", id="shape-not-data"),
        pytest.param({"inputs": [_image(shape=[-1])]}, b"", "none below 0", id="negative-shape"),
        pytest.param({"inputs": [_image(shape="1")]}, b"", "whole numbers", id="shape-text"),
        pytest.param({"inputs": [_image(shape=[True])]}, b"", "whole numbers", id="shape-bool"),
        pytest.param({"inputs": [_image(data=[1])]}, b"", "base64", id="bytes-number"),
        pytest.param({"inputs": [_image(data="AA==")]}, b"", "list", id="data-no-list"),
        pytest.param(
            {"inputs": [_image(data=None, parameters={"binary_data_size": 9})]}, b"abc", "at most the 3", id="cut"
        ),
        pytest.param({"inputs": [_image()]}, b"abc", "3 bytes follow", id="bytes-left"),
        pytest.param(
            {"inputs": [_image(parameters={"binary_data_size": 3})]}, b"abc", "got both", id="data-and-binary"
        ),
        pytest.param(
            {"inputs": [_image(data=None, parameters={"binary_data_size": 8})]},
            (99).to_bytes(4, "little") + b"abcd",
            "says 99 bytes",
            id="element-too-long",
        ),
        pytest.param(
            {"inputs": [{"name": "image", "shape": [2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]}]},
            b"",
            "[H, W, 3]",
            id="pixels-of-other-shape",
        ),
        pytest.param(
            {"inputs": [{"name": "image", "shape": [1, 1, 3], "datatype": "UINT8", "data": [1, 2, 300]}]},
            b"",
            "UINT8",
            id="pixel-over-255",
        ),
        pytest.param(
            {"inputs": [{"name": "image", "shape": [3], "datatype": "UINT8", "data": [[1], [2, 3]]}]},
            b"",
            "different lengths",
            id="ragged",
        ),
        pytest.param({"inputs": [_image()], "outputs": 3}, b"", "outputs", id="outputs-no-list"),
        pytest.param({"inputs": [_image()], "id": 3}, b"", "id", id="id-number"),
        pytest.param({"inputs": [_image()], "parameters": {"iou": 7}}, b"", "iou", id="parameter"),
    ],
)
def test_wrong_tensors_are_refused_with_a_reason(
    head: dict[str, Any], tail: bytes, words: str, http: httpx.Client
) -> None:
    answer = post_binary(http, "boxes", head, tail)

    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def test_an_unknown_output_is_refused(http: httpx.Client, images: dict[str, bytes]) -> None:
    tensor = _image(data=[base64.b64encode(images["png"]).decode()])

    answer = post_binary(http, "boxes", {"inputs": [tensor], "outputs": [{"name": "x"}]})

    assert (answer.status_code, "outputs x" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param([float("nan")], "NaN", id="nan"),
        pytest.param([float("inf")], "NaN or infinity", id="infinity"),
    ],
)
def test_numbers_that_are_none_are_refused(values: list[float], words: str, http: httpx.Client) -> None:
    own = http.get("/v2/models/kinds").json()["inputs"][1]
    batch = np.zeros((1, *own["shape"][1:]), np.float32)
    batch.ravel()[: len(values)] = values
    raw = batch.tobytes()
    tensor = {"name": own["name"], "shape": list(batch.shape), "datatype": "FP32"}

    answer = post_binary(http, "kinds", {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}, raw)

    assert (answer.status_code, words in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "²"])
def test_a_wrong_header_length_is_refused(length: str, http: httpx.Client) -> None:
    answer = http.post("/v2/models/boxes/infer", content=b"{}", headers={HEADER: length.encode("utf-8")})

    assert answer.status_code == 400, answer.text


def test_metadata_list_inputs_and_outputs(http: httpx.Client) -> None:
    boxes, kinds = http.get("/v2/models/boxes").json(), http.get("/v2/models/kinds").json()

    assert boxes["inputs"][0] == {"name": "image", "datatype": "BYTES", "shape": [-1]}
    assert boxes["inputs"][1]["datatype"] == "FP32"
    assert [each["name"] for each in boxes["outputs"]][:5] == [
        "predictions", "image_index", "xyxy", "confidence", "class_id",
    ]  # fmt: skip
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]} in kinds["outputs"]
    assert http.get("/v2").json()["extensions"] == ["model_repository_extension", "binary_tensor_data"]
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/health/live").json() == {"live": True}
