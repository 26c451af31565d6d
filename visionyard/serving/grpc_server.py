"""The gRPC side: KServe's servicer behind an interceptor that does what the gate does for REST.

KServe's own `GRPCServer` listens on all addresses, in plain text, and takes the size of messages from the command line;
its interceptor writes each error with its trace to the log and drops our messages.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from structlog.typing import FilteringBoundLogger

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import ConfigError, DeniedError, RequestError
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving.guard import Guard
from visionyard.serving.kserve_sdk import (
    DataPlane,
    InferenceServicer,
    InferRequest,
    InferResponse,
    InvalidInput,
    ModelRepositoryExtension,
    add_GRPCInferenceServiceServicer_to_server,
    pb,
)
from visionyard.serving.output_tensors import MASK_PIXELS
from visionyard.serving.requests import InFlight, RequestInfo, request_id_of, set_current_request
from visionyard.serving.statuses import Refusal, no_key, refuse

_MIB = 2**20
# What the largest tensor of answers may need; our own, so it is no door for attacks.
_MAX_SEND_BYTES = 256 * _MIB
# Calls at the same time for each place in a queue; those beyond get RESOURCE_EXHAUSTED from gRPC itself.
_CALLS_PER_PLACE = 2
_OPEN = frozenset({"ServerLive", "ServerReady", "ModelReady"})


class Servicer(InferenceServicer):  # type: ignore[misc]
    """KServe's servicer, with its mistakes in reading tensors turned into messages for the caller."""

    async def ModelInfer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        """Answer an infer request."""
        try:
            self.validate_grpc_request(request)
            read = InferRequest.from_grpc(request)
        except InvalidInput as error:
            raise RequestError(f"{error}; send raw_input_contents, or contents of a known datatype") from None
        response, _ = await self._data_plane.infer(request=read, headers=None, model_name=request.model_name)
        # A list of booleans would take ten times the memory of the pixels; a protocol's client reads both forms.
        if any(output.name == MASK_PIXELS for output in response.outputs):
            return await asyncio.to_thread(_to_message, response, is_raw=True)
        return _to_message(response, is_raw=read.use_binary_outputs)

    async def RepositoryModelLoad(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        """Load a model of the config."""
        answer = await self._mode_repository_extension.load(request.model_name)
        return pb.RepositoryModelLoadResponse(model_name=answer["name"], isLoaded=answer["load"])

    async def RepositoryModelUnload(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        """Stop serving a model."""
        answer = await self._mode_repository_extension.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse(model_name=answer["name"], isUnloaded=answer["unload"])


class GrpcGate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """The door of the gRPC side: key, rate, stopping; errors to codes; a log line and figures for each call."""

    def __init__(
        self,
        *,
        config: ServingConfig,
        guard: Guard,
        metrics: ServingMetrics,
        in_flight: InFlight,
        logger: FilteringBoundLogger,
    ) -> None:
        """Stand before the servicer; arguments as of `gate.Gate`."""
        self._deadline_s = config.limits.deadline_s
        self._guard = guard
        self._metrics = metrics
        self._in_flight = in_flight
        self._logger = logger

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler_call_details.method.rpartition("/")[2]
        headers = {
            name.lower(): value if isinstance(value, str) else value.decode("latin-1")
            for name, value in handler_call_details.invocation_metadata or ()
        }

        def read(data: bytes) -> Any:
            # gRPC itself would answer UNKNOWN, and write a trace for each such message.
            try:
                return handler.request_deserializer(data)
            except DecodeError:
                return None

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            work = _refuse_unreadable if request is None else handler.unary_unary
            return await self._answer(work, method, headers, request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=read,
            response_serializer=handler.response_serializer,
        )

    async def _answer(
        self,
        work: Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]],
        method: str,
        headers: dict[str, str],
        request: Any,
        context: grpc.aio.ServicerContext,
    ) -> Any:
        left_s = context.time_remaining()
        allowed_s = self._deadline_s if left_s is None else min(self._deadline_s, left_s)
        info = RequestInfo(
            request_id_of(headers.get("x-request-id", "")), "grpc", headers, deadline=time.monotonic() + allowed_s
        )
        set_current_request(info)
        refusal: Refusal | None = None
        try:
            if method in _OPEN:
                return await work(request, context)
            self._check(info, context)
            self._in_flight.enter()
            try:
                answer = await work(request, context)
            finally:
                self._in_flight.leave()
            context.set_trailing_metadata((("x-request-id", info.request_id),))
            return answer
        except Exception as error:
            # The last resort: whatever went wrong, the caller gets a code and the log the trace.
            info.error = error
            refusal = refuse(error)
        finally:
            self._note(method, info, refusal)
        trailing = [("x-request-id", info.request_id)]
        if refusal.retry_after_s is not None:
            trailing.append(("retry-after", f"{refusal.retry_after_s:.1f}"))
        await context.abort(refusal.grpc_status, refusal.words(info.request_id), tuple(trailing))
        return None

    def _check(self, info: RequestInfo, context: grpc.aio.ServicerContext) -> None:
        try:
            caller = self._guard.identify(info.headers)
        except DeniedError as error:
            raise no_key(str(error)) from None
        info.key_name = caller.key_name
        # ipv4:10.0.0.1:4711, and of each connection another port.
        self._guard.limit(caller, context.peer().rpartition(":")[0])

    def _note(self, method: str, info: RequestInfo, refusal: Refusal | None) -> None:
        seconds = time.perf_counter() - info.started
        status = refusal.grpc_status.name if refusal else "OK"
        values: dict[str, Any] = {
            "request_id": info.request_id,
            "protocol": "grpc",
            "method": method,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if info.model:
            values |= {"model": info.model, "images": info.image_count}
        if info.key_name:
            values["key"] = info.key_name
        if method == "ModelInfer":
            self._metrics.observe_request(info.model, protocol="grpc", status=status, seconds=seconds)
        if info.error is not None:
            self._metrics.count_error(info.model, info.error)
            values["error"] = type(info.error).__name__
        if refusal is not None and refusal.is_bug:
            self._logger.error("request", exc_info=info.error, **values)
        elif method in _OPEN:
            self._logger.debug("request", **values)
        else:
            self._logger.info("request", **values)


def _channel_options(config: ServingConfig) -> list[tuple[str, int]]:
    """Return the channel options of the server."""
    return [
        ("grpc.max_receive_message_length", int(config.limits.max_body_mib * _MIB)),
        ("grpc.max_send_message_length", _MAX_SEND_BYTES),
        # Otherwise two servers could share a port, each getting some of the requests, and neither would say so.
        ("grpc.so_reuseport", 0),
        # A client that only pings, or rests for ever, gives its connection back.
        ("grpc.max_connection_idle_ms", 600_000),
        ("grpc.http2.max_ping_strikes", 5),
        ("grpc.max_concurrent_streams", config.limits.max_connections),
    ]


async def _refuse_unreadable(_request: Any, _context: grpc.aio.ServicerContext) -> Any:
    raise RequestError("the message cannot be read; send the request of this method as protobuf")


def open_grpc(
    config: ServingConfig, data_plane: DataPlane, extension: ModelRepositoryExtension, gate: GrpcGate
) -> tuple[grpc.aio.Server, int]:
    """Make the gRPC server and take its port; it does not answer yet.

    Args:
        config: Where it listens, with which certificate.
        data_plane: Answers.
        extension: Loads and unloads.
        gate: Stands before both.

    Returns:
        The server, and its port.

    Raises:
        ConfigError: The port is taken, or the certificate cannot be read.
    """
    # Messages are read before a handler can refuse them, so their number bounds the memory they take.
    call_count = _CALLS_PER_PLACE * config.batching.queue_size * max(1, len(config.models))
    server = grpc.aio.server(interceptors=(gate,), options=_channel_options(config), maximum_concurrent_rpcs=call_count)
    add_GRPCInferenceServiceServicer_to_server(Servicer(data_plane, extension), server)
    host, port = config.server.host, config.server.grpc_port
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    credentials = _credentials(config)
    try:
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ConfigError(
            f"server.grpc_port = {port}: {host} cannot be listened on, something else may use the port; give another, "
            "0 for any free one, or -1 for no gRPC"
        )
    return server, bound


def _credentials(config: ServingConfig) -> grpc.ServerCredentials | None:
    """Return the certificate, which is read again when its files change, as KServe's REST server does with its own."""
    if not config.tls.cert_file:
        return None
    files = (Path(config.tls.key_file), Path(config.tls.cert_file))

    def read() -> Any:
        return grpc.ssl_server_certificate_configuration([(files[0].read_bytes(), files[1].read_bytes())])

    def when_changed() -> list[int]:
        return [file.stat().st_mtime_ns for file in files]

    try:
        first, seen = read(), when_changed()
    except OSError as error:
        raise ConfigError(f"tls: {error.filename}: cannot be read: {error.strerror}") from None

    def fetch() -> Any:
        """Return a new certificate, None where it is still the same; asked at each handshake."""
        nonlocal seen
        try:
            found = when_changed()
            if found == seen:
                return None
            certificate = read()
        except OSError:
            return None
        seen = found
        return certificate

    return grpc.dynamic_ssl_server_credentials(first, fetch)


def _to_message(response: InferResponse, *, is_raw: bool) -> Any:
    """Write an answer the way the request was written: raw bytes, or typed contents."""
    if not is_raw:
        for output in response.outputs:
            if output.datatype == "BYTES":
                output.data = list(output.data.ravel())
            else:
                output.data = output.data.ravel().tolist()
    return response.to_grpc()
