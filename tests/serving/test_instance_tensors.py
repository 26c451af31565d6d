"""Masks and keypoints as v2 tensors, of several images a request: JSON, binary and gRPC, held against the texts."""

import base64
import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.instance_models import POINTS, SIDE
from visionyard.client import Client, DetectedImage
from visionyard.geometry import Mask
from visionyard.serving.kserve_sdk import GRPCInferenceServiceStub, pb

HEADER = "Inference-Header-Content-Length"
# Dark, bright and small: the model finds one object, two, and one.
SIZES_HW = [(160, 96), (50, 120), (30, 30)]
LEVELS = [60, 255, 60]
# Of the largest height and the largest width, so that each image lies in it.
ALL_HW = (160, 120)
DTYPES = {"INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}
TYPED = {"INT64": "int64_contents", "FP32": "fp32_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}


def encode(height: int, width: int, level: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


IMAGES = [encode(*size_hw, level) for size_hw, level in zip(SIZES_HW, LEVELS, strict=True)]


@pytest.fixture(scope="module")
def http(instances: Any) -> Iterator[httpx.Client]:
    """Return a client of the server."""
    with httpx.Client(base_url=instances.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def stub(instances: Any) -> Iterator[Any]:
    """Return KServe's stub of the server."""
    with grpc.insecure_channel(instances.grpc) as channel:
        yield GRPCInferenceServiceStub(channel)


def split(raw: bytes) -> list[bytes]:
    """Return the elements of raw BYTES."""
    elements = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        elements.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return elements


def to_values(output: Any, data: Any) -> Any:
    """Return what an output holds, as an array or as the elements of BYTES."""
    if output["datatype"] == "BYTES":
        elements = split(data) if isinstance(data, bytes) else [one.encode() for one in data]
        assert output["shape"] == [len(elements)]
        return elements
    dtype = DTYPES[output["datatype"]]
    values = np.frombuffer(data, dtype) if isinstance(data, bytes) else np.array(data, dtype)
    return values.reshape(output["shape"])


def by_rest(
    http: httpx.Client, model: str, images: list[bytes], names: list[str] | None, *, is_binary: bool, **parameters: Any
) -> httpx.Response:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)]}
    body = {
        "inputs": [{**tensor, "data": [base64.b64encode(one).decode() for one in images]}],
        "parameters": {**parameters, "binary_data_output": is_binary},
    }
    if names:
        body["outputs"] = [{"name": name} for name in names]
    return http.post(f"v2/models/{model}/infer", json=body)


def read_rest(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(HEADER, len(answer.content)))
    head, tail = json.loads(answer.content[:length]), answer.content[length:]
    found = {}
    for output in head["outputs"]:
        data = output.get("data")
        if data is None:
            size = output["parameters"]["binary_data_size"]
            data, tail = tail[:size], tail[size:]
        found[output["name"]] = to_values(output, data)
    assert not tail
    return found


def by_grpc(
    stub: Any, model: str, images: list[bytes], names: list[str] | None, *, is_raw: bool, **parameters: Any
) -> dict[str, Any]:
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[len(images)])
    raw = []
    if is_raw:
        raw = [b"".join(len(one).to_bytes(4, "little") + one for one in images)]
    else:
        tensor.contents.bytes_contents.extend(images)
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[tensor],
        raw_input_contents=raw,
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names or []],
        parameters={name: pb.InferParameter(string_param=str(value)) for name, value in parameters.items()},
    )
    answer = stub.ModelInfer(request)
    found = {}
    for place, output in enumerate(answer.outputs):
        about = {"datatype": output.datatype, "shape": list(output.shape)}
        if answer.raw_output_contents:
            found[output.name] = to_values(about, answer.raw_output_contents[place])
        else:
            data = list(getattr(output.contents, TYPED[output.datatype]))
            found[output.name] = data if output.datatype == "BYTES" else to_values(about, data)
    return found


def ask(
    form: str, http: httpx.Client, stub: Any, model: str, names: list[str] | None = None, **parameters: Any
) -> dict[str, Any]:
    """Ask about all images by one form of the protocol."""
    if form.startswith("grpc"):
        return by_grpc(stub, model, IMAGES, names, is_raw=form == "grpc-raw", **parameters)
    return read_rest(by_rest(http, model, IMAGES, names, is_binary=form == "rest-binary", **parameters))


def masks_of(outputs: dict[str, Any]) -> list[Mask]:
    """Return the masks as a caller puts them together from the outputs."""
    sizes = outputs["image_hw"][outputs["image_index"]].tolist()
    return [
        Mask.from_json({"size": size, "counts": counts.decode()})
        for size, counts in zip(sizes, outputs["masks"], strict=True)
    ]


