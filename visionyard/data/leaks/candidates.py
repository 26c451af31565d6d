"""Candidates: pairs of images that may be near-duplicates, found without comparing all with all.

Rows of 32 bytes (prints, and descriptors of corners) are sorted by eight of their bytes, again and again by others, and
each is compared with the few that follow it. Equal sketches lie side by side, alike ones do in most of the orders: with
few bits changed, eight bytes that hold none of them, or none among the first, are likely. N rows cost eight sorts and a
fixed number of comparisons a row: N log N, however alike they are.

A pair whose prints agree is a candidate. So is one where three corners agree in descriptor, and in the place that one
shift and scale gives them: of unrelated pictures two corners often agree by chance, three in one arrangement seldom.

Source: sorted orders in place of buckets: M. Charikar, Similarity Estimation Techniques from Rounding Algorithms, STOC
2002, section 3; locality-sensitive hashing by chosen bits: A. Gionis, P. Indyk, R. Motwani, Similarity Search in High
Dimensions via Hashing, VLDB 1999.
"""

from collections.abc import Iterator

import numpy as np

from visionyard.data.leaks.sketches import CORNER_COUNT, VARIANTS, Sketches

# Rows that follow in an order and are compared, in sets of any size; more finds no more planted pairs. Among frames of
# one camera more are found, so sets whose comparisons take less than some seconds get up to the larger number.
WINDOW = 4
_LARGEST_WINDOW = 32
_CHEAP_COMPARISONS = 24_000_000
_ORDERS = 8
_KEY_BYTES = 8
# Pairs whose corners are looked at in one step: some ten megabytes.
_BATCH = 16_384
# Rows compared in one step: some ten megabytes, in place of 18 kB an image.
_COMPARED_ROWS = 131_072
# Bits of 256 that may differ. Of corners in planted pairs 95 % differ in at most 36 (median 9); of prints, see
# benchmarks/leak_audit.py.
_MAX_CORNER_BITS = 36
_MAX_PRINT_BITS = 60
_MIN_CORNERS = 3
# Corners of a pair that are looked at; a true pair has more than enough among the first.
_MAX_LISTED = 8
# In 1/256 of the sides. Corners nearer to each other than the first say nothing of scale; a place is off by some pixels
# of 128, and by a fifth of its distance where a picture was stretched.
_MIN_APART = 12
_TOLERANCE, _TOLERANCE_SHARE = 6.0, 0.2
_MAX_SCALE = 1.8


def candidate_pairs(sketches: Sketches, labels: np.ndarray | None = None) -> tuple[np.ndarray, bool]:
    """Return the pairs of images to be confirmed, and whether some may be missing.

    Args:
        sketches: Of all images.
        labels: (N,) int; two images that share a label are no pair. None pairs all.

    Returns:
        (K, 3) int64, sorted, each once: first image, second image (larger), and the variant (a row of `VARIANTS`) of
        one that is like the other; and whether more images looked alike, of one label or not, than are compared.
    """
    # In an order of their own: which of many equal rows are compared must not depend on the names of the files.
    order = np.lexsort(
        np.ascontiguousarray(sketches.prints.reshape(sketches.count, 32 * len(VARIANTS))).view(np.uint64).T
    )
    if labels is None:
        labels = np.arange(sketches.count)
    by_prints, is_cut = _by_prints(sketches, order, labels)
    codes = _each_once([by_prints, _by_corners(sketches, order, labels)])
    pairs, variants = np.divmod(codes, len(VARIANTS))
    return np.stack([*np.divmod(pairs, max(1, sketches.count)), variants], axis=1), is_cut


