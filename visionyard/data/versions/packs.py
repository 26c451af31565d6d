"""Packs: objects of some eight megabytes that hold blobs one after another, and behind them the table of these.

    blob, blob, ..., table (deflated JSON), 8 bytes size of the table, 8 bytes _MAGIC

A blob is an item (its bytes of the shard, as they are) or metadata (a page or a chunk of a file, deflated). The table
says which blobs, so a store needs no other index: a push reads the ends of all packs, knows what the store has, even
what a killed push left that no version names yet, and sends the rest.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from visionyard import storage
from visionyard.data.versions.layout import PACK_SUFFIX, PACKS, pack_address
from visionyard.data.versions.pages import deflate, inflate
from visionyard.digests import canonical_json
from visionyard.errors import ArtifactError, StorageError

# 20,000 images of 20 kB make 55 packs; a killed push loses at most the packs that were under way.
PACK_BYTES = 8 << 20
THREADS = 8
_MAGIC = b"VYPACK01"
_TRAILER_BYTES = 16
# Holds the table of a pack of images in one read; a pack of tiny files takes a second one.
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob lies: `size` bytes from `offset` of a pack."""

    pack: str
    offset: int
    size: int


def item_key(sha256: bytes) -> bytes:
    """Return what names an item in a table."""
    return b"i" + sha256


def metadata_key(sha256: bytes) -> bytes:
    """Return what names a page or a chunk of a file in a table."""
    return b"m" + sha256


class PackWriter:
    """Send blobs to a store in packs, several at a time.

    Use as a context manager; `places` is complete once it ended well.
    """

    def __init__(self, store: str, *, avoided: Set[str], sent: Callable[[int], None] = lambda _: None) -> None:
        """Prepare to write.

        Args:
            store: Address of the store.
            avoided: Names that no new pack may have, since garbage collection is about to delete the pack of that name.
            sent: Called with the bytes of each pack that arrived.
        """
        self._store = store
        self._avoided = avoided
        self._sent = sent
        self._blobs: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._keys: set[bytes] = set()
        self._pool = ThreadPoolExecutor(THREADS)
        self._room = threading.Semaphore(THREADS + 1)  # bounds what is in memory
        self._futures: list[Future[dict[bytes, Place]]] = []
        self.places: dict[bytes, Place] = {}
        self.pack_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
                for future in self._futures:
                    self.places.update(future.result())
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, key: bytes, data: bytes) -> None:
        """Append a blob unless it was appended before.

        Raises:
            StorageError: A pack could not be sent.
        """
        if key in self._keys:
            return
        self._keys.add(key)
        if self._size + len(data) > PACK_BYTES:
            self.flush()
        self._blobs.append((key, data))
        self._size += len(data)

    def flush(self) -> None:
        """Begin to send what was appended so far.

        Raises:
            StorageError: A pack could not be sent.
        """
        if not self._blobs:
            return
        self._room.acquire()
        for future in self._futures:
            if future.done():
                future.result()  # an error ends the push at once
        self._futures.append(self._pool.submit(self._put, self._blobs))
        self.pack_count += 1
        self._blobs, self._size = [], 0

    def _put(self, blobs: list[tuple[bytes, bytes]]) -> dict[bytes, Place]:
        try:
            name, content = _assemble(blobs, self._avoided)
            storage.write_bytes(pack_address(self._store, name), content)
            self._sent(len(content))
            return _places(name, [(key, len(data)) for key, data in blobs])
        finally:
            self._room.release()


def _assemble(blobs: list[tuple[bytes, bytes]], avoided: Set[str]) -> tuple[str, bytes]:
    """Return the name and the content of a pack; the salt changes both where the name is not to be had."""
    salt = 0
    while True:
        entries = [[key[:1].decode() + key[1:].hex(), len(data)] for key, data in blobs]
        table = deflate(canonical_json({"salt": salt, "blobs": entries}).encode())
        parts = [*(data for _, data in blobs), table, len(table).to_bytes(8, "big"), _MAGIC]
        content = b"".join(parts)
        name = hashlib.sha256(content).hexdigest()
        if name not in avoided:
            return name, content
        salt += 1


def _places(pack: str, entries: Iterable[tuple[bytes, int]]) -> dict[bytes, Place]:
    found: dict[bytes, Place] = {}
    offset = 0
    for key, size in entries:
        found[key] = Place(pack, offset, size)
        offset += size
    return found


def list_packs(store: str) -> dict[str, storage.ObjectInfo]:
    """Return the packs of a store by name.

    Raises:
        StorageError: The store refused or timed out.
    """
    infos = storage.list_objects(storage.join(store, PACKS))
    return {info.key.removesuffix(PACK_SUFFIX): info for info in infos if info.key.endswith(PACK_SUFFIX)}


def read_tables(store: str, packs: Iterable[tuple[str, int]]) -> tuple[dict[bytes, Place], list[str]]:
    """Return what lies where in some packs, several read at a time.

    Args:
        store: Address of the store.
        packs: Name and size in bytes of each.

    Returns:
        The place of each blob; in two packs, that of the first by name.
        The packs whose table cannot be read: they are damaged, and nothing in them is relied upon.

    Raises:
        StorageError: The store refused or timed out.
    """
    found: dict[bytes, Place] = {}
    damaged: list[str] = []
    ordered = sorted(packs, reverse=True)
    with ThreadPoolExecutor(THREADS) as pool:
        tables = pool.map(lambda pack: _read_table(store, *pack), ordered)
        for (name, _), table in zip(ordered, tables, strict=True):
            if table is None:
                damaged.append(name)
            else:
                found.update(table)
    return found, damaged


def _read_table(store: str, name: str, size: int) -> dict[bytes, Place] | None:
    address = pack_address(store, name)
    start = max(0, size - _TAIL_BYTES)
    try:
        tail = storage.read_bytes(address, offset=start, size=size - start)
        table_size = int.from_bytes(tail[-_TRAILER_BYTES : -len(_MAGIC)], "big")
        if tail[-len(_MAGIC) :] != _MAGIC or table_size + _TRAILER_BYTES > size:
            return None
        wanted = table_size + _TRAILER_BYTES
        if wanted > len(tail):
            tail = storage.read_bytes(address, offset=size - wanted, size=wanted)
        values = json.loads(inflate(tail[-wanted:-_TRAILER_BYTES]))
        entries = [(key[:1].encode() + bytes.fromhex(key[1:]), int(length)) for key, length in values["blobs"]]
    except (ArtifactError, ValueError, KeyError, TypeError):
        return None
    except StorageError:
        if storage.exists(address):
            raise
        return {}  # garbage collection took it since it was listed
    return _places(name, entries)
