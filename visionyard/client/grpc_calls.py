"""Calls over gRPC, in the Open Inference Protocol v2: images as BYTES, rows as a BYTES tensor of texts a column.

Answers are the JSON text of each prediction.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from visionyard.client.calls import Call, ServerAddress
from visionyard.client.faults import Deadline, unreachable
from visionyard.client.messages import SERVICE, message
from visionyard.client.rows import RowCall, to_columns
from visionyard.errors import (
    ConfigError,
    DeadlineError,
    DeniedError,
    NotFoundError,
    OverloadedError,
    RequestError,
    TooLargeError,
    VisionyardError,
)

_LENGTH = struct.Struct("<I")
_MAX_MESSAGE_BYTES = 1 << 30  # the server has limits of its own; this client accepts whatever it sends
_OPTIONS = [
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # gRPC would otherwise share connections between clients of a process, and keep them after close().
    ("grpc.use_local_subchannel_pool", 1),
]
_ERRORS: dict[grpc.StatusCode, type[VisionyardError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: RequestError,
    grpc.StatusCode.FAILED_PRECONDITION: RequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.OUT_OF_RANGE: TooLargeError,
    grpc.StatusCode.UNAUTHENTICATED: DeniedError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def infer_request(call: Call) -> Any:
    """Return the message of a call."""
    request = message("InferRequest")(model_name=call.model)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(call.images)])
    # Not raw_input_contents: bytes with their lengths in front would be copied once more.
    tensor.contents.bytes_contents.extend(image.data for image in call.images)
    return _asked(request, call.parameters)


def rows_request(call: RowCall) -> Any:
    """Return the message of a call of rows.

    Raises:
        ConfigError: A row has other columns than the first one.
    """
    request = message("InferRequest")(model_name=call.model)
    for name, texts in to_columns(call).items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(texts)])
        tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return _asked(request, call.parameters)


def _asked(request: Any, parameters: Mapping[str, float | int | str]) -> Any:
    request.outputs.add(name="predictions")
    for name, value in parameters.items():
        entry = request.parameters.add(key=name)
        if isinstance(value, int):
            entry.value.int64_param = value
        elif isinstance(value, str):
            entry.value.string_param = value
        else:  # the protocol has no floating-point parameter
            entry.value.string_param = repr(float(value))
    return request


def predictions_of(response: Any, count: int, url: str) -> list[dict[str, Any]]:
    """Return the predictions of an answer, one an image or row.

    Raises:
        VisionyardError: The answer has no such output, or of another length.
    """
    for position, tensor in enumerate(response.outputs):
        if tensor.name == "predictions":
            texts = list(tensor.contents.bytes_contents)
            if not texts and position < len(response.raw_output_contents):
                texts = _split(response.raw_output_contents[position])
            if len(texts) == count:
                return [dict(json.loads(text)) for text in texts]
    raise VisionyardError(
        f"{url}: expected the output predictions for {count} of them, got "
        f"{[tensor.name for tensor in response.outputs]}; is it a Visionyard server?"
    )


def _split(raw: bytes) -> list[bytes]:
    texts, at = [], 0
    while at + _LENGTH.size <= len(raw):
        (size,) = _LENGTH.unpack_from(raw, at)
        texts.append(raw[at + _LENGTH.size : at + _LENGTH.size + size])
        at += _LENGTH.size + size
    return texts


def _info(response: Any) -> dict[str, Any]:
    def tensors(listed: Any) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in listed]

    return {
        "name": response.name,
        "versions": list(response.versions),
        "platform": response.platform,
        "inputs": tensors(response.inputs),
        "outputs": tensors(response.outputs),
    }


def _error(error: Any, url: str, deadline: Deadline) -> VisionyardError:
    code, details = error.code(), error.details() or "no details"
    trailing = dict(error.trailing_metadata() or ())
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and "Deadline Exceeded" in details:
        return deadline.error(url)  # our own clock, not the server's
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC itself says so of messages over the server's limit, for which no waiting helps.
        if "larger than max" in details:
            return TooLargeError(f"{url}: {details}; send fewer or smaller images")
        return OverloadedError(f"{url}: {details}", retry_after_s=_seconds(trailing))
    if code is grpc.StatusCode.UNAVAILABLE:
        return (
            OverloadedError(f"{url}: {details}", retry_after_s=_seconds(trailing))
            if "retry-after" in trailing
            else unreachable(url, details)
        )
    kind = _ERRORS.get(code, VisionyardError)
    hint = "; give a valid api_key" if code is grpc.StatusCode.UNAUTHENTICATED else ""
    return kind(f"{url}: {details}{hint}")


def _seconds(trailing: dict[str, Any]) -> float:
    try:
        return max(0.0, float(trailing.get("retry-after", 1.0)))
    except ValueError:
        return 1.0


def _credentials(ca_file: str) -> Any:
    try:
        return grpc.ssl_channel_credentials(Path(ca_file).read_bytes() if ca_file else None)
    except OSError as error:
        raise ConfigError(
            f"ca_file {ca_file}: {error.strerror or error}; expected a PEM file of certificates"
        ) from None


def _method(channel: Any, name: str, answer: str) -> Any:
    """Return what calls a method; requests and answers are named as in `messages`."""
    return channel.unary_unary(
        f"{SERVICE}/{name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message(answer).FromString,
    )


class GrpcTransport:
    """Sends calls over one channel."""

    def __init__(self, address: ServerAddress, api_key: str, ca_file: str) -> None:
        """Prepare; the first call connects."""
        self._url = address.url
        self._metadata = [("authorization", f"Bearer {api_key}")] if api_key else []
        self._channel: Any = (
            grpc.secure_channel(address.target, _credentials(ca_file), options=_OPTIONS)
            if address.is_secure
            else grpc.insecure_channel(address.target, options=_OPTIONS)
        )

    def predict(self, call: Call, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one an image."""
        answer = self._send("ModelInfer", "InferResponse", infer_request(call), deadline)
        return predictions_of(answer, len(call.images), self._url)

    def predict_rows(self, call: RowCall, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one a row."""
        answer = self._send("ModelInfer", "InferResponse", rows_request(call), deadline)
        return predictions_of(answer, len(call.rows), self._url)

    def model_info(self, model: str, deadline: Deadline) -> dict[str, Any]:
        """Return the model's metadata: its inputs and outputs."""
        return _info(self._send("ModelMetadata", "ModelMetadata", message("ModelName")(name=model), deadline))

    def is_ready(self, deadline: Deadline) -> bool:
        """Return whether the server answers and its models are loaded."""
        try:
            return bool(self._send("ServerReady", "Ready", message("Empty")(), deadline).ready)
        except VisionyardError:
            return False

    def _send(self, name: str, answer: str, request: Any, deadline: Deadline) -> Any:
        try:
            return _method(self._channel, name, answer)(request, timeout=deadline.left_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _error(error, self._url, deadline) from None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class AsyncGrpcTransport:
    """The same for asyncio."""

    def __init__(self, address: ServerAddress, api_key: str, ca_file: str) -> None:
        """Prepare; the first call connects."""
        self._url = address.url
        self._metadata = [("authorization", f"Bearer {api_key}")] if api_key else []
        self._channel: Any = (
            grpc.aio.secure_channel(address.target, _credentials(ca_file), options=_OPTIONS)
            if address.is_secure
            else grpc.aio.insecure_channel(address.target, options=_OPTIONS)
        )

    async def predict(self, call: Call, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one an image."""
        answer = await self._send("ModelInfer", "InferResponse", infer_request(call), deadline)
        return predictions_of(answer, len(call.images), self._url)

    async def predict_rows(self, call: RowCall, deadline: Deadline) -> list[dict[str, Any]]:
        """Return the predictions of a call, one a row."""
        answer = await self._send("ModelInfer", "InferResponse", rows_request(call), deadline)
        return predictions_of(answer, len(call.rows), self._url)

    async def model_info(self, model: str, deadline: Deadline) -> dict[str, Any]:
        """Return the model's metadata: its inputs and outputs."""
        return _info(await self._send("ModelMetadata", "ModelMetadata", message("ModelName")(name=model), deadline))

    async def is_ready(self, deadline: Deadline) -> bool:
        """Return whether the server answers and its models are loaded."""
        try:
            return bool((await self._send("ServerReady", "Ready", message("Empty")(), deadline)).ready)
        except VisionyardError:
            return False

    async def _send(self, name: str, answer: str, request: Any, deadline: Deadline) -> Any:
        try:
            return await _method(self._channel, name, answer)(request, timeout=deadline.left_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _error(error, self._url, deadline) from None

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
