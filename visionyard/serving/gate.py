"""The door of the REST side: every request passes it before anything of KServe, FastAPI or the engine sees it.

In this order, the cheapest first: is the server stopping, is there a valid key, does the caller ask too often, is the
body small enough and quick enough to arrive. Then the application answers, and whatever it raises becomes a refusal in
the one shape of `statuses`. The connections themselves are counted by `connections`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import DeniedError, OverloadedError, RequestError, TooLargeError
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving.guard import Guard
from visionyard.serving.requests import InFlight, RequestInfo, request_id_of, set_current_request
from visionyard.serving.statuses import RefusedError, no_key, refuse, too_slow, wrong_encoding

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_MIB = 2**20
# Bodies held at the same time, in units of the largest one allowed: enough for real load, and a bound for attacks.
_BODIES_HELD = 16
# After a refusal, a body on its way is read and thrown away for so long: a connection that is closed on a client that is
# still sending loses the refusal.
_LINGER_S = 2.0
_CLIENT_GONE = 499  # as proxies log it; nobody receives it
_OPEN = frozenset({"/", "/health", "/metrics", "/docs", "/v2/health/live", "/v2/health/ready"})
_ALWAYS = frozenset({"/health", "/metrics", "/v2/health/live", "/v2/health/ready"})


class _ClientGoneError(Exception):
    """The caller closed the connection."""


# What reading a body that nobody wants any more may end with.
_READ_ERRORS = (RequestError, RefusedError, _ClientGoneError)


class Gate:
    """An ASGI application around the real one."""

    def __init__(
        self,
        app: App,
        *,
        config: ServingConfig,
        guard: Guard,
        metrics: ServingMetrics,
        in_flight: InFlight,
        logger: FilteringBoundLogger,
    ) -> None:
        """Stand before an application.

        Args:
            app: What answers.
            config: Limits and the path prefix.
            guard: Who may ask.
            metrics: Where requests are counted.
            in_flight: Where they are counted while they are answered.
            logger: Where a line for each goes.
        """
        self._app = app
        self._limits = config.limits
        self._root_path = config.server.root_path
        self._guard = guard
        self._metrics = metrics
        self._in_flight = in_flight
        self._logger = logger
        self._max_body_bytes = int(config.limits.max_body_mib * _MIB)
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        path = self._path(scope)
        info = RequestInfo(
            request_id_of(headers.get("x-request-id", "")),
            _protocol(path),
            headers,
            deadline=time.monotonic() + self._limits.deadline_s,
        )
        set_current_request(info)
        answer = _Answer(send, info.request_id)
        body = _Body(receive, self._max_body_bytes, self._limits.body_timeout_s)
        try:
            self._check(path, info, scope)
            if path in _ALWAYS:
                await self._app(scope, receive, answer.send)
            else:
                await self._answer(scope, receive, body, answer, info)
        except _ClientGoneError:
            answer.status = _CLIENT_GONE
        except Exception as error:
            # The last resort: whatever went wrong, the caller gets an answer and the log the trace.
            info.error = error
            if not answer.is_started:
                await self._refuse(error, body, answer, info)
        self._note(scope["method"], path, info, answer.status)

    def _path(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path.removeprefix(self._root_path) if self._root_path else path

    def _check(self, path: str, info: RequestInfo, scope: Scope) -> None:
        if path in _OPEN or (scope["method"] == "GET" and path.startswith("/v2/models/") and path.endswith("/ready")):
            return
        try:
            caller = self._guard.identify(info.headers)
        except DeniedError as error:
            raise no_key(str(error)) from None
        info.key_name = caller.key_name
        client = scope.get("client")
        self._guard.limit(caller, client[0] if client else "")
        encoding = info.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            words = f"Content-Encoding {encoding[:40]!r}: bodies are taken as they are; send it uncompressed"
            raise wrong_encoding(words)

    async def _answer(
        self, scope: Scope, receive: Receive, body: "_Body", answer: "_Answer", info: RequestInfo
    ) -> None:
        self._in_flight.enter()
        chunks: list[bytes] = []

        def hold(chunk: bytes) -> None:
            self._held_bytes += len(chunk)
            chunks.append(chunk)
            if self._held_bytes > _BODIES_HELD * self._max_body_bytes:
                raise OverloadedError("the server holds as many request bodies as it may; try again")

        try:
            body.check_length(info.headers)
            await body.read(hold)
            info.started = time.perf_counter()
            await self._run(scope, chunks[0] if len(chunks) == 1 else b"".join(chunks), receive, answer)
        finally:
            self._held_bytes -= sum(map(len, chunks))
            self._in_flight.leave()

    async def _run(self, scope: Scope, body: bytes, receive: Receive, answer: "_Answer") -> None:
        """Let the application answer; when the caller goes away before, its work is given up."""
        gone = asyncio.ensure_future(receive())
        is_read = False

        async def replay() -> Message:
            nonlocal is_read
            if is_read:
                return await asyncio.shield(gone)
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        working = asyncio.ensure_future(self._app(scope, replay, answer.send))
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and not answer.is_started:
                working.cancel()
                await asyncio.wait({working})
                raise _ClientGoneError
            await working
        finally:
            gone.cancel()
            working.cancel()

    async def _refuse(self, error: Exception, body: "_Body", answer: "_Answer", info: RequestInfo) -> None:
        """Send a refusal. The connection stays open, unless too much would have to be read for that."""
        if not body.is_given_up:
            with contextlib.suppress(*_READ_ERRORS):
                body.check_length(info.headers)
                await body.read(lambda chunk: None)
        await answer.refuse(refuse(error), is_closing=self._in_flight.is_draining or not body.is_read)
        if not body.is_read:
            await body.linger()
        await answer.end()

    def _note(self, method: str, path: str, info: RequestInfo, status: int) -> None:
        seconds = time.perf_counter() - info.started
        values: dict[str, Any] = {
            "request_id": info.request_id,
            "protocol": info.protocol,
            "method": method,
            "path": path[:200],
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if info.model:
            values |= {"model": info.model, "images": info.image_count}
        if info.key_name:
            values["key"] = info.key_name
        if _is_inference(method, path):
            self._metrics.observe_request(info.model, protocol="http", status=str(status), seconds=seconds)
        if info.error is not None and not isinstance(info.error, RefusedError):
            self._metrics.count_error(info.model, info.error)
            values["error"] = type(info.error).__name__
        if status >= 500 and info.error is not None and refuse(info.error).is_bug:
            self._logger.error("request", exc_info=info.error, **values)
        elif path in _ALWAYS:
            self._logger.debug("request", **values)
        else:
            self._logger.info("request", **values)


class _Body:
    """Reads the body of a request, at most so many bytes and so many seconds of it.

    Attributes:
        is_read: All of it has arrived.
        is_given_up: It is too large or too slow.
    """

    def __init__(self, receive: Receive, max_bytes: int, timeout_s: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._size = 0
        self.is_read = False
        self.is_given_up = False

    def check_length(self, headers: Mapping[str, str]) -> None:
        """Refuse a body by what its headers say of it, before a byte is read."""
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            self.is_given_up = True
            raise RequestError(f"Content-Length {length[:40]!r}: expected a number of bytes")
        if int(length) > self._max_bytes:
            raise self._too_large(length)

    async def read(self, take: Callable[[bytes], None]) -> None:
        """Read what has not been read yet, each part as it arrives."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self.is_read:
                    chunk = await self._next()
                    self._size += len(chunk)
                    if self._size > self._max_bytes:
                        raise self._too_large(f"more than {self._max_bytes}")
                    take(chunk)
        except TimeoutError:
            self.is_given_up = True
            raise too_slow(f"the body did not arrive within {self._timeout_s:g} s; send it faster, or less") from None

    async def linger(self) -> None:
        """Read on for a while and throw it away."""
        with contextlib.suppress(TimeoutError, _ClientGoneError):
            async with asyncio.timeout(_LINGER_S):
                while not self.is_read:
                    await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_read = True
            raise _ClientGoneError
        self.is_read = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    def _too_large(self, size: str) -> TooLargeError:
        self.is_given_up = True
        return TooLargeError(
            f"the body has {size[:20]} bytes; at most {self._max_bytes} are taken; send fewer or smaller images"
        )


class _Answer:
    """Passes an answer on and remembers what it was."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    @property
    def is_started(self) -> bool:
        return self.status > 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self._request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, refusal: Refusal, *, is_closing: bool) -> None:
        body = refusal.body(self._request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *refusal.headers(),
        ]
        if is_closing:
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": refusal.http_status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _protocol(path: str) -> str:
    return {"/v1": "v1", "/v2": "v2"}.get(path[:3], "http")


def _is_inference(method: str, path: str) -> bool:
    return method == "POST" and (path.startswith("/predict") or path.endswith((":predict", "/infer")))
