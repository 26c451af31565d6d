"""The functions over addresses: fetch, upload, list, read, write, delete, digest."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, TypeVar

from visionyard import events
from visionyard.errors import StorageError
from visionyard.storage.addresses import checked_key, file_name_of, join, local_path, scheme_of, shown
from visionyard.storage.base import ObjectInfo, Store
from visionyard.storage.local import LocalStore, walk_files
from visionyard.storage.receiving import is_complete

TRANSFER_THREADS = 8
_Job = TypeVar("_Job")


def open_store(address: str | Path) -> Store:
    """Return the store of an address: a path, `file://`, `s3://bucket/prefix` or `http(s)://`.

    Raises:
        StorageError: The address is of none of these kinds.
    """
    text = str(address)
    scheme = scheme_of(text)
    if scheme == "file":
        return LocalStore(local_path(text))
    if scheme == "s3":
        from visionyard.storage.s3 import S3Store

        return S3Store(text)
    from visionyard.storage.web import WebStore

    return WebStore(text)


def fetch_folder(uri: str, target: Path, *, mirror: bool = False) -> None:
    """Copy all files at or below an address into a folder, eight at a time.

    Each file appears whole and verified, or not at all. Files that an earlier, interrupted call completed and that have
    not changed in the store since are skipped, and one that broke off goes on in its middle.

    Args:
        uri: A folder, a prefix, or one file, which then lies in `target` under its own name.
        target: The folder; made once the listing succeeded.
        mirror: Also remove files of `target` that the source lacks (left by a call with another source).

    Raises:
        StorageError: There is nothing, or the store refused, timed out or sent too little.
    """
    objects = list_objects(uri)
    if not objects:
        raise StorageError(f"{shown(uri)}: expected files there, found none; check the address")
    for info in objects:
        checked_key(uri, info.key)
    target.mkdir(parents=True, exist_ok=True)
    if mirror:
        wanted = {target / info.key for info in objects}
        for path in [path for path in walk_files(target) if path not in wanted]:
            path.unlink()
    meter = _Meter(sum(info.size for info in objects), "fetching")

    def fetch(info: ObjectInfo) -> None:
        path = target / info.key
        if is_complete(path, info):
            meter.add(info.size)
        else:
            open_store(info.address).fetch(path, meter.add)

    _in_parallel(fetch, objects)


def fetch_file(uri: str, target: Path) -> Path:
    """Copy one file to `target`, whole or not at all; its parents are made.

    Args:
        uri: The file.
        target: Where it goes; an existing folder takes it under its own name.

    Returns:
        The path of the copy.

    Raises:
        StorageError: There is no such file, or the store refused, timed out or sent too little.
    """
    path = target / file_name_of(uri) if target.is_dir() else target
    open_store(uri).fetch(path)
    return path


def upload_file(path: Path, uri: str) -> None:
    """Copy a local file to an address, whole or not at all.

    Raises:
        StorageError: There is no such file, or the store refused or timed out.
    """
    open_store(uri).upload(path)


def upload_folder(folder: Path, uri: str) -> None:
    """Copy all files below a local folder to below an address, eight at a time.

    Raises:
        StorageError: The folder holds no file, or the store refused or timed out.
    """
    files = [path for path in walk_files(folder) if path.is_file()]
    if not files:
        raise StorageError(f"{folder}: expected files to upload to {shown(uri)}, found none")

    meter = _Meter(sum(path.stat().st_size for path in files), "uploading")
    _in_parallel(lambda path: open_store(join(uri, path.relative_to(folder).as_posix())).upload(path, meter.add), files)


def list_objects(uri: str) -> list[ObjectInfo]:
    """Return the files at or below an address, sorted by key; none when there is nothing.

    Raises:
        StorageError: The store refused or timed out, or the bucket is missing.
    """
    return open_store(uri).list_objects()


def exists(uri: str) -> bool:
    """Return whether there is a file at an address or any below it.

    Raises:
        StorageError: The store refused or timed out, or the bucket is missing.
    """
    return open_store(uri).exists()


def delete(uri: str) -> None:
    """Remove the file at an address and all below it; nothing there is no error.

    Raises:
        StorageError: The store refused or timed out.
    """
    open_store(uri).delete()


def read_bytes(uri: str, *, offset: int = 0, size: int | None = None) -> bytes:
    """Return the bytes of a file, or a part of them.

    Args:
        uri: The file.
        offset: First byte.
        size: How many; None reads to the end.

    Raises:
        StorageError: There is no such file, or the store refused or timed out.
    """
    return open_store(uri).read_bytes(offset, size)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        StorageError: The store refused or timed out.
    """
    with writing(uri) as stream:
        stream.write(data)


def writing(uri: str) -> AbstractContextManager[BinaryIO]:
    """Return a block whose stream becomes the file at an address when it ends well, whole or not at all.

    Raises:
        StorageError: The store refused or timed out.
    """
    return open_store(uri).writing()


def source_digest(uri: str) -> str:
    """Return a digest that changes whenever the content at an address does.

    Local: SHA-256 over the sorted relative paths and contents. S3: over the sorted keys, etags and sizes. Web: over the
    strong ETag, or a Last-Modified that lies a minute back with the length; a server that gives neither is read whole
    and the content hashed, since a cached result must never outlive its source.

    Raises:
        StorageError: There is nothing, or the store refused or timed out.
    """
    return open_store(uri).digest()


class _Meter:
    """Tells how many bytes of a transfer are done, from any thread."""

    def __init__(self, total: int, label: str) -> None:
        self._total = total
        self._label = label
        self._done = 0
        self._adding = threading.Lock()

    def add(self, size: int) -> None:
        """Count bytes; those of a try that failed are counted again, hence the bound."""
        with self._adding:
            self._done = min(self._done + size, self._total)
            events.progress(self._done, self._total, unit="byte", label=self._label)


def _in_parallel(function: Callable[[_Job], None], jobs: list[_Job]) -> None:
    """Do all jobs, eight at a time; the first error stops what has not begun."""
    pool = ThreadPoolExecutor(TRANSFER_THREADS)
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
