"""A folder of this machine that keeps what came from the store, under a size limit, for all processes of the node.

Entries are files or folders. Each appears whole or not at all, the least recently used goes first, and one that several
processes want at once is made by one of them. The locks are flock's, which end with their process, however it ends.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from visionyard.atomic import atomic_folder
from visionyard.errors import ConfigError, StorageError

FOLDER_VARIABLE = "VISIONYARD_CACHE_DIR"
LIMIT_VARIABLE = "VISIONYARD_CACHE_BYTES"
_DEFAULT_LIMIT_BYTES = 20 << 30
# Of the disk, when it is a small one.
_DISK_SHARE = 0.25
# File entries share so many locks: few enough not to litter, and a node's twenty threads seldom meet at one.
_LOCK_COUNT = 256
# Evicting goes on to this share of the limit, so that not every entry has to look through all others.
_EVICTED_TO_SHARE = 0.95
_SIZE_FILE = ".size_bytes"
_TOTAL = "total_bytes"


class _NoRoomError(Exception):
    """Ends the making of a folder before it is in place."""


class NodeCache:
    """The cache in one folder; holds no open file and no lock between calls, so it may be sent to other processes."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        """Open the cache, and make its folder where there is none.

        Args:
            folder: Its place; who may write there is trusted.
            limit_bytes: All entries together take no more.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._entries, self._locks = folder / "entries", folder / "locks"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._entries.mkdir(exist_ok=True)
        self._locks.mkdir(exist_ok=True)

    @classmethod
    def of_node(cls) -> "NodeCache":
        """Return the cache that VISIONYARD_CACHE_DIR and VISIONYARD_CACHE_BYTES name.

        By default it lies among the temporary files, as a training's scratch space does, so that one can hold hard
        links to the other; it takes 20 GiB, or a quarter of a smaller disk.

        Raises:
            ConfigError: VISIONYARD_CACHE_BYTES is no number of bytes.
            StorageError: No folder is named, and the usual one belongs to another user.
        """
        named = os.environ.get(FOLDER_VARIABLE)
        folder = Path(named) if named else Path(tempfile.gettempdir()) / f"visionyard-cache-{os.getuid()}"
        limit = os.environ.get(LIMIT_VARIABLE)
        if limit is not None and not limit.isdecimal():
            raise ConfigError(f"{LIMIT_VARIABLE} = {limit!r}: expected a number of bytes, such as 20000000000")
        if not named and folder.exists() and folder.lstat().st_uid != os.getuid():
            # Anyone can make folders among the temporary files; one that was named may be a volume's, which is root's.
            raise StorageError(f"{folder}: belongs to another user; name a folder of your own in {FOLDER_VARIABLE}")
        cache = cls(folder, limit_bytes=int(limit or _DEFAULT_LIMIT_BYTES))
        if limit is None:
            disk_bytes = shutil.disk_usage(folder).total
            cache.limit_bytes = min(cache.limit_bytes, int(disk_bytes * _DISK_SHARE))
        return cache

    def read(self, name: str, offset: int, size: int) -> bytes | None:
        """Return `size` bytes from `offset` of a file entry, fewer at its end; None when there is no such entry."""
        try:
            descriptor = os.open(self._entries / name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            os.utime(descriptor)
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def add(self, name: str, make: Callable[[], bytes], *, is_waiting: bool = True) -> bytes | None:
        """Make a file entry unless it is there by now; of several callers one makes it.

        Args:
            name: Of the entry.
            make: Returns its content.
            is_waiting: Whether to wait while another makes it, or else to leave it to that one.

        Returns:
            The content, where this call made it: the entry may be gone again at once when others need the room. None
            where another made it or is about to.

        Raises:
            OSError: The disk is full (ENOSPC).
        """
        number = int.from_bytes(sha256(name.encode()).digest()[:4], "big") % _LOCK_COUNT
        with self._lock(f"{number:03d}", fcntl.LOCK_EX, is_waiting=is_waiting) as is_locked:
            path = self._entries / name
            if not is_locked or path.exists():
                return None
            data = make()
            with self._room_for(len(data)) as has_room:
                if has_room:
                    # Not flushed to disk: whoever reads it checks it, so that a power cut costs a fetch, no more.
                    work = path.with_name(f".{name}.partial")
                    work.write_bytes(data)
                    work.replace(path)
            return data

    def drop(self, name: str) -> None:
        """Remove a file entry, as a damaged one; none there is no error."""
        (self._entries / name).unlink(missing_ok=True)

    @contextmanager
    def folder_entry(self, name: str, size_bytes: int, fill: Callable[[Path], None]) -> Iterator[Path | None]:
        """Yield a folder entry, made when there is none; it stays at least until the block ends.

        Args:
            name: Of the entry.
            size_bytes: What its files take.
            fill: Writes them into the folder that it is given.

        Yields:
            The folder; None when the limit, or what is in use beside it, leaves no room.

        Raises:
            OSError: The disk is full (ENOSPC).
        """
        path = self._entries / name
        has_room = True
        while has_room:
            with self._lock(f"{name}.use", fcntl.LOCK_SH):
                if path.exists():
                    os.utime(path)
                    yield path
                    return
            with self._lock(f"{name}.use", fcntl.LOCK_EX):
                has_room = path.exists() or self._make_folder(path, size_bytes, fill)
        yield None

    def _make_folder(self, path: Path, size_bytes: int, fill: Callable[[Path], None]) -> bool:
        try:
            with atomic_folder(path) as work:
                with self._room_for(size_bytes) as has_room:
                    if not has_room:
                        raise _NoRoomError
                    (work / _SIZE_FILE).write_text(str(size_bytes))
                fill(work)
        except _NoRoomError:
            return False
        return True

    @contextmanager
    def _room_for(self, size_bytes: int) -> Iterator[bool]:
        """Yield whether there is room, made by evicting if need be; until the block ends no other takes it."""
        with self._lock("room", fcntl.LOCK_EX):
            path = self.folder / _TOTAL
            try:
                total_bytes = int(path.read_text())
            except (FileNotFoundError, ValueError):
                total_bytes = self.limit_bytes  # unknown: it is counted
            if total_bytes + size_bytes > self.limit_bytes:
                total_bytes = self._evict(size_bytes)
            has_room = total_bytes + size_bytes <= self.limit_bytes
            # Before the entry is there: who is killed in between leaves a number too large, which the next count mends.
            path.write_text(str(total_bytes + size_bytes * has_room))
            yield has_room

    def _evict(self, size_bytes: int) -> int:
        """Remove what was not used for longest until `size_bytes` have room; return what all that is left takes."""
        entries = []
        for entry in os.scandir(self._entries):
            try:
                status = entry.stat()
                size = int((Path(entry) / _SIZE_FILE).read_text()) if entry.is_dir() else status.st_size
            except FileNotFoundError:
                continue
            entries.append((status.st_mtime_ns, entry.name, size))
        total_bytes = sum(size for *_, size in entries)
        if total_bytes + size_bytes <= self.limit_bytes:
            return total_bytes
        for _, name, size in sorted(entries):
            if total_bytes + size_bytes <= self.limit_bytes * _EVICTED_TO_SHARE:
                break
            if self._remove(name):
                total_bytes -= size
        return total_bytes

    def _remove(self, name: str) -> bool:
        path = self._entries / name
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return True
        used = name.removeprefix(".").removesuffix(".partial")
        with self._lock(f"{used}.use", fcntl.LOCK_EX, is_waiting=False) as is_unused:
            if is_unused:
                # Renamed first: a folder that is half removed must not be taken for whole.
                doomed = path.with_name(f".{used}.partial")
                path.replace(doomed)
                shutil.rmtree(doomed)
            return is_unused

    @contextmanager
    def _lock(self, name: str, kind: int, *, is_waiting: bool = True) -> Iterator[bool]:
        """Hold a lock; yields whether it is held, which is certain for one that waits."""
        descriptor = os.open(self._locks / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, kind if is_waiting else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                # Not left to closing: a process forked meanwhile has the same open file, and would keep the lock.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)
