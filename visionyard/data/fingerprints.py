"""Fingerprints of pictures: a perceptual hash, and the search for pairs whose hashes nearly agree.

Source: the difference hash of N. Krawetz, Kind of Like That, hackerfactor.com, 2013; the search after G. Manku et al.,
Detecting Near-Duplicates for Web Crawling, WWW 2007, section 3.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from PIL import Image

from visionyard.transforms.images import open_thumbnail

# Bits of 64 that may differ in two pictures called near-duplicates. Recompression and scaling change up to 3 in our
# tests; of unrelated pictures by chance 4 in 10^14 pairs differ in so few.
MAX_DISTANCE = 4
# Pairs compared before the search gives up: some seconds. Reached when tens of thousands of pictures look alike.
MAX_COMPARED_PAIRS = 50_000_000
# Grey levels between the darkest and the brightest of the 72 cells, below which the bits are noise: a black frame.
_MIN_CONTRAST = 8
# With 4 bits different, at least 3 of 7 parts are equal, so equal values of some 3 parts (27 bits) find every pair.
_PART_BITS = (10, 9, 9, 9, 9, 9, 9)
_EQUAL_PARTS = len(_PART_BITS) - MAX_DISTANCE


def fingerprint(data: bytes) -> int | None:
    """Return the 64-bit difference hash of an encoded image: whether each of 8x8 cells is darker than its right one.

    Args:
        data: The encoded file.

    Returns:
        The hash, None for an image without structure, such as a black frame.

    Raises:
        MediaError: The image cannot be decoded.
    """
    small = open_thumbnail(data, 64).resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(small, dtype=np.int16)
    if cells.max() - cells.min() < _MIN_CONTRAST:
        return None
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")


def near_pairs(hashes: np.ndarray, *, max_compared_pairs: int = MAX_COMPARED_PAIRS) -> Iterator[np.ndarray | None]:
    """Find all pairs of different hashes that differ in at most `MAX_DISTANCE` bits, each pair once.

    Costs 35 sorts of the hashes and one comparison for each pair that shares 27 bits.

    Args:
        hashes: (N,) uint64, no two equal.
        max_compared_pairs: The search stops after so many comparisons.

    Yields:
        (K, 3) int64: first index, second index (larger), bits that differ; None, as the last, when the search stopped
        early.
    """
    parts = _parts(hashes)
    compared = 0
    for chosen in combinations(range(len(_PART_BITS)), _EQUAL_PARTS):
        key = np.zeros(len(hashes), dtype=np.uint64)
        for part in chosen:
            key = (key << np.uint64(_PART_BITS[part])) | parts[part]
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        starts = np.arange(len(hashes))
        for step in range(1, len(hashes)):
            starts = starts[starts + step < len(hashes)]
            starts = starts[ordered[starts] == ordered[starts + step]]
            if not starts.size:
                break
            compared += starts.size
            if compared > max_compared_pairs:
                yield None
                return
            yield _pairs_first_seen(hashes, parts, chosen, order[starts], order[starts + step])


def _parts(hashes: np.ndarray) -> list[np.ndarray]:
    parts, shift = [], 0
    for bits in _PART_BITS:
        parts.append((hashes >> np.uint64(shift)) & np.uint64((1 << bits) - 1))
        shift += bits
    return parts


def _pairs_first_seen(
    hashes: np.ndarray, parts: list[np.ndarray], chosen: tuple[int, ...], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    # A pair that agrees in more parts is found under several keys; it counts where `chosen` are its first equal parts.
    is_first = np.ones(len(first), dtype=bool)
    for part in range(chosen[-1]):
        if part not in chosen:
            is_first &= parts[part][first] != parts[part][second]
    first, second = first[is_first], second[is_first]
    distance = np.bitwise_count(hashes[first] ^ hashes[second]).astype(np.int64)
    is_near = distance <= MAX_DISTANCE
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.stack([low[is_near], high[is_near], distance[is_near]], axis=1)
