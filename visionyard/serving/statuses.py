"""One table from errors to answers: the HTTP status, the gRPC code and the words that a caller gets.

Every refusal, wherever it comes from, is `{"error": "<message>", "request_id": "<id>"}` over REST and the same message
over gRPC. What is not a mistake of the caller says only that, with the request id; its trace is in the log.
"""

import math
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from visionyard.errors import (
    DeadlineError,
    DeniedError,
    NotFoundError,
    OverloadedError,
    RequestError,
    TooLargeError,
)
from visionyard.serving.kserve_sdk import (
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
    UnsupportedProtocol,
)

_Code = grpc.StatusCode
# The first that fits counts, so subclasses come before their base.
_TABLE: tuple[tuple[type[Exception], int, grpc.StatusCode], ...] = (
    (NotFoundError, 404, _Code.NOT_FOUND),
    (TooLargeError, 413, _Code.INVALID_ARGUMENT),
    (DeniedError, 403, _Code.PERMISSION_DENIED),
    (RequestError, 400, _Code.INVALID_ARGUMENT),
    (OverloadedError, 503, _Code.UNAVAILABLE),
    (DeadlineError, 504, _Code.DEADLINE_EXCEEDED),
    (ModelNotFound, 404, _Code.NOT_FOUND),
    (ModelNotReady, 503, _Code.UNAVAILABLE),
    (ServerNotReady, 503, _Code.UNAVAILABLE),
    (UnsupportedProtocol, 501, _Code.UNIMPLEMENTED),
    (NotImplementedError, 501, _Code.UNIMPLEMENTED),  # KServe's routes of model versions raise it
    (InvalidInput, 400, _Code.INVALID_ARGUMENT),
)
# Of starlette's own exceptions; any other is the caller's mistake as well.
_GRPC_OF_HTTP = {404: _Code.NOT_FOUND, 405: _Code.UNIMPLEMENTED}
_NOT_READY_RETRY_S = 1.0


@dataclass(frozen=True)
class Refusal:
    """What a caller gets instead of an answer.

    Attributes:
        http_status: 400 to 504.
        grpc_status: The code of the same meaning.
        message: What is wrong and what to do about it.
        retry_after_s: When to try again; None where that would not help.
        is_bug: Neither the caller nor the load is to blame: the trace belongs in the log.
        is_key_asked: The caller should come back with a key.
    """

    http_status: int
    grpc_status: grpc.StatusCode
    message: str
    retry_after_s: float | None = None
    is_bug: bool = False
    is_key_asked: bool = False

    def body(self, request_id: str) -> bytes:
        """Return the JSON text of the answer."""
        return orjson.dumps({"error": self.words(request_id), "request_id": request_id})

    def words(self, request_id: str) -> str:
        """Return the message, with the request id where that is all that a caller may learn."""
        return f"internal error, request id {request_id}" if self.is_bug else self.message

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that belong to the answer beside its type and length."""
        headers = []
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        if self.is_key_asked:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


class RefusedError(Exception):
    """A request refused for a reason that no error class stands for, such as a body that is too slow."""

    def __init__(self, refusal: Refusal) -> None:
        """Carry a refusal to where it is sent."""
        self.refusal = refusal
        super().__init__(refusal.message)


def refuse(error: BaseException) -> Refusal:
    """Return what a caller gets for an error."""
    if isinstance(error, RefusedError):
        return error.refusal
    if isinstance(error, OverloadedError):
        status, code = (429, _Code.RESOURCE_EXHAUSTED) if error.is_rate_limit else (503, _Code.UNAVAILABLE)
        return Refusal(status, code, str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, RequestValidationError):
        return Refusal(400, _Code.INVALID_ARGUMENT, "; ".join(_validation_problem(each) for each in error.errors()))
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, _GRPC_OF_HTTP.get(error.status_code, _Code.INVALID_ARGUMENT), error.detail)
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            retry_after_s = _NOT_READY_RETRY_S if status == 503 else None
            return Refusal(status, code, str(error) or status_words(status), retry_after_s=retry_after_s)
    return Refusal(500, _Code.INTERNAL, "internal error", is_bug=True)


def no_key(message: str) -> RefusedError:
    """Return the refusal of a request without a valid key."""
    return RefusedError(Refusal(401, _Code.UNAUTHENTICATED, message, is_key_asked=True))


def too_slow(message: str) -> RefusedError:
    """Return the refusal of a request that takes too long to arrive."""
    return RefusedError(Refusal(408, _Code.DEADLINE_EXCEEDED, message))


def wrong_encoding(message: str) -> RefusedError:
    """Return the refusal of a body in an encoding that is not read."""
    return RefusedError(Refusal(415, _Code.INVALID_ARGUMENT, message))


def status_words(status: int) -> str:
    """Return what a status means, for errors that say nothing themselves."""
    return {501: "not implemented"}.get(status, f"refused with status {status}")


def _validation_problem(problem: dict[str, Any]) -> str:
    """Return one sentence without the value: it may be the payload."""
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
