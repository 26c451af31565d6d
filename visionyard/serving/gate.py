"""The door of the REST side: every request passes it before anything of KServe, FastAPI or the engine sees it.

In this order, the cheapest first: is the server stopping, is there a valid key, does the caller ask too often, is the
body small enough and quick enough to arrive. Then the application answers, and whatever it raises becomes a refusal in
the one shape of `statuses`. The connections themselves are counted by `connections`.
"""

import asyncio
import contextlib
import time
from typing import Any

from structlog.typing import FilteringBoundLogger

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import DeniedError, OverloadedError
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving.asgi import READ_ERRORS, Answer, App, Body, ClientGoneError, Message, Receive, Scope, Send
from visionyard.serving.guard import Guard
from visionyard.serving.requests import InFlight, RequestInfo, request_id_of, set_current_request
from visionyard.serving.statuses import RefusedError, no_key, refuse, wrong_encoding

_MIB = 2**20
# Bodies held at the same time, in units of the largest one allowed: enough for real load, and a bound for attacks.
_BODIES_HELD = 16
_CLIENT_GONE = 499  # as proxies log it; nobody receives it
_OPEN = frozenset({"/", "/health", "/metrics", "/docs", "/v2/health/live", "/v2/health/ready"})
_ALWAYS = frozenset({"/health", "/metrics", "/v2/health/live", "/v2/health/ready"})


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
        answer = Answer(send, info.request_id)
        body = Body(receive, self._max_body_bytes, self._limits.body_timeout_s)
        try:
            self._check(path, info, scope)
            if path in _ALWAYS:
                await self._app(scope, receive, answer.send)
            else:
                await self._answer(scope, receive, body, answer, info)
        except ClientGoneError:
            answer.status = _CLIENT_GONE
        except asyncio.CancelledError:
            # Only a server whose time to stop is over cancels a request; the task ends here, with an answer.
            info.error = OverloadedError("the server stopped before the answer was ready; send the request again")
            if not answer.is_started:
                await answer.refuse(refuse(info.error), is_closing=True)
                await answer.end()
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

    async def _answer(self, scope: Scope, receive: Receive, body: Body, answer: Answer, info: RequestInfo) -> None:
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

    async def _run(self, scope: Scope, body: bytes, receive: Receive, answer: Answer) -> None:
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
                raise ClientGoneError
            await working
        finally:
            gone.cancel()
            working.cancel()

    async def _refuse(self, error: Exception, body: Body, answer: Answer, info: RequestInfo) -> None:
        """Send a refusal. The connection stays open, unless too much would have to be read for that."""
        if not body.is_given_up:
            with contextlib.suppress(*READ_ERRORS):
                body.check_length(info.headers)
                await body.read(_forget)
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


def _protocol(path: str) -> str:
    return {"/v1": "v1", "/v2": "v2"}.get(path[:3], "http")


def _is_inference(method: str, path: str) -> bool:
    return method == "POST" and (path.startswith("/predict") or path.endswith((":predict", "/infer")))


def _forget(_chunk: bytes) -> None:
    """Take a part of a body that is of no use."""
