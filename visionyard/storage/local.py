"""Files and folders of this machine."""

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO

from visionyard import events
from visionyard.atomic import atomic_file, is_leftover
from visionyard.digests import digest_of_lines, sha256_file
from visionyard.errors import StorageError
from visionyard.storage.base import CHUNK_BYTES, ObjectInfo, Store
from visionyard.storage.receiving import Arriving, Checksum, DamagedError, receive


def walk_files(folder: Path, *, with_leftovers: bool = False) -> Iterator[Path]:
    """Yield all entries below a folder that are not folders, in the order of their names; links are not followed.

    A folder below it that goes before it was listed holds none.

    Args:
        folder: Where.
        with_leftovers: Also unfinished files, and those in unfinished folders.

    Raises:
        StorageError: A folder cannot be listed.
    """
    with _explained(folder):
        entries = list(os.scandir(folder))
    yield from _below(entries, with_leftovers=with_leftovers)


def _below(entries: list[os.DirEntry[str]], *, with_leftovers: bool) -> Iterator[Path]:
    for entry in sorted(entries, key=lambda entry: entry.name):
        if is_leftover(entry.name) and not with_leftovers:
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)
            continue
        found: list[os.DirEntry[str]] = []
        with _explained(Path(entry.path)), suppress(FileNotFoundError):
            found = list(os.scandir(entry.path))
        yield from _below(found, with_leftovers=with_leftovers)


class LocalStore(Store):
    """A path; its etag is its size and modification time, its digest is taken over the content."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list_objects(self) -> list[ObjectInfo]:
        """See Store."""
        if self._path.is_file():
            return [self._info(self._path, self._path.name)]
        if not self._path.is_dir():
            return []
        found = []
        for path in walk_files(self._path):
            # What another process is writing may get its name, or be removed, between listing and looking.
            with suppress(FileNotFoundError):
                if stat.S_ISREG(path.stat().st_mode):
                    found.append(self._info(path, path.relative_to(self._path).as_posix()))
        return sorted(found)

    def exists(self) -> bool:
        """See Store."""
        return self._path.is_file() or (self._path.is_dir() and any(True for _ in walk_files(self._path)))

    def read_bytes(self, offset: int, size: int | None) -> bytes:
        """See Store."""
        with _explained(self._path), self._path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(-1 if size is None else size)

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """See Store."""
        with _explained(self._path), atomic_file(self._path) as stream:
            yield stream

    def fetch(self, target: Path, arrived: Callable[[int], None] = lambda _: None) -> None:
        """See Store."""
        with _explained(self._path):
            etag = self._info(self._path, self._path.name).etag
            self._copy(self._path, target, etag, arrived)

    def upload(self, path: Path, sent: Callable[[int], None] = lambda _: None) -> None:
        """See Store."""
        with _explained(path):
            self._copy(path, self._path, "", sent)

    @staticmethod
    def _copy(source: Path, target: Path, etag: str, copied: Callable[[int], None]) -> None:
        digest = hashlib.sha256()

        def chunks(stream: BinaryIO) -> Iterator[bytes]:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                yield chunk

        @contextmanager
        def opened(_offset: int, _etag: str) -> Iterator[Arriving]:
            with source.open("rb") as stream:
                yield Arriving(0, None, etag, False, lambda: Checksum("sha256", digest.hexdigest()), chunks(stream))

        try:
            receive(target, opened, copied)
        except DamagedError as error:
            raise StorageError(f"{target}: the copy of {source} is damaged ({error}); check the disk") from None

    def delete(self) -> None:
        """See Store."""
        with _explained(self._path):
            if self._path.is_dir() and not self._path.is_symlink():
                shutil.rmtree(self._path)
            else:
                self._path.unlink(missing_ok=True)

    def digest(self) -> str:
        """Return the SHA-256 of a file, or over the sorted relative paths and contents of a folder's files."""
        if self._path.is_file():
            with _explained(self._path):
                return sha256_file(self._path)
        objects = self.list_objects()
        if not objects:
            raise StorageError(f"{self._path}: no such file or folder, or an empty one; check the path")
        return digest_of_lines(self._digest_lines(objects))

    def _digest_lines(self, objects: list[ObjectInfo]) -> Iterator[str]:
        for done, info in enumerate(objects):
            events.progress(done, len(objects), unit="file", label=f"hashing {info.key}")
            with _explained(self._path / info.key):
                yield f"{info.key} {sha256_file(self._path / info.key)}"
        events.progress(len(objects), len(objects), unit="file", label="hashed")

    @staticmethod
    def _info(path: Path, key: str) -> ObjectInfo:
        status = path.stat()
        return ObjectInfo(key, status.st_size, f"{status.st_size}-{status.st_mtime_ns}", str(path), status.st_mtime)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a StorageError; a full disk stays what it is, for its own exit class."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{error.filename or path}: no such file or folder; check the path") from None
    except OSError as error:
        if error.errno == ENOSPC:
            raise
        raise StorageError(
            f"{error.filename or path}: {error.strerror or error}; check the path and the rights to it"
        ) from None
