"""Where content is cut, so that what did not change is cut as before wherever it has moved to.

Items are cut from their shard whole: the index knows where each begins, so no search for a cut is needed, a change
costs the item it is in, and an item added in the middle moves the later ones without altering them. Rows of the index
are grouped into pages that end where an item's own hash says so. All other files are cut by a gear hash.

Source: W. Xia et al., Ddelta: a deduplication-inspired fast delta compression approach, Performance Evaluation 79
(2014), section 3.2 (gear hash); W. Xia et al., FastCDC, USENIX ATC 2016 (sizes that are kept within bounds).
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, BinaryIO

import numpy as np

# A changed item costs the page of its row: pages of 32 rows of some 150 bytes are a quarter of a small image, and a
# manifest that lists them stays at a tenth of one per mille of the images.
_PAGE_ROWS = 32
_MIN_PAGE_ROWS, _MAX_PAGE_ROWS = 8, 128
_MIN_BYTES, _MAX_BYTES = 4 << 10, 64 << 10
_WINDOW_BYTES = 64  # what a 64 bit gear hash reaches back
# Cuts fall 12 KiB after the shortest chunk on average: of the upper bits, which all 64 bytes of the window reach.
_AVERAGE_BYTES = 16 << 10
_BLOCK_BYTES = 4 << 20


def page_lengths(hashes: Sequence[bytes]) -> list[int]:
    """Return how many rows each page takes; each item's hash alone decides whether a page may end after it.

    Args:
        hashes: SHA-256 of the items, in order.
    """
    lengths, length = [], 0
    for value in hashes:
        length += 1
        ends = length >= _MIN_PAGE_ROWS and int.from_bytes(value[:4], "big") % (_PAGE_ROWS - _MIN_PAGE_ROWS) == 0
        if ends or length == _MAX_PAGE_ROWS:
            lengths.append(length)
            length = 0
    return [*lengths, length] if length else lengths


def cut(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the chunks of a file: 4 to 64 KiB, the last may be shorter; none for an empty one; 4 MiB in memory."""
    before, pending = b"", b""
    while block := stream.read(_BLOCK_BYTES):
        data = before + pending + block
        candidates = _candidates(np.frombuffer(data, np.uint8))
        start = len(before)
        while len(data) - start >= _MAX_BYTES:
            end = _end_of_chunk(candidates, start, start + _MAX_BYTES)
            yield data[start:end]
            start = end
        before, pending = data[max(0, start - _WINDOW_BYTES) : start], data[start:]
    data, start = before + pending, len(before)
    candidates = _candidates(np.frombuffer(data, np.uint8))
    while start < len(data):
        end = _end_of_chunk(candidates, start, min(start + _MAX_BYTES, len(data)))
        yield data[start:end]
        start = end


def _end_of_chunk(candidates: Any, start: int, latest: int) -> int:
    position = int(np.searchsorted(candidates, start + _MIN_BYTES))
    return min(int(candidates[position]), latest) if position < len(candidates) else latest


def _candidates(data: Any) -> Any:
    """Return where a chunk may end: (K,) int64, sorted."""
    return np.flatnonzero(_gear_hashes(data) < _threshold()) + 1


def _gear_hashes(data: Any) -> Any:
    """Return the gear hash at each byte, (N,) uint64: of it and the 63 before it.

    h[i] = 2 h[i-1] + gear[data[i]] modulo 2^64, which is the sum of 2^k gear[data[i-k]] over k below 64; six steps,
    each of which doubles how far back the sum reaches, do it for all bytes at once.
    """
    hashes = _gear()[data]
    for shift in (1, 2, 4, 8, 16, 32):
        further = hashes.copy()
        further[shift:] += hashes[:-shift] << np.uint64(shift) if len(hashes) > shift else np.uint64(0)
        hashes = further
    return hashes


def _threshold() -> Any:
    return np.uint64(2**64 // (_AVERAGE_BYTES - _MIN_BYTES))


@cache
def _gear() -> Any:
    """The table of 256 random words, the same for ever: chunks cut with another would be stored anew."""
    words = [hashlib.sha256(b"visionyard gear %d" % byte).digest()[:8] for byte in range(256)]
    return np.frombuffer(b"".join(words), dtype=">u8").astype(np.uint64)
