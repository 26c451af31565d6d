"""S3 and everything that speaks its protocol (MinIO, SeaweedFS, Ceph): one address in a bucket."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from visionyard import events
from visionyard.digests import digest_of_lines
from visionyard.errors import StorageError
from visionyard.storage.base import (
    CHUNK_BYTES,
    TRY_COUNT,
    ObjectInfo,
    Store,
    connection_fault,
    is_transient_connection_fault,
    with_retries,
)
from visionyard.storage.receiving import Arriving, DamagedError, receive
from visionyard.storage.s3_access import open_access
from visionyard.storage.s3_upload import Target, checksum_of, send

# Larger than pointers and small results, smaller than a checkpoint, which goes through the disk.
_SPOOLED_BYTES = 16 << 20
_KEY_VARIABLES = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file or role that stands for them"
# The last three: the bytes were altered or cut short on their way to the server.
_TRANSIENT_CODES = {
    "InternalError",
    "SlowDown",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
}
_EXPLANATIONS = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the address",
    "NoSuchKey": "there is no such object; check the key",
    "AccessDenied": f"access was denied; check {_KEY_VARIABLES} and the rights of that user on the bucket",
    "InvalidAccessKeyId": f"the access key is not known there; check {_KEY_VARIABLES}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key; check {_KEY_VARIABLES}",
    "ExpiredToken": "the session token has expired; renew AWS_SESSION_TOKEN",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set AWS_DEFAULT_REGION",
    "PermanentRedirect": "the bucket lies in another region; set AWS_DEFAULT_REGION",
    "SlowDown": "the server asks for fewer requests; try again later",
    "InsufficientStorage": "the server has no space left; free some there",
}
_Result = TypeVar("_Result")


class S3Store(Store):
    """An object, or all objects below a prefix; settings come from the environment when it is made."""

    def __init__(self, address: str) -> None:
        """Parse an address and read the settings.

        Args:
            address: `s3://bucket/prefix`.

        Raises:
            StorageError: The address has no bucket, or the endpoint in the environment is not usable.
        """
        bucket, _, key = address.partition("://")[2].partition("/")
        if not bucket:
            raise StorageError(f"{address}: names no bucket; expected s3://bucket/prefix")
        self._bucket, self._key = bucket, key.strip("/")
        access = open_access()
        self._client, self._endpoint, self._scrubbed = access.client, access.endpoint, access.scrubbed

    @property
    def address(self) -> str:
        """The address, without a slash at its end."""
        return f"s3://{self._bucket}/{self._key}".rstrip("/")

    def list_objects(self) -> list[ObjectInfo]:
        """See Store."""
        return self._call(lambda: sorted(self._below())) or self._call(self._itself)

    def _below(self) -> Iterator[ObjectInfo]:
        prefix = f"{self._key}/" if self._key else ""
        for entry in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
            if not entry.is_dir and not entry.object_name.endswith("/"):
                yield ObjectInfo(
                    key=entry.object_name.removeprefix(prefix),
                    size=entry.size,
                    etag=entry.etag or "",
                    address=f"s3://{self._bucket}/{entry.object_name}",
                    modified_s=_seconds(entry.last_modified),
                )

    def _itself(self) -> list[ObjectInfo]:
        if not self._key:
            return []
        try:
            status = self._client.stat_object(self._bucket, self._key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return []
            raise
        name, modified_s = self._key.rpartition("/")[2], _seconds(status.last_modified)
        return [ObjectInfo(name, status.size, status.etag or "", self.address, modified_s)]

    def exists(self) -> bool:
        """See Store."""
        # One object below is enough: a listing of all takes a request a thousand.
        return bool(self._call(self._itself)) or self._call(lambda: next(self._below(), None)) is not None

    def read_bytes(self, offset: int, size: int | None) -> bytes:
        """See Store."""
        if size == 0:
            return b""

        def read() -> bytes:
            try:
                response = self._client.get_object(self._bucket, self._key, offset=offset, length=size or 0)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return b""
                raise
            try:
                data = bytes(response.read(decode_content=False))
            finally:
                response.close()
                response.release_conn()
            if not offset and size is None and (checksum := checksum_of(response.headers)):
                checksum.check_bytes(data)
            return data

        data = self._call(read)
        events.count_bytes(read=len(data))
        return data

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """See Store."""
        # The length must be known before the first byte is sent, and a second try reads from the beginning.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            yield spool  # type: ignore[misc]  # it has all of BinaryIO's methods, not its type
            size = spool.seek(0, os.SEEK_END)
            self._send(spool, size)  # type: ignore[arg-type]  # as above

    def fetch(self, target: Path, arrived: Callable[[int], None] = lambda _: None) -> None:
        """See Store."""
        events.count_bytes(read=self._call(lambda: receive(target, self._arriving, arrived)))

    @contextmanager
    def _arriving(self, offset: int, etag: str) -> Iterator[Arriving]:
        response = self._get_from(offset)
        if offset and response.headers.get("ETag", "").strip('"') != etag:
            _release(response)
            offset, response = 0, self._get_from(0)
        length = response.headers.get("Content-Length")
        try:
            yield Arriving(
                start=offset,
                size=offset + int(length) if length is not None else None,
                etag=response.headers.get("ETag", "").strip('"'),
                is_resumable=True,
                checksum=lambda: checksum_of(response.headers),
                chunks=response.stream(CHUNK_BYTES, decode_content=False),  # as stored, whatever Content-Encoding says
            )
        finally:
            _release(response)

    def _get_from(self, offset: int) -> Any:
        try:
            return self._client.get_object(self._bucket, self._key, offset=offset)
        except S3Error as error:
            if offset and error.code == "InvalidRange":  # it is shorter now
                return self._client.get_object(self._bucket, self._key)
            raise

    def upload(self, path: Path, sent: Callable[[int], None] = lambda _: None) -> None:
        """See Store."""
        if not path.is_file():
            raise StorageError(f"{path}: no such file; nothing was uploaded to {self.address}")
        with path.open("rb") as stream:
            self._send(stream, os.fstat(stream.fileno()).st_size, sent)

    def _send(self, stream: BinaryIO, size: int, sent: Callable[[int], None] = lambda _: None) -> None:
        target = Target(self._client, self._bucket, self._key, lambda function: with_retries(function, _is_transient))
        with self._explaining():
            send(target, stream, size, sent)
        events.count_bytes(written=size)

    def delete(self) -> None:
        """See Store."""
        if not self._key:
            raise StorageError(f"{self.address}: a whole bucket is not deleted; name a prefix in it")
        names = [info.address.removeprefix(f"s3://{self._bucket}/") for info in self.list_objects()]
        objects = [DeleteObject(name) for name in [*names, self._key]]
        refused = self._call(lambda: [error.code for error in self._client.remove_objects(self._bucket, objects)])
        if refused:
            raise StorageError(self._message(_EXPLANATIONS.get(refused[0], f"deleting failed: {refused[0]}")))

    def digest(self) -> str:
        """Return the SHA-256 over the sorted keys, etags and sizes."""
        objects = self.list_objects()
        if not objects:
            raise StorageError(self._message("there is no object at or below this address; check it"))
        return digest_of_lines(f"{info.key} {info.etag} {info.size}" for info in objects)

    def _call(self, function: Callable[[], _Result]) -> _Result:
        with self._explaining():
            return with_retries(function, _is_transient)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (MinioException, HTTPError, ValueError, DamagedError) as error:
            explained = self._explained(error)
            explained.is_transient = _is_transient(error)
            raise explained from None

    def _explained(self, error: Exception) -> StorageError:
        if isinstance(error, HTTPError):
            return StorageError(self._message(connection_fault(error)))
        if isinstance(error, DamagedError):
            return StorageError(self._message(f"the bytes are damaged, {TRY_COUNT} times ({error}); upload it again"))
        if isinstance(error, S3Error):
            code = str(error.code)
            unknown = f"the server answered {code}: {self._scrubbed(str(error.message))}"
            return StorageError(self._message(_EXPLANATIONS.get(code, unknown)))
        if isinstance(error, ServerError):
            return StorageError(self._message(f"the server failed with status {error.status_code}; try again later"))
        if isinstance(error, InvalidResponseError):
            return StorageError(self._message("the answer is not S3's; check that the endpoint is the S3 port"))
        return StorageError(self._message(self._scrubbed(str(error))))

    def _message(self, text: str) -> str:
        return f"{self.address} at {self._endpoint}: {text}"


def _release(response: Any) -> None:
    response.close()
    response.release_conn()


def _seconds(time: datetime | None) -> float:
    return time.timestamp() if time else 0.0


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, S3Error):
        return error.code in _TRANSIENT_CODES
    if isinstance(error, InvalidResponseError):
        return int(error._code) >= 500
    return isinstance(error, ServerError | DamagedError) or is_transient_connection_fault(error)
