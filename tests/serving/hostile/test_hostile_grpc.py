"""gRPC: frames and messages that are none, tensors that do not fit, calls without end."""

import contextlib
import math
import socket
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

SERVICE = "/inference.GRPCInferenceService/"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def pb() -> Any:
    """KServe's messages, without what importing KServe itself does."""
    from visionyard.serving.kserve_sdk import pb

    return pb


@pytest.fixture
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)]) as opened:
        yield opened


@pytest.fixture
def call(channel: grpc.Channel) -> Callable[..., grpc.RpcError | bytes]:
    """Return a function that sends bytes as the message of a method, and returns the answer or the refusal."""

    def send(data: bytes, method: str = "ModelInfer", **options: Any) -> grpc.RpcError | bytes:
        try:
            return bytes(channel.unary_unary(SERVICE + method)(data, timeout=20, **options))
        except grpc.RpcError as error:
            return error

    return send


def refused(found: Any, *codes: grpc.StatusCode) -> str:
    assert isinstance(found, grpc.RpcError), found
    details = str(found.details())
    assert found.code() in codes, (found.code(), details[:500])
    assert len(details) < 1000
    assert not any(word in details for word in ("Traceback", 'File "', "site-packages", "object at 0x"))
    return details


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata", "RepositoryModelLoad"])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 100, id="nonsense"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="length beyond the message"),
        pytest.param(b"\x0a\x05ab", id="cut"),
        pytest.param(b"\x0a\x02\xff\xfe", id="name not UTF-8"),
        pytest.param(b"\x0b" * 5000, id="groups in groups"),
        pytest.param(b"\x80" * 20, id="number without end"),
    ],
)
def test_a_message_that_is_none_is_refused(call: Callable[..., Any], method: str, data: bytes) -> None:
    refused(call(data, method), INVALID, grpc.StatusCode.NOT_FOUND)


def test_random_messages_are_refused(call: Callable[..., Any]) -> None:
    random = np.random.default_rng(5)
    for _ in range(150):
        found = call(random.integers(0, 256, int(random.integers(1, 300)), np.uint8).tobytes())
        refused(found, INVALID, grpc.StatusCode.NOT_FOUND)


def request(pb: Any, *, model: str = "boxes", raw: list[bytes] | None = None, **tensor: Any) -> bytes:
    values = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], **tensor}
    inputs = [pb.ModelInferRequest.InferInputTensor(**values)]
    message = pb.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw or [])
    return bytes(message.SerializeToString())