FORMS = ["rest-json", "rest-binary", "grpc-raw", "grpc-typed"]


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_several_images_are_those_of_the_texts(form: str, http: httpx.Client, stub: Any) -> None:
    outputs = ask(form, http, stub, "discs")

    assert set(outputs) == {
        "predictions", "image_index", "xyxy", "confidence", "class_id", "image_hw", "masks",
    }  # fmt: skip
    assert outputs["image_index"].tolist() == [0, 1, 1, 2]
    assert outputs["image_hw"].tolist() == [list(size_hw) for size_hw in SIZES_HW]
    texts = [box["mask"]["rle"] for text in outputs["predictions"] for box in json.loads(text)["boxes"]]
    assert [mask.to_json() for mask in masks_of(outputs)] == texts
    assert all(mask.area > 20 for mask in masks_of(outputs))


def test_cocos_tools_read_the_strings(http: httpx.Client, stub: Any) -> None:
    coco = pytest.importorskip("faster_coco_eval.core.mask", reason="needs faster-coco-eval")
    outputs = ask("rest-binary", http, stub, "discs")
    for place, image in enumerate(outputs["image_index"]):
        size_hw = outputs["image_hw"][image].tolist()
        pixels = coco.decode({"size": size_hw, "counts": outputs["masks"][place]})
        assert np.array_equal(pixels, masks_of(outputs)[place].to_array())


@pytest.mark.parametrize("form", ["rest-binary", "grpc-raw", "grpc-typed"])
def test_pixels_come_where_they_are_asked_for(form: str, http: httpx.Client, stub: Any) -> None:
    names = ["mask_pixels", "image_index", "masks", "image_hw", "mask_pixels"]
    outputs = ask(form, http, stub, "discs", names)

    assert list(outputs) == names[:4]
    pixels = outputs["mask_pixels"]
    assert (pixels.dtype, pixels.shape) == (np.bool_, (4, *ALL_HW))
    for found, mask in zip(pixels, masks_of(outputs), strict=True):
        height, width = mask.size_hw
        assert np.array_equal(found[:height, :width], mask.to_array())
        assert found.sum() == mask.area, "nothing lies beside the image"


def test_pixels_come_in_json_too(http: httpx.Client) -> None:
    outputs = read_rest(by_rest(http, "discs", IMAGES[:1], ["mask_pixels", "masks"], is_binary=False))

    mask = Mask.from_json({"size": SIZES_HW[0], "counts": outputs["masks"][0].decode()})
    assert np.array_equal(outputs["mask_pixels"], mask.to_array()[None])


def test_too_many_pixels_are_refused(http: httpx.Client, stub: Any) -> None:
    # 122880 pixels where 104857 are allowed; in JSON 30720 where 17476 are.
    eight = [encode(160, 96, 255)] * 4
    binary = by_rest(http, "discs", eight, ["mask_pixels"], is_binary=True)
    text = by_rest(http, "discs", eight[:1], ["mask_pixels"], is_binary=False)
    with pytest.raises(grpc.RpcError) as raised:
        by_grpc(stub, "discs", eight, ["mask_pixels"], is_raw=True)

    for answer, words in ((binary, "8 masks of 160x96 px are more than the 104857"), (text, "than the 17476")):
        assert answer.status_code == 413
        assert words in answer.json()["error"] and "limits.max_mask_mib" in answer.json()["error"]
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "8 masks" in raised.value.details()
    assert "masks" in read_rest(by_rest(http, "discs", eight, None, is_binary=True)), "run lengths have no such bound"


