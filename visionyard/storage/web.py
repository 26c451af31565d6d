"""One file behind an http or https address; read only."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import certifi
import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from visionyard.digests import digest_of
from visionyard.errors import StorageError
from visionyard.storage.addresses import file_name_of, shown
from visionyard.storage.base import (
    CHUNK_BYTES,
    TIMEOUT,
    ObjectInfo,
    Store,
    connection_fault,
    is_transient_connection_fault,
    with_retries,
)
from visionyard.storage.receiving import Arriving, receive

# A file changed again within the second of its Last-Modified keeps that time; a minute later it can be relied upon
# (RFC 7232, 2.2.2).
_SETTLED_S = 60.0
_MISSING = {404, 410}
_MAX_REDIRECT_COUNT = 5
_Result = TypeVar("_Result")


class _StatusError(Exception):
    """The server answered with a status that is not a success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@cache
def _pool(_pid: int) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        timeout=TIMEOUT,
        retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=_MAX_REDIRECT_COUNT),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )


class WebStore(Store):
    """The file that a web server gives for an address."""

    def __init__(self, address: str) -> None:
        """Take an address, with `user:password@` where the server asks for it.

        Raises:
            StorageError: It names no host.
        """
        parts = urlsplit(address)
        if not parts.hostname:
            raise StorageError(f"{shown(address)}: names no host; expected http(s)://host/path")
        self._address = address
        user, _, host = parts.netloc.rpartition("@")
        self._url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "visionyard"}
        if user:
            self._headers |= urllib3.make_headers(basic_auth=unquote(user))

    def list_objects(self) -> list[ObjectInfo]:
        """See Store."""
        try:
            headers = self._response_headers()
        except _StatusError as error:
            if error.status in _MISSING:
                return []
            raise self._refused(error.status) from None
        size = int(headers.get("Content-Length", 0))
        return [ObjectInfo(file_name_of(self._address), size, _validator(headers) or "", self._address)]

    def exists(self) -> bool:
        """See Store."""
        return bool(self.list_objects())

    def read_bytes(self, offset: int, size: int | None) -> bytes:
        """See Store."""
        if size == 0:
            return b""

        def read() -> bytes:
            end = "" if size is None else str(offset + size - 1)
            wanted = {"Range": f"bytes={offset}-{end}"} if offset or size is not None else {}
            with self._request(headers=wanted) as response:
                if response.status == 416:
                    return b""
                if response.status == 206 or not wanted:
                    return bytes(response.read(decode_content=False))
                # A server without ranges sends all; what is before the offset is read and dropped.
                left = offset
                while left and (skipped := response.read(min(left, CHUNK_BYTES), decode_content=False)):
                    left -= len(skipped)
                return b"" if left else bytes(response.read(size, decode_content=False))

        return self._call(read)

    def writing(self) -> NoReturn:
        """See Store."""
        raise self._read_only()

    def upload(self, path: Path, sent: Callable[[int], None] = lambda _: None) -> None:
        """See Store."""
        raise self._read_only()

    def delete(self) -> None:
        """See Store."""
        raise self._read_only()

    def fetch(self, target: Path, arrived: Callable[[int], None] = lambda _: None) -> None:
        """See Store."""
        self._call(lambda: receive(target, self._arriving, arrived))

    @contextmanager
    def _arriving(self, offset: int, etag: str) -> Iterator[Arriving]:
        # If-Range (RFC 9110, 13.1.5): the rest of the same version, or all of another one.
        wanted = {"Range": f"bytes={offset}-", "If-Range": _if_range(etag)} if offset else {}
        with self._request(headers=wanted) as response:
            start = offset if response.status == 206 and (_validator(response.headers) or "") == etag else 0
            if start or response.status == 200:
                yield self._arriving_from(start, response)
                return
        with self._request() as response:  # 416, or a part of something else
            yield self._arriving_from(0, response)

    @staticmethod
    def _arriving_from(start: int, response: BaseHTTPResponse) -> Arriving:
        length = response.headers.get("Content-Length")
        validator = _validator(response.headers) or ""
        return Arriving(
            start=start,
            size=start + int(length) if length is not None else None,
            etag=validator,
            is_resumable=bool(validator) and response.headers.get("Accept-Ranges", "") != "none",
            checksum=lambda: None,
            chunks=response.stream(CHUNK_BYTES, decode_content=False),
        )

    def digest(self) -> str:
        """Return a digest of what the server says of the content, or of the content itself.

        A strong ETag is taken, else Last-Modified with Content-Length once that time lies a minute back. A server that
        gives neither cannot be asked whether the content changed, so the content is read and hashed (without being
        kept): slow, but a cached result never outlives its source.
        """
        try:
            validator = _validator(self._response_headers())
        except _StatusError as error:
            raise self._refused(error.status) from None
        if validator:
            return digest_of({"address": shown(self._address), "validator": validator})
        return self._call(self._content_digest)

    def _content_digest(self) -> str:
        digest = hashlib.sha256()
        with self._request() as response:
            for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                digest.update(chunk)
        return digest.hexdigest()

    def _response_headers(self) -> "urllib3.HTTPHeaderDict":
        try:
            return self._headers_by("HEAD")
        except _StatusError as error:
            if error.status in _MISSING:
                raise
        # HEAD is not allowed (405), or the address is signed for GET only (403).
        return self._headers_by("GET")

    def _headers_by(self, method: str) -> "urllib3.HTTPHeaderDict":
        def ask() -> urllib3.HTTPHeaderDict:
            with self._request(method) as response:
                return response.headers

        try:
            return with_retries(ask, _is_transient)
        except HTTPError as error:
            raise self._broken(error) from None

    @contextmanager
    def _request(self, method: str = "GET", headers: Mapping[str, str] | None = None) -> Iterator[BaseHTTPResponse]:
        sent = {**self._headers, **(headers or {})}
        response = _pool(os.getpid()).request(method, self._url, headers=sent, preload_content=False)
        try:
            if response.status not in {200, 206, 416}:
                raise _StatusError(response.status)
            yield response
        finally:
            response.close()
            response.release_conn()

    def _call(self, function: Callable[[], _Result]) -> _Result:
        try:
            return with_retries(function, _is_transient)
        except _StatusError as error:
            raise self._refused(error.status) from None
        except HTTPError as error:
            raise self._broken(error) from None

    def _broken(self, error: HTTPError) -> StorageError:
        message = f"{shown(self._address)}: {connection_fault(error)}"
        return StorageError(message, is_transient=is_transient_connection_fault(error))

    def _refused(self, status: int) -> StorageError:
        if status in {401, 403}:
            way_out = "access was denied; check the user and password or the signature in the address"
        elif status in _MISSING:
            way_out = "there is no such file; check the address"
        else:
            way_out = "try again later, or fetch the file by hand and give its path"
        message = f"{shown(self._address)}: the server answered {status}; {way_out}"
        return StorageError(message, is_transient=_is_transient(_StatusError(status)))

    def _read_only(self) -> StorageError:
        return StorageError(f"{shown(self._address)}: a web address is only read; give a path or s3:// address")


def _validator(headers: "urllib3.HTTPHeaderDict") -> str | None:
    etag = headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    modified, answered = headers.get("Last-Modified"), headers.get("Date")
    if modified and answered and headers.get("Content-Length"):
        try:
            age = parsedate_to_datetime(answered) - parsedate_to_datetime(modified)
        except ValueError:
            return None
        if age.total_seconds() >= _SETTLED_S:
            return f"{modified} {headers['Content-Length']}"
    return None


def _if_range(validator: str) -> str:
    """Return what If-Range takes: the ETag, or the date of a validator that is a date and a length."""
    return validator if validator.startswith('"') else validator.rpartition(" ")[0]


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, _StatusError):
        return error.status in {408, 429} or error.status >= 500
    return is_transient_connection_fault(error)
