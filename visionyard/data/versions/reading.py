"""Blobs out of their packs: neighbours joined into one ranged read, several reads at a time, each held to its hash."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from visionyard import storage
from visionyard.data.versions.layout import pack_address
from visionyard.data.versions.manifest import Manifest, sha256
from visionyard.data.versions.packs import PACK_BYTES, THREADS
from visionyard.data.versions.pages import inflate
from visionyard.errors import ArtifactError

# Bytes between two wanted blobs that are read along: at 100 MB/s they take less than the 10 ms of another request.
_GAP_BYTES = 256 << 10
_TRY_COUNT = 3


@dataclass(frozen=True)
class _Read:
    pack: str
    offset: int
    size: int
    positions: tuple[int, ...]


def read_stored(store: str, manifest: Manifest, positions: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield blobs as they are stored, not yet held to their hash, each with its position; in the order of the packs.

    Memory holds about ten reads of at most 8 MiB, whatever is asked for.

    Args:
        store: Address of the store.
        manifest: Says where the blobs lie.
        positions: Numbers of blobs in the manifest, in any order.

    Raises:
        StorageError: A pack is missing, or the store refused or timed out.
    """
    reads = _plan(manifest, positions)
    if len(reads) == 1:  # many callers read one run of items each, from threads of their own
        yield from _blobs(manifest, reads[0], _read_range(store, reads[0]))
        return
    pool = ThreadPoolExecutor(min(THREADS, len(reads)) or 1)
    waiting: deque[tuple[_Read, Future[bytes]]] = deque()
    try:
        for read in reads:
            waiting.append((read, pool.submit(_read_range, store, read)))
            if len(waiting) > THREADS:
                yield from _awaited(manifest, *waiting.popleft())
        while waiting:
            yield from _awaited(manifest, *waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def checked_item(store: str, manifest: Manifest, position: int, stored: bytes, expected: bytes) -> bytes:
    """Return the bytes of an item, read again when they are not what their hash says.

    Args:
        store: Address of the store.
        manifest: Says where the blob lies.
        position: Number of the blob in the manifest.
        stored: What was read of it.
        expected: SHA-256 of the item.

    Raises:
        ArtifactError: What the store holds is not the item; names the pack.
        StorageError: The store refused or timed out.
    """
    return _checked(store, manifest, position, stored, expected, lambda data: data)


def checked_metadata(store: str, manifest: Manifest, position: int, stored: bytes) -> bytes:
    """Return the content of a page or a chunk; as `checked_item`."""
    expected = bytes.fromhex(manifest.contents.hashes[position - manifest.contents.item_count])
    return _checked(store, manifest, position, stored, expected, inflate)


def _checked(
    store: str, manifest: Manifest, position: int, stored: bytes, expected: bytes, decode: Callable[[bytes], bytes]
) -> bytes:
    # Not storage's own retries: these know errors, and no hash tells them that a range arrived altered.
    address = pack_address(store, manifest.packs[int(manifest.pack_numbers[position])])
    offset, size = int(manifest.offsets[position]), int(manifest.sizes[position])
    reason = f"expected the content of SHA-256 {expected.hex()}"
    for again in range(_TRY_COUNT):
        if again:
            stored = storage.read_bytes(address, offset=offset, size=size)
        try:
            content = decode(stored)
        except ArtifactError as error:
            reason = str(error)
            continue
        if sha256(content) == expected:
            return content
    raise ArtifactError(
        f"{address}: the {size} bytes at {offset} are damaged ({reason}); delete this object and push the dataset "
        "again from where it was made"
    )


def _plan(manifest: Manifest, positions: Iterable[int]) -> list[_Read]:
    wanted = np.unique(np.fromiter(positions, np.int64))
    order = wanted[np.lexsort((manifest.offsets[wanted], manifest.pack_numbers[wanted]))]
    packs = manifest.pack_numbers[order].tolist()
    offsets, sizes = manifest.offsets[order].tolist(), manifest.sizes[order].tolist()
    reads: list[_Read] = []
    first = 0
    for after in range(1, len(order) + 1):
        is_joined = (
            after < len(order)
            and packs[after] == packs[first]
            and offsets[after] - offsets[after - 1] - sizes[after - 1] <= _GAP_BYTES
            and offsets[after] + sizes[after] - offsets[first] <= PACK_BYTES
        )
        if not is_joined:
            end = max(offset + size for offset, size in zip(offsets[first:after], sizes[first:after], strict=True))
            pack = manifest.packs[packs[first]]
            reads.append(_Read(pack, offsets[first], end - offsets[first], tuple(order[first:after].tolist())))
            first = after
    return reads


def _read_range(store: str, read: _Read) -> bytes:
    return storage.read_bytes(pack_address(store, read.pack), offset=read.offset, size=read.size)


def _awaited(manifest: Manifest, read: _Read, future: Future[bytes]) -> Iterator[tuple[int, bytes]]:
    return _blobs(manifest, read, future.result())


def _blobs(manifest: Manifest, read: _Read, content: bytes) -> Iterator[tuple[int, bytes]]:
    data = memoryview(content)
    for position in read.positions:
        start = int(manifest.offsets[position]) - read.offset
        yield position, bytes(data[start : start + int(manifest.sizes[position])])


def shard_range(starts: Sequence[int], end: int, offset: int, size: int) -> tuple[int, int]:
    """Return the first item and the one behind the last that a range of a shard touches.

    Args:
        starts: Where the items begin in the shard, ascending.
        end: Where the last one ends.
        offset: First byte of the range.
        size: Bytes of it, above 0.

    Raises:
        IndexError: The range leaves the items.
    """
    if offset < 0 or size < 1 or offset + size > end:
        raise IndexError(f"bytes {offset} to {offset + size} are not within the {end} bytes of items")
    first = int(np.searchsorted(starts, offset, side="right")) - 1
    return first, int(np.searchsorted(starts, offset + size, side="left"))