def _by_prints(sketches: Sketches, order: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return codes of pairs of images whose prints agree, and whether there may be more."""
    images = order[sketches.has_structure[order]]
    image = np.repeat(images, len(VARIANTS))
    variant = np.tile(np.arange(len(VARIANTS)), len(images))
    codes, is_cut = [np.zeros(0, dtype=np.int64)], False
    rows = sketches.prints.reshape(-1, 32)
    for first, second, is_crowded in similar_rows(rows, image * len(VARIANTS) + variant, _MAX_PRINT_BITS):
        is_cut |= is_crowded
        first, second = _to_compare(first, second, image, variant, labels)
        codes.append(_codes(image[first], image[second], variant[first] + variant[second], sketches.count))
    return np.concatenate(codes), is_cut


def _by_corners(sketches: Sketches, order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return codes of pairs of images of which some corners agree in descriptor and arrangement."""
    in_use = np.arange(CORNER_COUNT) < sketches.corner_counts[order, None]
    corners = np.flatnonzero(np.repeat(in_use[:, None], len(VARIANTS), axis=1))
    place, corners = np.divmod(corners, len(VARIANTS) * CORNER_COUNT)
    image, variant = order[place].astype(np.int32), (corners // CORNER_COUNT).astype(np.int8)
    corners += image.astype(np.int64) * (len(VARIANTS) * CORNER_COUNT)
    del place
    found = []
    for first, second, _ in similar_rows(sketches.descriptors.reshape(-1, 32), corners, _MAX_CORNER_BITS):
        first, second = _to_compare(first, second, image, variant, labels)
        found.append(np.minimum(first, second) * len(corners) + np.maximum(first, second))
    if not found:
        return np.zeros(0, dtype=np.int64)
    first, second = np.divmod(_each_once(found), len(corners))
    codes = _codes(image[first], image[second], variant[first] + variant[second], sketches.count)
    by_pair = np.argsort(codes, kind="stable")
    codes, starts, counts = np.unique(codes[by_pair], return_index=True, return_counts=True)
    is_enough = counts >= _MIN_CORNERS
    codes, starts, counts = codes[is_enough], starts[is_enough], counts[is_enough]
    points = sketches.points.reshape(-1, 2)
    is_arranged = np.zeros(len(codes), dtype=bool)
    for begin in range(0, len(codes), _BATCH):
        part = slice(begin, begin + _BATCH)
        listed = starts[part, None] + np.arange(_MAX_LISTED)
        is_there = np.arange(_MAX_LISTED) < counts[part, None]
        matches = by_pair[np.where(is_there, listed, starts[part, None])]
        is_arranged[part] = _are_arranged(points[corners[first[matches]]], points[corners[second[matches]]], is_there)
    return codes[is_arranged]


def _to_compare(
    first: np.ndarray, second: np.ndarray, image: np.ndarray, variant: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    # Of two flipped pictures nothing new is learnt: they are alike where the plain ones are.
    is_wanted = (labels[image[first]] != labels[image[second]]) & ((variant[first] == 0) | (variant[second] == 0))
    return first[is_wanted], second[is_wanted]


def _codes(first: np.ndarray, second: np.ndarray, variant: np.ndarray, count: int) -> np.ndarray:
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second)
    return np.asarray((low * count + high) * len(VARIANTS) + variant)


def _each_once(parts: list[np.ndarray]) -> np.ndarray:
    """Return all codes, sorted, each once; `np.unique` (numpy 2.3) hashes them first: half of the search."""
    codes = np.concatenate(parts)
    codes.sort()
    return codes[np.flatnonzero(np.diff(codes, prepend=-1))]


def _are_arranged(first: np.ndarray, second: np.ndarray, is_there: np.ndarray) -> np.ndarray:
    """Return whether one corner and two others lie alike in both pictures, but for a shift and a scale.

    Args:
        first: (P, M, 2) uint8, places of matched corners in one picture.
        second: (P, M, 2) uint8, in the other.
        is_there: (P, M) bool, which of the M are matches.
    """
    one = first.astype(np.float32)
    other = second.astype(np.float32)
    one, other = one[:, :, None] - one[:, None], other[:, :, None] - other[:, None]
    one_apart, other_apart = np.sqrt((one**2).sum(-1)), np.sqrt((other**2).sum(-1))
    is_apart = (one_apart >= _MIN_APART) & (other_apart >= _MIN_APART)
    scale = other_apart / np.maximum(one_apart, 1)
    error = np.abs(other - one * scale[..., None]).max(-1)
    is_alike = is_apart & (scale < _MAX_SCALE) & (scale * _MAX_SCALE > 1)
    is_alike &= error <= _TOLERANCE + _TOLERANCE_SHARE * np.minimum(one_apart, other_apart)
    is_alike &= is_there[:, :, None] & is_there[:, None]
    enough: np.ndarray = is_alike.sum(-1).max(-1) >= _MIN_CORNERS - 1
    return enough


def similar_rows(rows: np.ndarray, chosen: np.ndarray, max_bits: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Find rows that differ in few bits: most such pairs, some of them several times.

    Args:
        rows: (T, 32) uint8, contiguous; may be mapped from a file, for only parts of it are copied.
        chosen: (R,) int64, the rows to compare.
        max_bits: Of 256 bits, how many may differ.

    Yields:
        Two (K,) int64 arrays of positions in `chosen`, and whether all rows that one was compared with are like it, so
        that those behind them may be, too.
    """
    words = rows.view(np.uint64)
    rng = np.random.default_rng(0)
    window = min(_window(len(chosen)), len(chosen) - 1)
    for turn in range(_ORDERS):
        if turn % 4 == 0:
            places = rng.permutation(32).reshape(4, _KEY_BYTES)
        # Rows with equal bytes are many where a camera stood still: each turn puts others of them side by side.
        order = rng.permutation(len(chosen))
        order = order[np.argsort(_keys(rows, chosen, places[turn % 4])[order], kind="stable")]
        for begin in range(0, len(order), _COMPARED_ROWS):
            # Copied once in their order and compared in place: to gather them for each step takes most of the time.
            here = order[begin : begin + _COMPARED_ROWS + window]
            # Word by word: to sum the four words of a row at a time takes six times as long.
            block = np.ascontiguousarray(words[chosen[here]].T)
            is_like_all = np.full(len(here), window < len(chosen) - 1)
            for step in range(1, window + 1):
                count = max(0, min(_COMPARED_ROWS, len(here) - step))
                bits = np.zeros(count, dtype=np.uint16)
                for word in block:
                    bits += np.bitwise_count(word[:count] ^ word[step : step + count])
                is_like_all = is_like_all[:count] & (bits <= max_bits)
                is_near = np.flatnonzero(bits <= max_bits)
                yield here[is_near], here[is_near + step], step == window and bool(is_like_all.any())


def _keys(rows: np.ndarray, chosen: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return (R,) uint64: the bytes of the chosen rows at eight places, the first most significant."""
    keys = np.empty(len(chosen), dtype=np.uint64)
    for begin in range(0, len(chosen), _COMPARED_ROWS):
        part = np.ascontiguousarray(rows[chosen[begin : begin + _COMPARED_ROWS]][:, places])
        keys[begin : begin + _COMPARED_ROWS] = part.view(">u8").ravel()
    return keys


def _window(row_count: int) -> int:
    return max(WINDOW, min(_LARGEST_WINDOW, _CHEAP_COMPARISONS // (_ORDERS * max(1, row_count))))
