"""The two directions of a REST request in ASGI: a body that is read within bounds, an answer that is watched."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from visionyard.errors import RequestError, TooLargeError
from visionyard.serving.statuses import Refusal, RefusedError, too_slow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# After a refusal, a body on its way is read and thrown away for so long: a connection that is closed on a client that
# is still sending loses the refusal.
_LINGER_S = 2.0


class ClientGoneError(Exception):
    """The caller closed the connection."""


# What reading a body that nobody wants any more may end with.
READ_ERRORS = (RequestError, RefusedError, ClientGoneError)


class Body:
    """Reads the body of a request, at most so many bytes and so many seconds of it.

    Attributes:
        is_read: All of it has arrived.
        is_given_up: It is too large or too slow.
    """

    def __init__(self, receive: Receive, max_bytes: int, timeout_s: float) -> None:
        """Begin with nothing read."""
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
        with contextlib.suppress(TimeoutError, ClientGoneError):
            async with asyncio.timeout(_LINGER_S):
                while not self.is_read:
                    await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_read = True
            raise ClientGoneError
        self.is_read = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    def _too_large(self, size: str) -> TooLargeError:
        self.is_given_up = True
        return TooLargeError(
            f"the body has {size[:20]} bytes; at most {self._max_bytes} are taken; send fewer or smaller images"
        )


class Answer:
    """Passes an answer on and remembers what it was.

    Attributes:
        status: Of the answer; 0 until it is sent.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        """Begin with nothing sent."""
        self._send = send
        self._request_id = request_id
        self.status = 0

    @property
    def is_started(self) -> bool:
        """Whether the caller has got a status already."""
        return self.status > 0

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one gets the request id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self._request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, refusal: Refusal, *, is_closing: bool) -> None:
        """Send a refusal; `end` has to follow, so that a body on its way can be taken before the connection closes."""
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
        """End the answer."""
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})
