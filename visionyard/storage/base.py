"""What the stores share: their interface, time limits and retries."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import tenacity
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    ResponseError,
    SSLError,
)

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
TRY_COUNT = 5
# A store that restarts is back within seconds, and one that asks to slow down means about as long: five tries span at
# least 4.5 s. Up to as much again is drawn, so that many clients do not come back at the same moment (M. Brooker,
# Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
_FIRST_WAIT_S = 0.3
_LONGEST_WAIT_S = 5.0
CHUNK_BYTES = 1 << 20
TIMEOUT = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)

_Result = TypeVar("_Result")


@dataclass(frozen=True, order=True)
class ObjectInfo:
    """One file in a store.

    Attributes:
        key: Path below the listed address, POSIX; the file's own name when the address is that file.
        size: Bytes.
        etag: Changes when the content does; what it is made of is the store's matter. Empty when the store gives none.
        address: Its own full address; may hold a password or a signature, hence never shown.
        modified_s: When it was last written, seconds since 1970 by the store's clock; 0 when the store does not say.
    """

    key: str
    size: int
    etag: str
    address: str = field(repr=False)
    modified_s: float = field(default=0.0, compare=False)


class Store(ABC):
    """One address in a store: a file, or all files below it. Every failure is a StorageError."""

    @abstractmethod
    def list_objects(self) -> list[ObjectInfo]:
        """Return the files at or below the address, sorted by key; none when there is nothing."""

    @abstractmethod
    def exists(self) -> bool:
        """Return whether there is a file at the address, or any below it."""

    @abstractmethod
    def read_bytes(self, offset: int, size: int | None) -> bytes:
        """Return `size` bytes from `offset` of the file at the address, or all from there; fewer at its end."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[BinaryIO]:
        """Return a block whose stream becomes the file at the address when it ends well, whole or not at all."""

    @abstractmethod
    def fetch(self, target: Path, arrived: Callable[[int], None] = lambda _: None) -> None:
        """Copy the file at the address to `target`, verified, whole or not at all, and mark it with its etag.

        A transfer that broke off goes on the next time where the store can do that. `arrived` is called with the bytes
        of each chunk.
        """

    @abstractmethod
    def upload(self, path: Path, sent: Callable[[int], None] = lambda _: None) -> None:
        """Copy a local file to the address, verified, whole or not at all; `sent` is called with the bytes of parts."""

    @abstractmethod
    def delete(self) -> None:
        """Remove the file at the address and all below it; nothing there is no error."""

    @abstractmethod
    def digest(self) -> str:
        """Return a digest that changes whenever the content does."""


def with_retries(function: Callable[[], _Result], is_transient: Callable[[BaseException], bool]) -> _Result:
    """Call a function up to five times, with growing waits between, as long as its error may pass by itself."""
    growing = tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)
    drawn = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(TRY_COUNT),
        wait=growing + drawn,
        retry=tenacity.retry_if_exception(is_transient),
        reraise=True,
    )
    return retrying(function)


def is_transient_connection_fault(error: BaseException) -> bool:
    """Return whether a fault of the connection may pass by itself: all but a certificate that is not trusted."""
    reason = error.reason if isinstance(error, MaxRetryError) else error
    transient = (NewConnectionError, ConnectTimeoutError, ReadTimeoutError, ProtocolError)
    return isinstance(reason, transient)


def connection_fault(error: HTTPError) -> str:
    """Return what happened to a connection and the way out, as the end of a sentence that begins with the endpoint."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(reason, NameResolutionError):
        return "the host name is not known; check the address"
    if isinstance(reason, NewConnectionError):
        return "the connection was refused; check the address and port, and that the server runs"
    if isinstance(reason, ConnectTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S:g} s ({TRY_COUNT} tries); check the address and the network"
    if isinstance(reason, ReadTimeoutError):
        return f"nothing was sent for {READ_TIMEOUT_S:g} s ({TRY_COUNT} tries); try again later"
    if isinstance(reason, SSLError):
        return (
            "the secure connection failed; use http:// for a server without TLS, or name the file of its certificate "
            "authority in SSL_CERT_FILE"
        )
    if isinstance(reason, ResponseError):
        return "the address leads on to others without end; check it"
    if isinstance(reason, ProtocolError):
        return f"the connection broke off in the middle ({TRY_COUNT} tries); run the same command again"
    return f"{type(reason).__name__}; check the address and the network"
