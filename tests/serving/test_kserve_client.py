"""KServe's inference clients, REST and gRPC, talk to the server unmodified."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from visionyard.inference import Predictor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _request(images: list[bytes], *, is_binary: bool) -> Any:
    from kserve.protocol.infer_type import InferInput, InferRequest

    tensor = InferInput("image", [len(images)], "BYTES")
    values = images if is_binary else [base64.b64encode(image) for image in images]
    tensor.set_data_from_numpy(np.array(values, np.object_), binary_data=is_binary)
    return InferRequest("boxes", [tensor], request_id="k-1")


@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "binary"])
def test_rest(
    is_binary: bool,
    server: Any,
    images: dict[str, bytes],
    expect: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    from kserve.inference_client import InferenceRESTClient, RESTConfig

    async def ask() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
        try:
            assert await client.is_server_ready(server.url)
            assert await client.is_model_ready(server.url, "boxes")
            return await client.infer(server.url, _request([images["png"]], is_binary=is_binary), model_name="boxes")
        finally:
            await client.close()

    answer = asyncio.run(ask())

    assert answer.id == "k-1"
    found = json.loads(next(each for each in answer.outputs if each.name == "predictions").data[0])
    assert_same(found, expect("boxes", images["png"]))


def test_rest_v1(server: Any, images: dict[str, bytes], expect: Callable[..., Any], assert_same: Any) -> None:
    from kserve.inference_client import InferenceRESTClient, RESTConfig

    async def ask() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=20))
        try:
            body = {"instances": [{"b64": base64.b64encode(images["png"]).decode()}]}
            return await client.infer(server.url, body, model_name="kinds")
        finally:
            await client.close()

    assert_same(asyncio.run(ask())["predictions"][0], expect("kinds", images["png"]))


def test_grpc(server: Any, images: dict[str, bytes], expect: Callable[..., Any], assert_same: Any) -> None:
    from kserve.inference_client import InferenceGRPCClient

    async def ask() -> Any:
        client = InferenceGRPCClient(server.grpc, timeout=20)
        try:
            assert await client.is_server_ready()
            assert await client.is_model_ready("boxes")
            return await client.infer(_request([images["png"]], is_binary=True))
        finally:
            await client.close()

    answer = asyncio.run(ask())

    output = next(each for each in answer.outputs if each.name == "predictions")
    assert_same(json.loads(output.as_numpy()[0]), expect("boxes", images["png"]))


def test_grpc_own_input(server: Any, http: httpx.Client, predictors: dict[str, Predictor], pixels: np.ndarray) -> None:
    from kserve.inference_client import InferenceGRPCClient
    from kserve.protocol.infer_type import InferInput, InferRequest

    batch, _ = predictors["kinds"].preprocessing.apply_all([pixels])
    expected = predictors["kinds"].backend.run_all(batch)[0]
    own = http.get("/v2/models/kinds").json()["inputs"][1]["name"]

    async def ask() -> Any:
        client = InferenceGRPCClient(server.grpc, timeout=20)
        try:
            tensor = InferInput(own, list(batch.shape), "FP32")
            tensor.set_data_from_numpy(batch)
            return await client.infer(InferRequest("kinds", [tensor]))
        finally:
            await client.close()

    answer = asyncio.run(ask())

    np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected, atol=1e-4)