@pytest.mark.parametrize("form", FORMS)
def test_keypoints_lie_in_each_image(form: str, http: httpx.Client, stub: Any) -> None:
    outputs = ask(form, http, stub, "points")

    assert "masks" not in outputs
    assert outputs["keypoints"].shape == (3, 2, 3)
    for (height, width), points in zip(SIZES_HW, outputs["keypoints"], strict=True):
        size_wh = np.array([width, height])
        inner_wh = np.round(size_wh * min(SIDE / height, SIDE / width))
        for (x, y, confidence), found in zip(POINTS, points, strict=True):
            place = (np.array([x, y]) - (SIDE - inner_wh) // 2) * size_wh / inner_wh
            assert found.tolist() == pytest.approx([*np.clip(place, 0, size_wh), confidence], abs=0.01)
    texts = [box["keypoints"] for text in outputs["predictions"] for box in json.loads(text)["boxes"]]
    np.testing.assert_allclose(outputs["keypoints"], texts, atol=0.0051)  # two digits are given


def test_masks_that_are_not_wanted_stay_away_unless_they_are_named(http: httpx.Client) -> None:
    without = read_rest(by_rest(http, "discs", IMAGES, None, is_binary=True, masks="none"))
    named = read_rest(by_rest(http, "discs", IMAGES, ["masks", "predictions"], is_binary=True, masks="none"))
    outlines = read_rest(by_rest(http, "discs", IMAGES, None, is_binary=True, masks="polygons"))

    assert "masks" not in without and "mask" not in json.loads(without["predictions"][0])["boxes"][0]
    assert len(named["masks"]) == 4 and "mask" not in json.loads(named["predictions"][0])["boxes"][0]
    assert outlines["masks"] == named["masks"]
    assert "polygons" in json.loads(outlines["predictions"][0])["boxes"][0]


@pytest.mark.parametrize("form", FORMS)
def test_without_objects_the_outputs_are_empty(form: str, http: httpx.Client, stub: Any) -> None:
    names = ["masks", "image_index"] if form in {"rest-json", "grpc-typed"} else ["masks", "image_index", "mask_pixels"]
    discs = ask(form, http, stub, "discs", names, confidence=0.99)
    points = ask(form, http, stub, "points", ["keypoints"], confidence=0.99)

    assert discs["masks"] == [] and discs["image_index"].shape == (0,)
    if "mask_pixels" in names:
        assert discs["mask_pixels"].shape == (0, *ALL_HW)
    assert points["keypoints"].shape == (0, 2, 3)


def test_a_model_without_masks_gives_none(http: httpx.Client) -> None:
    answer = by_rest(http, "points", IMAGES[:1], ["masks"], is_binary=True)

    assert answer.status_code == 400
    assert "outputs masks: not given here; known: predictions, image_index" in answer.json()["error"]


def test_metadata_tell_them(http: httpx.Client, stub: Any) -> None:
    discs, points = (
        {one["name"]: (one["datatype"], one["shape"]) for one in http.get(f"v2/models/{name}").json()["outputs"]}
        for name in ("discs", "points")
    )
    told = stub.ModelMetadata(pb.ModelMetadataRequest(name="discs")).outputs

    assert discs["masks"] == ("BYTES", [-1]) and discs["mask_pixels"] == ("BOOL", [-1, -1, -1])
    assert discs["image_hw"] == ("INT64", [-1, 2]) and "keypoints" not in discs
    assert points["keypoints"] == ("FP32", [-1, 2, 3]) and "masks" not in points
    assert {one.name: (one.datatype, list(one.shape)) for one in told} == discs


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_gives_them_for_several_images(protocol: str, instances: Any, http: httpx.Client, stub: Any) -> None:
    address = instances.url if protocol == "http" else f"grpc://{instances.grpc}"
    with Client(address) as client:
        discs = client.predict_many(IMAGES, model="discs")
        points = client.predict_many(IMAGES, model="points")

    seen = [box for one in discs if isinstance(one, DetectedImage) for box in one.boxes]
    assert [box.mask for box in seen] == masks_of(ask("rest-binary", http, stub, "discs"))
    found = [box.keypoints for one in points if isinstance(one, DetectedImage) for box in one.boxes]
    tensor = ask("rest-binary", http, stub, "points")["keypoints"]
    np.testing.assert_allclose(np.array(found), tensor, atol=0.0051)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritons_client_reads_them(
    protocol: str, instances: Any, http: httpx.Client, stub: Any, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient[http,grpc]")
    for place, image in enumerate(IMAGES):
        (tmp_path / f"{place}.png").write_bytes(image)
    address = instances.url.removeprefix("http://") if protocol == "http" else instances.grpc
    command = [
        sys.executable,
        str(Path(__file__).parent / "triton_instances_child.py"),
        protocol,
        address,
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    told = json.loads(done.stdout)
    expected = ask("rest-binary", http, stub, "discs", ["masks", "mask_pixels", "image_hw", "image_index"])
    assert [each.encode() for each in told["masks"]] == expected["masks"]
    assert (told["mask_dtype"], tuple(told["mask_shape"])) == ("bool", expected["mask_pixels"].shape)
    assert bytes.fromhex(told["mask_pixels"]) == np.packbits(expected["mask_pixels"]).tobytes()
    assert told["image_hw"] == expected["image_hw"].tolist()
    assert told["image_index"] == expected["image_index"].tolist()
    assert np.array(told["keypoints"]).shape == (3, 2, 3)
