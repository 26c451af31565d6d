"""What the server knows of a request while it answers it, and the count of those that are being answered."""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from visionyard.errors import OverloadedError

_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class RequestInfo:
    """One request, from its headers to its answer.

    Attributes:
        request_id: The caller's own where it is valid, else made.
        protocol: `http`, `v1`, `v2` or `grpc`.
        headers: Names in lower case; of gRPC the metadata.
        deadline: On `time.monotonic()`; the request is answered by then or refused.
        started: When its body had arrived, on `time.perf_counter()`.
        model: Name of the model that answers; empty until one was found.
        image_count: Images, or rows of a tensor, it asks about.
        key_name: Name of the key it came with.
        error: What it failed with.
    """

    request_id: str
    protocol: str
    headers: Mapping[str, str]
    deadline: float
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    image_count: int = 0
    key_name: str = ""
    error: BaseException | None = None


# Set by the gate of REST and by the interceptor of gRPC, in the task that answers the request.
_current: ContextVar[RequestInfo] = ContextVar("request_info")


def current_request() -> RequestInfo:
    """Return the request that this task answers."""
    return _current.get()


def set_current_request(info: RequestInfo) -> None:
    """Say which request this task answers."""
    _current.set(info)


def request_id_of(given: str) -> str:
    """Return a caller's request id where it is valid, else a new one."""
    return given if _VALID_ID.fullmatch(given) else secrets.token_hex(16)


class InFlight:
    """Counts requests that are being answered, so that a stopping server can wait for them.

    Attributes:
        is_draining: The server is stopping: no request is admitted any more.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.is_draining = False
        self._count = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def enter(self) -> None:
        """Admit a request.

        Raises:
            OverloadedError: The server is stopping.
        """
        if self.is_draining:
            raise OverloadedError("the server is stopping; send the request again, another one will answer it")
        self._count += 1
        self._is_empty.clear()

    def leave(self) -> None:
        """A request was answered."""
        self._count -= 1
        if not self._count:
            self._is_empty.set()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until none is left; False when some still are after `timeout_s`."""
        try:
            await asyncio.wait_for(self._is_empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
