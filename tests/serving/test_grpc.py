"""v2 over gRPC, with KServe's own stubs: raw and typed contents, codes, metadata."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from visionyard.inference import Predictor
from visionyard.serving.kserve_sdk import GRPCInferenceServiceStub, pb
from visionyard.transforms import Classification, decode_image


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[Any]:
    """Return a stub of the module's server."""
    with grpc.insecure_channel(server.grpc) as channel:
        yield GRPCInferenceServiceStub(channel)


def raw_request(name: str, tensor: str, shape: list[int], datatype: str, raw: bytes, **more: Any) -> Any:
    inputs = [pb.ModelInferRequest.InferInputTensor(name=tensor, shape=shape, datatype=datatype)]
    return pb.ModelInferRequest(model_name=name, inputs=inputs, raw_input_contents=[raw], **more)


def image_request(name: str, *images: bytes, **more: Any) -> Any:
    raw = b"".join(len(each).to_bytes(4, "little") + each for each in images)
    return raw_request(name, "image", [len(images)], "BYTES", raw, **more)


def texts(answer: Any) -> list[dict[str, Any]]:
    """Return the predictions of an answer, raw or typed."""
    index = [output.name for output in answer.outputs].index("predictions")
    if not answer.raw_output_contents:
        return [json.loads(each) for each in answer.outputs[index].contents.bytes_contents]
    raw, found = answer.raw_output_contents[index], []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        found.append(json.loads(raw[4 : 4 + length]))
        raw = raw[4 + length :]
    return found


@pytest.mark.parametrize("name", ["boxes", "kinds"])
@pytest.mark.parametrize("sort", ["png", "exif-rotated", "grey", "rgba", "16-bit", "cmyk"])
@pytest.mark.parametrize("form", ["raw", "typed", "pixels"])
def test_images_give_what_the_library_gives(
    form: str,
    sort: str,
    name: str,
    stub: Any,
    images: dict[str, bytes],
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    image = images[sort]
    if form == "raw":
        request = image_request(name, image)
    elif form == "typed":
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", shape=[1], datatype="BYTES")
        tensor.contents.bytes_contents.append(image)
        request = pb.ModelInferRequest(model_name=name, inputs=[tensor])
    else:
        seen = decode_image(image)
        request = raw_request(name, "image", list(seen.shape), "UINT8", seen.tobytes())

    answer = stub.ModelInfer(request)

    expected = expect(name, image)
    assert_same(texts(answer)[0], expected)
    assert bool(answer.raw_output_contents) == (form != "typed")
    assert answer.id
    last = answer.outputs[-1]
    if isinstance(expected, Classification):
        values = (
            np.frombuffer(answer.raw_output_contents[-1], np.float32)
            if form != "typed"
            else np.array(last.contents.fp32_contents)
        )
        assert values.tolist() == pytest.approx(expected.probabilities.tolist(), abs=1e-4)
    else:
        shapes = {output.name: list(output.shape) for output in answer.outputs}
        assert shapes["class_id"] == [len(expected)]
        assert shapes["image_hw"] == [1, 2]


@pytest.mark.parametrize("name", ["boxes", "kinds"])
def test_the_own_input_is_answered_by_the_raw_output(
    name: str, stub: Any, predictors: dict[str, Predictor], pixels: np.ndarray
) -> None:
    batch, _ = predictors[name].preprocessing.apply_all([pixels])
    expected = predictors[name].backend.run_all(batch)[0]
    own = stub.ModelMetadata(pb.ModelMetadataRequest(name=name)).inputs[1]

    answer = stub.ModelInfer(raw_request(name, own.name, list(batch.shape), "FP32", batch.tobytes()))

    found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(pb.InferParameter(string_param="1"), id="text"),
        pytest.param(pb.InferParameter(int64_param=1), id="integer"),
    ],
)
def test_parameters_and_requested_outputs_hold(value: Any, stub: Any, images: dict[str, bytes]) -> None:
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name="predictions")]

    answer = stub.ModelInfer(
        image_request("kinds", images["png"], id="my", parameters={"top_k": value}, outputs=outputs)
    )

    assert [output.name for output in answer.outputs] == ["predictions"]
    assert len(texts(answer)[0]["top"]) == 1
    assert answer.id == "my"


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        pytest.param(image_request("nope", b"x"), grpc.StatusCode.NOT_FOUND, "served: boxes, kinds", id="model"),
        pytest.param(image_request("boxes", b"x"), grpc.StatusCode.INVALID_ARGUMENT, "not an image", id="no-image"),
        pytest.param(
            image_request("boxes", *[b"x"] * 17), grpc.StatusCode.INVALID_ARGUMENT, "17 images", id="too-many"
        ),
        pytest.param(
            raw_request("boxes", "image", [1], "BYTES", b"\xff\0\0\0a"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "says 255 bytes",
            id="cut",
        ),
        pytest.param(
            raw_request("boxes", "images", [1, 3, 2, 2], "FP32", b"\0" * 47),
            grpc.StatusCode.INVALID_ARGUMENT,
            "has 48 bytes",
            id="size",
        ),
        pytest.param(
            raw_request("boxes", "images", [1, 3, 2, 2], "FP77", b"\0" * 48),
            grpc.StatusCode.INVALID_ARGUMENT,
            "known datatype",
            id="datatype",
        ),
        pytest.param(
            raw_request("boxes", "image", [-(2**40)], "UINT8", b""),
            grpc.StatusCode.INVALID_ARGUMENT,
            "none below 0",
            id="negative-shape",
        ),
        pytest.param(
            image_request("boxes", b"x", parameters={"iou": pb.InferParameter(string_param="much")}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "iou",
            id="parameter",
        ),
        pytest.param(
            pb.ModelInferRequest(model_name="boxes"), grpc.StatusCode.INVALID_ARGUMENT, "one input", id="none"
        ),
        pytest.param(
            pb.ModelInferRequest(
                model_name="boxes",
                inputs=[pb.ModelInferRequest.InferInputTensor(name="image", shape=[1], datatype="BYTES")],
                raw_input_contents=[b"", b""],
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "raw",
            id="two-contents",
        ),
    ],
)
def test_what_cannot_be_answered_has_a_code_and_a_reason(
    request_: Any, code: grpc.StatusCode, words: str, stub: Any
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_)

    error: Any = caught.value
    assert error.code() == code, error.details()
    assert words in error.details()
    assert dict(error.trailing_metadata())["x-request-id"]


def test_a_message_over_the_limit_is_refused(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(image_request("boxes", b"\0" * (21 * 2**20)))

    error: Any = caught.value
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_server_tells_what_it_is(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="boxes")).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "visionyard"
    found = stub.ModelMetadata(pb.ModelMetadataRequest(name="kinds"))
    first = found.inputs[0]
    assert (first.name, first.datatype, list(first.shape)) == ("image", "BYTES", [-1])
    assert [each.name for each in found.outputs][:2] == ["predictions", "probabilities"]


def test_a_model_is_unloaded_and_loaded_again(stub: Any, images: dict[str, bytes]) -> None:
    assert stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="kinds")).isUnloaded
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(image_request("kinds", images["png"]))
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.NOT_FOUND

    assert stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="kinds")).isLoaded

    assert texts(stub.ModelInfer(image_request("kinds", images["png"])))[0]["width"] == 96


def test_the_request_id_comes_back(stub: Any, images: dict[str, bytes]) -> None:
    _, call = stub.ModelInfer.with_call(image_request("kinds", images["png"]), metadata=(("x-request-id", "my-7"),))

    assert dict(call.trailing_metadata())["x-request-id"] == "my-7"
