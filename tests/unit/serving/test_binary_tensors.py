import contextlib
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.errors import RequestError
from visionyard.serving.binary_tensors import encode_response, parse_request
from visionyard.serving.kserve_sdk import InferOutput, InferRequest, InferResponse
from visionyard.serving.tensors import DTYPES, read_images, read_tensor

_SHAPES = st.lists(st.integers(0, 4), min_size=0, max_size=4)


def body_of(head: dict[str, Any], *tail: bytes) -> tuple[bytes, str]:
    text = orjson.dumps(head)
    return b"".join([text, *tail]), str(len(text))


@given(datatype=st.sampled_from(sorted(DTYPES)), shape=_SHAPES, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_a_binary_tensor_arrives_as_it_was(datatype: str, shape: list[int], seed: int) -> None:
    count = int(np.prod(shape, dtype=int))
    raw = np.random.default_rng(seed).integers(0, 2, count * DTYPES[datatype].itemsize, np.uint8).tobytes()
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}

    found = read_tensor(parse_request(*body_of({"inputs": [tensor]}, raw), "m").inputs[0])

    assert isinstance(found, np.ndarray)
    assert (found.dtype, list(found.shape), found.tobytes()) == (DTYPES[datatype], shape, raw)


@given(elements=st.lists(st.binary(max_size=20), max_size=5))
@settings(max_examples=100, deadline=None)
def test_binary_elements_arrive_as_they_were(elements: list[bytes]) -> None:
    raw = b"".join(len(each).to_bytes(4, "little") + each for each in elements)
    tensor = {
        "name": "image",
        "shape": [len(elements)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw)},
    }

    assert read_images(parse_request(*body_of({"inputs": [tensor]}, raw), "m").inputs[0]) == elements


def test_a_binary_tensor_is_a_view_on_the_body() -> None:
    values = np.arange(12, dtype=np.float32)
    tensor = {"name": "x", "shape": [3, 4], "datatype": "FP32", "parameters": {"binary_data_size": 48}}
    body, length = body_of({"inputs": [tensor]}, values.tobytes())

    found = read_tensor(parse_request(body, length, "m").inputs[0])

    assert isinstance(found, np.ndarray)
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    np.testing.assert_array_equal(found, values.reshape(3, 4))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("image") | _JSON,
        "shape": st.lists(st.integers(-2, 3), max_size=4) | _JSON,
        "datatype": st.sampled_from([*DTYPES, "BYTES"]) | _JSON,
        "data": _JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40) | _JSON}) | _JSON,
    },
)


@given(
    head=st.fixed_dictionaries({"inputs": st.lists(_ENTRY, max_size=2) | _JSON, "outputs": _JSON, "parameters": _JSON})
    | _JSON,
    tail=st.binary(max_size=40),
)
@settings(max_examples=400, deadline=None)
def test_nothing_but_a_request_error_comes_of_a_wrong_request(head: Any, tail: bytes) -> None:
    body, length = body_of(head, tail)

    with contextlib.suppress(RequestError):
        for tensor in parse_request(body, length, "m").inputs:
            with contextlib.suppress(RequestError):
                read_images(tensor)


@pytest.mark.parametrize(
    ("default", "asked", "is_binary"),
    [
        pytest.param(False, None, False, id="json"),
        pytest.param(True, None, True, id="all-binary"),
        pytest.param(True, False, False, id="this-one-json"),
        pytest.param(False, True, True, id="this-one-binary"),
    ],
)
def test_an_output_comes_in_the_form_that_is_asked_for(default: bool, asked: bool | None, is_binary: bool) -> None:
    head: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    head["parameters"] = {"binary_data_output": default}
    if asked is not None:
        head["outputs"] = [{"name": "y", "parameters": {"binary_data": asked}}]
    request = parse_request(*body_of(head), "m")
    values = np.array([[1.5, 2.5]], np.float32)
    response = InferResponse("id", "m", [InferOutput("y", [1, 2], "FP32", data=values)])

    body, length = encode_response(response, request)

    output = orjson.loads(body[:length])["outputs"][0]
    assert (length is not None) == is_binary
    if is_binary:
        assert body[length:] == values.tobytes()
        assert output["parameters"] == {"binary_data_size": 8}
    else:
        assert output["data"] == [1.5, 2.5]


def test_texts_in_binary_have_their_length_before_them() -> None:
    texts = np.array([b"a", b"", b"\xff\x00"], np.object_)
    response = InferResponse("id", "m", [InferOutput("y", [3], "BYTES", data=texts)])

    body, length = encode_response(response, InferRequest("m", [], parameters={"binary_data_output": True}))

    assert body[length:] == b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xff\x00"