def test_altered_messages_are_answered_or_refused(call: Callable[..., Any], pb: Any, hostile: SimpleNamespace) -> None:
    data = hostile.png(16, 16)
    whole = request(pb, datatype="BYTES", shape=[1], raw=[struct.pack("<I", len(data)) + data])
    random = np.random.default_rng(6)
    for _ in range(100):
        altered = bytearray(whole)
        for place in random.integers(0, len(whole), 4):
            altered[place] = random.integers(256)
        found = call(bytes(altered[: int(random.integers(1, len(altered) + 1))]))
        if isinstance(found, grpc.RpcError):
            refused(found, INVALID, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("tensor", "raw"),
    [
        pytest.param({}, [b"\1\2\3\4"], id="raw beyond shape"),
        pytest.param({}, [b"\1\2"], id="raw below shape"),
        pytest.param({}, [b""], id="raw empty"),
        pytest.param({}, [b"\1\2\3", b"\1\2\3"], id="more raw than tensors"),
        pytest.param({}, [], id="no contents"),
        pytest.param({"shape": [-1, 1, 3]}, [b"\1\2\3"], id="shape -1"),
        pytest.param({"shape": [2**62, 4, 3]}, [b"\1\2\3"], id="shape that overflows"),
        pytest.param({"shape": [0, 2**62, 3]}, [b""], id="nothing times huge"),
        pytest.param({"shape": [10**9, 0, 0, 3]}, [b""], id="a thousand million empty images"),
        pytest.param({"shape": [1] * 1000}, [b"\1"], id="a thousand dimensions"),
        pytest.param({"shape": []}, [b""], id="no shape"),
        pytest.param({"datatype": "BYTES", "shape": [1]}, [b"\xff\xff\xff\xff"], id="BYTES beyond the end"),
        pytest.param({"datatype": "BYTES", "shape": [1]}, [b"\1\0"], id="BYTES cut"),
        pytest.param({"datatype": "BYTES", "shape": [4 * 2**20]}, [bytes(16 * 2**20)], id="four million empty BYTES"),
        pytest.param({"datatype": "UINT9"}, [b"\1\2\3"], id="unknown datatype"),
        pytest.param({"datatype": ""}, [b"\1\2\3"], id="no datatype"),
        pytest.param({"name": "x" * 100_000}, [b"\1\2\3"], id="long name"),
        pytest.param({"name": ""}, [b"\1\2\3"], id="no name"),
        pytest.param({"contents": {"fp32_contents": [1, 2, 3]}}, [], id="contents of another datatype"),
        pytest.param({"contents": {"uint_contents": [1, 2, 300]}}, [], id="contents beyond the datatype"),
        pytest.param({"contents": {"uint_contents": [1, 2, 3]}}, [b"\1\2\3"], id="contents and raw"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    call: Callable[..., Any], pb: Any, tensor: dict[str, Any], raw: list[bytes]
) -> None:
    refused(call(request(pb, raw=raw, **tensor)), INVALID)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_nan_in_the_models_own_input_is_refused(call: Callable[..., Any], pb: Any, http: Any, value: float) -> None:
    inputs = http.get("/v2/models/boxes").json()["inputs"]
    own = next(each for each in inputs if each["datatype"] == "FP32")
    shape = [1, *own["shape"][1:]]
    raw = np.full(shape, value, np.float32).tobytes()
    assert "NaN" in refused(call(request(pb, name=own["name"], datatype="FP32", shape=shape, raw=[raw])), INVALID)


@pytest.mark.parametrize("model", ["", "../boxes", "boxes\0", "x" * 100_000, "🐍", "%2e%2e"], ids=lambda text: text[:8])
@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata", "RepositoryModelLoad"])
def test_a_model_name_with_tricks_is_not_found(call: Callable[..., Any], pb: Any, method: str, model: str) -> None:
    kinds = {
        "ModelReady": lambda: pb.ModelReadyRequest(name=model),
        "ModelMetadata": lambda: pb.ModelMetadataRequest(name=model),
        "RepositoryModelLoad": lambda: pb.RepositoryModelLoadRequest(model_name=model),
    }
    data = kinds[method]().SerializeToString() if method in kinds else request(pb, model=model, raw=[b"\1\2\3"])
    refused(call(data, method), grpc.StatusCode.NOT_FOUND, INVALID)


def test_a_message_beyond_the_limit_is_refused(call: Callable[..., Any], pb: Any) -> None:
    data = request(pb, shape=[2600, 2600, 3], raw=[bytes(2600 * 2600 * 3 + 2**20)])
    refused(call(data), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_an_unknown_method_is_refused(call: Callable[..., Any]) -> None:
    refused(call(b"", "NoSuchMethod"), grpc.StatusCode.UNIMPLEMENTED)


def test_metadata_beyond_measure_is_refused(call: Callable[..., Any]) -> None:
    found = call(b"", "ServerLive", metadata=[("x-long", "y" * 100_000)])
    refused(found, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)


def test_a_deadline_that_is_over_is_told_so(call: Callable[..., Any], channel: grpc.Channel, pb: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "ModelInfer")(request(pb, raw=[b"\1\2\3"]), timeout=1e-6)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


SETTINGS = frame(4, 0, 0, b"")
# HPACK without compression: a literal, each name and value with its length.
FIELDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", SERVICE.encode() + b"ModelInfer"),
          (b"content-type", b"application/grpc"), (b"te", b"trailers")]  # fmt: skip
HEADERS = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in FIELDS)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"\0" * 1000, id="NUL"),
        pytest.param(PREFACE[:10], id="half a preface"),
        pytest.param(PREFACE + b"\xff" * 200, id="nonsense after the preface"),
        pytest.param(PREFACE + SETTINGS + frame(1, 4, 1, HEADERS, length=2**24 - 1), id="frame of 16 MB announced"),
        pytest.param(PREFACE + SETTINGS + frame(1, 4, 1, b"\xff" * 60), id="HPACK of nonsense"),
        pytest.param(
            PREFACE + SETTINGS + frame(1, 4, 1, HEADERS) + frame(0, 1, 1, b"\0\0\0\0\x64ab"), id="message cut"
        ),
        pytest.param(
            PREFACE + SETTINGS + frame(1, 4, 1, HEADERS) + frame(0, 1, 1, b"\0\xff\xff\xff\xff"), id="message of 4 GB"
        ),
        pytest.param(
            PREFACE + SETTINGS + frame(1, 4, 1, HEADERS) + frame(0, 1, 1, b"\1\0\0\0\2ab"), id="compressed, but not"
        ),
        pytest.param(PREFACE + SETTINGS + frame(0, 1, 1, b"hello"), id="data before headers"),
        pytest.param(PREFACE + SETTINGS + frame(6, 0, 0, b"x" * 8) * 5000, id="flood of pings"),
        pytest.param(
            PREFACE
            + SETTINGS
            + b"".join(frame(1, 4, n, HEADERS) + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 4001, 2)),
            id="rapid reset",
        ),
        pytest.param(
            PREFACE + SETTINGS + frame(1, 0, 1, HEADERS) + frame(9, 0, 1, b"\0\1a\1b") * 5000, id="continuations"
        ),
    ],
)
def test_frames_that_are_none_end_their_own_connection_only(server: Any, call: Callable[..., Any], data: bytes) -> None:
    host, _, port = server.grpc.rpartition(":")
    with contextlib.closing(socket.create_connection((host, int(port)), timeout=20)) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
    assert isinstance(call(b"", "ServerLive"), bytes)
