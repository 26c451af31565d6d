import grpc
import orjson
import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from visionyard.errors import (
    DeadlineError,
    DeniedError,
    MediaError,
    NotFoundError,
    OverloadedError,
    RequestError,
    TooLargeError,
    VisionyardError,
)
from visionyard.serving.kserve_sdk import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady
from visionyard.serving.statuses import no_key, refuse, too_slow, wrong_encoding

_Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("error", "http", "code"),
    [
        pytest.param(RequestError("x"), 400, _Code.INVALID_ARGUMENT, id="request"),
        pytest.param(NotFoundError("x"), 404, _Code.NOT_FOUND, id="not-found"),
        pytest.param(TooLargeError("x"), 413, _Code.INVALID_ARGUMENT, id="too-large"),
        pytest.param(DeniedError("x"), 403, _Code.PERMISSION_DENIED, id="denied"),
        pytest.param(OverloadedError("x"), 503, _Code.UNAVAILABLE, id="overloaded"),
        pytest.param(OverloadedError("x", is_rate_limit=True), 429, _Code.RESOURCE_EXHAUSTED, id="rate"),
        pytest.param(DeadlineError("x"), 504, _Code.DEADLINE_EXCEEDED, id="deadline"),
        pytest.param(InvalidInput("x"), 400, _Code.INVALID_ARGUMENT, id="kserve-input"),
        pytest.param(ModelNotFound("x"), 404, _Code.NOT_FOUND, id="kserve-not-found"),
        pytest.param(ModelNotReady("x"), 503, _Code.UNAVAILABLE, id="kserve-model-not-ready"),
        pytest.param(ServerNotReady(), 503, _Code.UNAVAILABLE, id="kserve-server-not-ready"),
        pytest.param(NotImplementedError("x"), 501, _Code.UNIMPLEMENTED, id="not-implemented"),
        pytest.param(HTTPException(405), 405, _Code.UNIMPLEMENTED, id="starlette-method"),
        pytest.param(HTTPException(404), 404, _Code.NOT_FOUND, id="starlette-not-found"),
        pytest.param(RequestValidationError([]), 400, _Code.INVALID_ARGUMENT, id="fastapi"),
        pytest.param(no_key("x"), 401, _Code.UNAUTHENTICATED, id="no-key"),
        pytest.param(too_slow("x"), 408, _Code.DEADLINE_EXCEEDED, id="too-slow"),
        pytest.param(wrong_encoding("x"), 415, _Code.INVALID_ARGUMENT, id="encoding"),
        pytest.param(MediaError("x"), 500, _Code.INTERNAL, id="an-error-that-should-not-get-here"),
        pytest.param(VisionyardError("x"), 500, _Code.INTERNAL, id="ours"),
        pytest.param(KeyError("x"), 500, _Code.INTERNAL, id="bug"),
    ],
)
def test_every_error_has_a_status_and_a_code(error: Exception, http: int, code: grpc.StatusCode) -> None:
    found = refuse(error)

    assert (found.http_status, found.grpc_status) == (http, code)
    assert found.is_bug == (http == 500)
    assert (found.retry_after_s is not None) == (http in {429, 503})


def test_a_bug_says_nothing_but_the_request_id() -> None:
    found = refuse(KeyError("/secret/path"))

    assert orjson.loads(found.body("abc")) == {"error": "internal error, request id abc", "request_id": "abc"}


def test_a_refusal_says_why_and_when_to_come_back() -> None:
    found = refuse(OverloadedError("the queue is full", retry_after_s=1.2))

    assert orjson.loads(found.body("abc")) == {"error": "the queue is full", "request_id": "abc"}
    assert found.headers() == [(b"retry-after", b"2")]


def test_a_missing_key_is_asked_for() -> None:
    assert (b"www-authenticate", b"Bearer") in refuse(no_key("x")).headers()


def test_a_validation_problem_names_the_place_and_not_the_value() -> None:
    error = RequestValidationError([{"loc": ("query", "top_k"), "msg": "not a number", "input": "secret"}])

    assert refuse(error).message == "query.top_k: not a number"
