"""Files that arrive: whole, verified and marked, or not at all; what a broken transfer left is gone on with.

An unfinished file stands beside its target as `.<name>.<etag>.partial`, so its own name says which version of the
source it is a part of; without the etag where it cannot be gone on with. One process at a time works on it; another one
fetching the same file has a file of its own.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from urllib3.exceptions import ProtocolError

from visionyard.atomic import claim, open_partial, partial_path, partial_versions
from visionyard.storage.base import ObjectInfo

_MOST_ETAG_BYTES = 90  # in base64, with the name of the file, below the 255 bytes of a file name


class DamagedError(Exception):
    """What arrived is not what was sent; it may be the next time."""


@dataclass(frozen=True)
class Checksum:
    """What the content must hash to: `algorithm` of hashlib, `digest` in hex."""

    algorithm: str
    digest: str

    def check(self, path: Path) -> None:
        """Raise DamagedError unless a file has this checksum."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.new(self.algorithm, usedforsecurity=False))
        self._check_digest(digest.hexdigest())

    def check_bytes(self, data: bytes) -> None:
        """Raise DamagedError unless some bytes have this checksum."""
        self._check_digest(hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest())

    def _check_digest(self, digest: str) -> None:
        if digest != self.digest:
            raise DamagedError(f"expected {self.algorithm} {self.digest}, got {digest}")


@dataclass(frozen=True)
class Arriving:
    """A transfer that has begun.

    Attributes:
        start: The first byte that comes: 0, or what was asked for.
        size: Bytes of the whole file; None when the source did not say.
        etag: As in `ObjectInfo`.
        is_resumable: The same etag means the same bytes, and the source gives ranges.
        checksum: Called when all has come; None where the source gives none.
        chunks: The content from `start`.
    """

    start: int
    size: int | None
    etag: str
    is_resumable: bool
    checksum: Callable[[], Checksum | None]
    chunks: Iterable[bytes]


def receive(
    target: Path, request: Callable[[int, str], AbstractContextManager[Arriving]], arrived: Callable[[int], None]
) -> int:
    """Write a file that comes from elsewhere; called again after a failure it goes on where it stopped.

    Args:
        target: The file; its parents are made.
        request: Asks for the file from a byte on, if it still has that etag; a source that has another version, or
            gives no ranges, sends all.
        arrived: Called with the bytes of each chunk.

    Returns:
        The bytes that came.

    Raises:
        ProtocolError: Another number of bytes came.
        DamagedError: Other bytes came.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _leftover(target) as (left, etag), request(left.tell() if left else 0, etag) as arriving:
        if left and arriving.start:
            return _take(partial_path(target, _encoded(etag)), left, target, arriving, arrived, is_kept=True)
        if left:
            partial_path(target, _encoded(etag)).unlink(missing_ok=True)
        version = _encoded(arriving.etag) if arriving.is_resumable else ""
        work, stream = open_partial(target, version)
        with stream:
            is_kept = bool(version) and work == partial_path(target, version)
            return _take(work, stream, target, arriving, arrived, is_kept=is_kept)


def _take(
    work: Path, stream: BinaryIO, target: Path, arriving: Arriving, arrived: Callable[[int], None], *, is_kept: bool
) -> int:
    count = 0
    try:
        for chunk in arriving.chunks:
            stream.write(chunk)
            count += len(chunk)
            arrived(len(chunk))
        stream.flush()
        if arriving.size is not None and arriving.start + count != arriving.size:
            raise ProtocolError(f"expected {arriving.size} bytes, got {arriving.start + count}")
        is_kept = False
        checksum = arriving.checksum()
        if checksum is not None:
            checksum.check(work)
        mark(work, arriving.etag)
        work.replace(target)  # while it is claimed: afterwards the name is free for another
    except BaseException:
        if not is_kept:
            work.unlink(missing_ok=True)
        raise
    return count


@contextmanager
def _leftover(target: Path) -> Iterator[tuple[BinaryIO | None, str]]:
    """Yield what an earlier, broken transfer left, open at its end, and its etag; None when there is nothing."""
    for version in partial_versions(target):
        etag = _decoded(version)
        stream = claim(partial_path(target, version)) if etag else None
        if stream is None:
            continue
        with stream:
            if stream.seek(0, os.SEEK_END):
                yield stream, etag
                return
    yield None, ""


def _encoded(etag: str) -> str:
    """Return an etag as a part of a file name; empty for one that is too long."""
    data = etag.encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=") if len(data) <= _MOST_ETAG_BYTES else ""


def _decoded(text: str) -> str:
    """Return the etag that `_encoded` made a text of; empty where it made none of the kind."""
    with suppress(ValueError):
        etag = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        return etag if _encoded(etag) == text else ""
    return ""


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
