"""Objects on their way to S3: small ones in one request, large ones in parts, several at a time and resumable.

Each request carries a hash that the server holds the bytes to (minio sends SHA-256 over http, MD5 over https); what the
server says it stored is held to our own MD5; and the SHA-256 of the whole travels as metadata of the object, for
whoever fetches it. An upload that was interrupted is found on the server and goes on with the parts that are missing;
one of other content that nobody went on with for a day is aborted.
"""

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, BinaryIO

from minio.datatypes import Part
from minio.error import S3Error

from visionyard.storage.receiving import Checksum, DamagedError

PART_BYTES = 16 << 20
_MOST_PARTS = 10_000
_THREADS = 4
# Parts in memory at once, of all uploads of the process.
_ROOM = threading.BoundedSemaphore(8)
_ABANDONED_AFTER = timedelta(days=1)
SHA256_HEADER = "x-amz-meta-visionyard-sha256"
_MD5 = re.compile(r"[0-9a-f]{32}")
_Retry = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Target:
    """The object that is written, and the client that does it; `retry` calls a function again when it may help."""

    client: Any
    bucket: str
    key: str
    retry: _Retry


def checksum_of(headers: Mapping[str, str]) -> Checksum | None:
    """Return what the content of an object must hash to, from the headers of an answer; None when it is not told."""
    named = headers.get(SHA256_HEADER, "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", named):
        return Checksum("sha256", named)
    etag = headers.get("ETag", "").strip('"').lower()
    return Checksum("md5", etag) if _MD5.fullmatch(etag) and not _is_encrypted(headers) else None


def send(target: Target, stream: BinaryIO, size: int, sent: Callable[[int], None]) -> None:
    """Write an object from the bytes of a stream.

    Args:
        target: The object.
        stream: Can be read from any place; nobody else reads it meanwhile.
        size: Its bytes.
        sent: Called with the bytes that arrived, part by part.

    Raises:
        DamagedError: The server stored other bytes.
    """
    if size <= PART_BYTES:
        stream.seek(0)
        data = stream.read()
        metadata = {SHA256_HEADER: hashlib.sha256(data).hexdigest()}
        target.retry(lambda: _put(target, data, metadata))
        sent(size)
        return
    sha256 = _sha256(stream)
    for is_resuming in (True, False):
        try:
            _send_parts(target, stream, size, sha256, sent, is_resuming=is_resuming)
        except S3Error as error:
            if error.code != "NoSuchUpload" or not is_resuming:
                raise
            continue  # another process finished or aborted the upload that was gone on with
        # An unfinished upload does not tell which metadata it was begun with; the object does.
        found = target.retry(lambda: target.client.stat_object(target.bucket, target.key))
        if found.size == size and found.metadata.get(SHA256_HEADER, sha256) == sha256:
            return
    raise DamagedError(f"the server stored {found.size} bytes of other content")


def _put(target: Target, data: bytes, metadata: dict[str, str]) -> None:
    result = target.client.put_object(
        target.bucket,
        target.key,
        io.BytesIO(data),
        len(data),
        metadata=metadata,
        part_size=max(PART_BYTES, len(data)),
    )
    _check_stored(data, result.etag, result.http_headers)


def _check_stored(data: bytes, etag: str | None, headers: Mapping[str, str]) -> None:
    """Raise DamagedError where the server says that it stored other bytes."""
    if etag and _MD5.fullmatch(etag) and not _is_encrypted(headers):
        Checksum("md5", etag).check_bytes(data)


def _is_encrypted(headers: Mapping[str, str]) -> bool:
    """Return whether the ETag is no MD5 because the server encrypts with a key of its own service or of the caller."""
    encryption = headers.get("x-amz-server-side-encryption", "")
    return encryption.startswith("aws:") or "x-amz-server-side-encryption-customer-algorithm" in headers


@dataclass(frozen=True)
class _Part:
    number: int
    offset: int
    size: int


def _parts(size: int) -> list[_Part]:
    part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
    starts = range(0, size, part_bytes)
    return [_Part(number, start, min(part_bytes, size - start)) for number, start in enumerate(starts, start=1)]


def _send_parts(
    target: Target, stream: BinaryIO, size: int, sha256: str, sent: Callable[[int], None], *, is_resuming: bool
) -> None:
    parts = _parts(size)
    upload_id, there = _unfinished(target, stream, parts) if is_resuming else ("", {})
    if not upload_id:
        headers = {SHA256_HEADER: sha256}
        upload_id = target.retry(
            lambda: target.client._create_multipart_upload(target.bucket, target.key, dict(headers))
        )
    reading = threading.Lock()

    def send_part(part: _Part) -> Part:
        if part.number not in there:
            with _ROOM:
                data = _read(stream, part, reading)
                there[part.number] = target.retry(lambda: _put_part(target, upload_id, part, data))
        sent(part.size)
        return Part(part.number, there[part.number])

    pool = ThreadPoolExecutor(_THREADS)
    try:
        finished = list(pool.map(send_part, parts))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    target.retry(lambda: target.client._complete_multipart_upload(target.bucket, target.key, upload_id, finished))


def _put_part(target: Target, upload_id: str, part: _Part, data: bytes) -> str:
    etag = str(target.client._upload_part(target.bucket, target.key, data, None, upload_id, part.number))
    if _MD5.fullmatch(etag) and etag != _md5(data):
        raise DamagedError(f"part {part.number}: expected md5 {_md5(data)}, got {etag}")
    return etag


def _unfinished(target: Target, stream: BinaryIO, parts: list[_Part]) -> tuple[str, dict[int, str]]:
    """Return an unfinished upload of the same content and the ETags of the parts it has; "" when there is none."""
    by_number = {part.number: part for part in parts}
    for upload_id, begun in _uploads(target):
        there = dict(_uploaded_parts(target, upload_id))
        reading = threading.Lock()
        is_ours = bool(there) and all(
            number in by_number and etag == _md5(_read(stream, by_number[number], reading))
            for number, etag in there.items()
        )
        if is_ours:
            return upload_id, there
        if begun and datetime.now(UTC) - begun > _ABANDONED_AFTER:
            target.client._abort_multipart_upload(target.bucket, target.key, upload_id)
    return "", {}


def _uploads(target: Target) -> list[tuple[str, datetime | None]]:
    """Return the unfinished uploads of the object and when they were begun; none where the server does not tell."""
    try:
        found = target.retry(lambda: target.client._list_multipart_uploads(target.bucket, prefix=target.key))
    except S3Error as error:
        if error.code in {"AccessDenied", "NotImplemented", "MethodNotAllowed"}:
            return []  # the right to list them is one of its own; without it, large uploads begin anew
        raise
    return [(upload.upload_id, upload.initiated_time) for upload in found.uploads if upload.object_name == target.key]


def _uploaded_parts(target: Target, upload_id: str) -> Iterator[tuple[int, str]]:
    marker: str | None = None
    while True:
        listing = partial(target.client._list_parts, target.bucket, target.key, upload_id, part_number_marker=marker)
        found = target.retry(listing)
        for part in found.parts:
            yield int(part.part_number), str(part.etag).strip('"')
        marker = str(found.next_part_number_marker or "")
        if not found.is_truncated or not marker:
            return


def _read(stream: BinaryIO, part: _Part, reading: threading.Lock) -> bytes:
    with reading:
        stream.seek(part.offset)
        return stream.read(part.size)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
