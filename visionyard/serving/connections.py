"""REST connections of bounded number, patience and size of head: uvicorn (0.54) itself bounds none of the three.

It keeps a connection that never sends a whole head for ever (slow-loris), grows a head without limit, and its
`limit_concurrency` still accepts every connection. Refusals have the shape of all others.
"""

import asyncio
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from visionyard.config.serving_config import LimitsConfig

# As h11 and most proxies; a token and a few cookies stay far below.
_MAX_HEAD_BYTES = 64 * 1024


class _HeadError(Exception):
    """The head is too large; ends the parser's work."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        limits: Connections, and the time for a client to send a head.
    """

    limits: ClassVar[LimitsConfig] = LimitsConfig()
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _field_bytes = 0
    _is_in_head = True
    _cycles: Sequence[RequestResponseCycle] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, f"the server has {self.limits.max_connections} connections already; try again", "1")
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection, and let its requests know."""
        self._stop_timer()
        # uvicorn tells the newest request only; an older one would go on and write to what is closed.
        for cycle in self._cycles:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that grows too large is refused."""
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # Data that ended the head may hold some of the body too, so only a head that goes on is measured.
        if self._is_in_head and self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins: its head has so much time."""
        self._is_in_head = True
        if self._timer is None:
            self._start_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take the target, or a part of it."""
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._measure(len(name) + len(value) + 4)  # colon, space, line end
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._field_bytes = 0
        self._stop_timer()
        self._is_in_head = False
        self._head_bytes = 0
        super().on_headers_complete()
        self._cycles = [cycle for cycle in (*self._cycles, self.cycle) if not cycle.response_complete]

    def _measure(self, size: int) -> None:
        """Count a part of a head that came in one piece with its end, which `data_received` does not measure."""
        self._field_bytes += size
        if self._field_bytes > _MAX_HEAD_BYTES:
            raise _HeadError

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if self._field_bytes > _MAX_HEAD_BYTES:
            self._refuse_head()
            return
        self._refuse(400, f"{msg} Send HTTP/1.1.")

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.limits.body_timeout_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._head_bytes:
            self._refuse(408, f"the request's headers did not arrive within {self.limits.body_timeout_s:g} s")
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse(431, f"the request's headers have more than {_MAX_HEAD_BYTES} bytes; send fewer")

    def _refuse(self, status: int, message: str, retry_after: str = "") -> None:
        request_id = secrets.token_hex(16)
        body = orjson.dumps({"error": message, "request_id": request_id})
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            "connection: close",
            *([f"retry-after: {retry_after}"] if retry_after else []),
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()


def make_http_protocol(limits: LimitsConfig) -> type[BoundedHttpProtocol]:
    """Return the protocol class for `uvicorn.Config(http=...)`.

    Args:
        limits: Connections, and the time for a client to send a head.
    """
    return type("BoundedHttpProtocol", (BoundedHttpProtocol,), {"limits": limits})
