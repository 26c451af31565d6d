"""What the stores share: their interface, time limits, retries, and files that appear whole."""

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
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
TRY_COUNT = 3
# A store that restarts is back within seconds; three tries then span about as long as one connect time-out.
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
    def fetch(self, target: Path) -> None:
        """Copy the file at the address to `target`, whole or not at all, and mark it with its etag."""

    @abstractmethod
    def upload(self, path: Path) -> None:
        """Copy a local file to the address, whole or not at all."""

    @abstractmethod
    def delete(self) -> None:
        """Remove the file at the address and all below it; nothing there is no error."""

    @abstractmethod
    def digest(self) -> str:
        """Return a digest that changes whenever the content does."""


def with_retries(function: Callable[[], _Result], is_transient: Callable[[BaseException], bool]) -> _Result:
    """Call a function up to three times, with growing waits between, as long as its error may pass by itself."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(TRY_COUNT),
        wait=tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
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


def save_stream(chunks: Iterable[bytes], target: Path, *, size: int | None, etag: str) -> None:
    """Write a stream to a file that appears whole and marked, or not at all.

    Args:
        chunks: The content.
        target: The file; its parents are made.
        size: Bytes expected; None when the server did not say.
        etag: As in `ObjectInfo`.

    Raises:
        ProtocolError: Another number of bytes arrived.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.partial")
    try:
        with work.open("wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            arrived = stream.tell()
        if size is not None and arrived != size:
            raise ProtocolError(f"expected {size} bytes, got {arrived}")
        mark(work, etag)
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def mark(path: Path, etag: str) -> None:
    """Note the etag of a fetched file in the nanoseconds of its modification time.

    So a later fetch knows a complete file without a second file beside it; a file that was altered since, or copied by
    a tool that rounds times, loses the mark and is fetched again.
    """
    time_ns = int(time.time()) * 10**9 + _mark_ns(etag)
    os.utime(path, ns=(time_ns, time_ns))


def is_complete(path: Path, info: ObjectInfo) -> bool:
    """Return whether `path` is a whole copy of that very version of an object."""
    if not info.etag or not path.is_file():
        return False
    status = path.stat()
    return status.st_size == info.size and status.st_mtime_ns % 10**9 == _mark_ns(info.etag)


def _mark_ns(etag: str) -> int:
    return int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8], "big") % 10**9
