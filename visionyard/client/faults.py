"""What can go wrong on the way to the server and back, as errors; and how often a call is tried again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tenacity

from visionyard.errors import (
    ConfigError,
    DeadlineError,
    DeniedError,
    NotFoundError,
    OverloadedError,
    RequestError,
    StorageError,
    TooLargeError,
    VisionyardError,
)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0
# The server's own word counts, yet not for hours.
_LONGEST_RETRY_AFTER_S = 60.0


@dataclass(frozen=True)
class Patience:
    """How long a call may take, and how often it is tried.

    Attributes:
        timeout_s: For the whole call with all its tries, above 0.
        try_count: Most tries, at least 1; predictions change nothing on the server, so trying again is safe.

    Raises:
        ConfigError: A value is out of its range.
    """

    timeout_s: float
    try_count: int

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout_s = {self.timeout_s}: expected above 0 seconds")
        if self.try_count < 1:
            raise ConfigError(f"try_count = {self.try_count}: expected at least 1")

    def start(self) -> "Deadline":
        """Start the clock of one call."""
        return Deadline(self.timeout_s, time.monotonic() + self.timeout_s)

    def retrying(self, deadline: "Deadline") -> dict[str, Any]:
        """Return tenacity's settings: overload and lost connections are tried again while the time allows."""

        def must_stop(state: tenacity.RetryCallState) -> bool:
            return state.attempt_number >= self.try_count or _wait_s(state) >= deadline.left_s

        return {
            "stop": must_stop,
            "wait": _wait_s,
            "retry": tenacity.retry_if_exception_type((OverloadedError, StorageError)),
            "reraise": True,
        }


@dataclass(frozen=True)
class Deadline:
    """When a call must be over."""

    timeout_s: float
    end: float = field(repr=False)

    @property
    def left_s(self) -> float:
        """Seconds left, at least 1 ms so that it is a valid time-out."""
        return max(0.001, self.end - time.monotonic())

    def error(self, url: str) -> DeadlineError:
        """Return the error of a call that was not answered in time."""
        return DeadlineError(
            f"{url}: no answer within {self.timeout_s:g} s; give more time (timeout_s), or send fewer or smaller images"
        )


def _wait_s(state: tenacity.RetryCallState) -> float:
    backoff: float = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1))
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, OverloadedError):
        return max(backoff, min(float(error.retry_after_s), _LONGEST_RETRY_AFTER_S))
    return backoff


def error_of_status(status: int, message: str, *, url: str, retry_after: str = "") -> VisionyardError:
    """Return the error of an HTTP status.

    Args:
        status: 400 or above.
        message: The server's own words; empty when it sent none.
        url: The server.
        retry_after: The header of that name.
    """
    text = f"{url}: {message or f'the server answered with status {status}'}"
    if status in {429, 503}:
        return OverloadedError(text, retry_after_s=_seconds(retry_after), is_rate_limit=status == 429)
    if status == 401:
        return DeniedError(f"{text}; give a valid api_key")
    if status == 504:
        return DeadlineError(text)
    if status == 502:
        return StorageError(text)
    kinds: Mapping[int, type[RequestError]] = {403: DeniedError, 404: NotFoundError, 413: TooLargeError}
    if status < 500:
        return kinds.get(status, RequestError)(text)
    return VisionyardError(f"{text}; see the server's log")


def _seconds(retry_after: str) -> float:
    # The other form of the header, a date, is not what our server sends.
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return 1.0


def unreachable(url: str, reason: str) -> StorageError:
    """Return the error of a server that could not be reached, or whose connection broke; it may pass by itself."""
    return StorageError(f"{url}: the server cannot be reached: {reason}; check the address, and that it runs")
