"""The leak certificate: whether anything of one split can be seen in another.

A split leaks when a group (a clip, a scene) stands in two splits, or the very same image does. Pictures that merely
look alike (see `visionyard.data.fingerprints`) are counted and shown, since a person has to judge them: two clips of
one fixed camera look alike and may still be fit to be told apart.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice, product
from typing import Any

import numpy as np

from visionyard.data.fingerprints import near_pairs
from visionyard.data.items import SPLITS, Problems, Split
from visionyard.data.records import Record

MAX_EXAMPLES = 20
# Positions of one group or image by the split it stands in.
Places = dict[Split, list[int]]


@dataclass(frozen=True)
class LeakCertificate:
    """What the splits have in common.

    Attributes:
        group_overlap: Groups, as the source gave them, that stand in two splits or more.
        identical_images: Pairs of images with the same bytes in two splits.
        near_duplicate_pairs: Pairs of other images in two splits that look alike; at least so many when the search
            was not complete.
        is_near_duplicate_search_complete: False when so many pictures look alike that the search stopped early.
        is_leaky: Whether a group or an identical image stands in two splits.
        examples: Up to 20 pairs, each with `kind` (`group`, `identical`, `near_duplicate`), `distance` (bits), and
            `first` and `second` with key, split, group and source.
    """

    group_overlap: int
    identical_images: int
    near_duplicate_pairs: int
    is_near_duplicate_search_complete: bool
    is_leaky: bool
    examples: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "examples": list(self.examples)}


def certify(records: Sequence[Record], splits: Sequence[Split], problems: Problems) -> LeakCertificate:
    """Compare the splits with each other.

    Args:
        records: All items.
        splits: The split of each.
        problems: Gets `leak_across_splits` and `near_duplicates_across_splits`.
    """
    overlapping = _straddling([record.group for record in records], splits)
    shared = _straddling([record.sha256 for record in records], splits)
    identical = sum(_cross_pairs(places) for places in shared)
    near, near_examples, is_complete = _near_duplicates(records, splits)
    pairs = [("group", 0, *_pair(places)) for places in overlapping[:MAX_EXAMPLES]]
    pairs += [("identical", 0, *_pair(places)) for places in shared[:MAX_EXAMPLES]]
    pairs += [("near_duplicate", *example) for example in near_examples]
    certificate = LeakCertificate(
        group_overlap=len(overlapping),
        identical_images=identical,
        near_duplicate_pairs=near,
        is_near_duplicate_search_complete=is_complete,
        is_leaky=bool(overlapping or identical),
        examples=tuple(_example(records, splits, *pair) for pair in pairs[:MAX_EXAMPLES]),
    )
    _report(certificate, problems)
    return certificate


def group_table(records: Sequence[Record], splits: Sequence[Split]) -> list[dict[str, Any]]:
    """Return how many items of which group stand in which split, sorted by split (train first) and group."""
    counts = Counter((SPLITS.index(split), record.group) for record, split in zip(records, splits, strict=True))
    return [{"group": group, "split": SPLITS[split], "count": counts[split, group]} for split, group in sorted(counts)]


def _straddling(values: Sequence[Hashable], splits: Sequence[Split]) -> list[Places]:
    """Return, for each value that stands in two splits or more, the positions where it does."""
    first_split: dict[Hashable, Split] = {}
    found: dict[Hashable, Places] = {}
    for value, split in zip(values, splits, strict=True):
        if first_split.setdefault(value, split) != split:
            found[value] = {}
    for position, (value, split) in enumerate(zip(values, splits, strict=True)):
        if value in found:
            found[value].setdefault(split, []).append(position)
    return list(found.values())


def _cross_pairs(places: Places) -> int:
    return sum(len(first) * len(second) for first, second in combinations(places.values(), 2))


def _pair(places: Places) -> tuple[int, int]:
    first, second = [positions[0] for positions in places.values()][:2]
    return first, second


def _near_duplicates(
    records: Sequence[Record], splits: Sequence[Split]
) -> tuple[int, list[tuple[int, int, int]], bool]:
    """Count the pairs of images in two splits that look alike and are not identical.

    Returns:
        Their number; some of them as bits that differ and two positions; whether the search was complete.
    """
    hashed = [position for position, record in enumerate(records) if record.fingerprint is not None]
    values = np.array([records[position].fingerprint for position in hashed], dtype=np.uint64)
    prints, rows = np.unique(values, return_inverse=True)
    counts = np.zeros((len(prints), len(SPLITS)), dtype=np.int64)
    columns = np.array([SPLITS.index(splits[position]) for position in hashed], dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)

    def positions(row: int) -> list[int]:
        found = (hashed[index] for index in np.flatnonzero(rows == row))
        return list({(splits[position], records[position].sha256): position for position in found}.values())

    sums = counts.sum(axis=1)
    within = (sums**2 - (counts**2).sum(axis=1)) // 2  # pairs in two splits that share their fingerprint
    identical = _straddling([records[position].sha256 for position in hashed], [splits[p] for p in hashed])
    total = int(within.sum()) - sum(_cross_pairs(places) for places in identical)
    candidates = [(0, row, row) for row in np.flatnonzero(within)[:MAX_EXAMPLES]]
    is_complete = True
    for pairs in near_pairs(prints):
        if pairs is None:
            is_complete = False
            break
        first, second = pairs[:, 0], pairs[:, 1]
        crossing = sums[first] * sums[second] - (counts[first] * counts[second]).sum(axis=1)
        total += int(crossing.sum())
        found = pairs[crossing > 0][: 2 * MAX_EXAMPLES - len(candidates)]
        candidates += [(distance, one, other) for one, other, distance in found.tolist()]
    examples = [
        (distance, *pair)
        for distance, one, other in candidates
        for pair in _alike_pair(records, splits, positions(one), positions(other))
    ]
    return total, examples, is_complete


def _alike_pair(
    records: Sequence[Record], splits: Sequence[Split], firsts: list[int], seconds: list[int]
) -> list[tuple[int, int]]:
    """Return one pair of positions in two splits whose images are not identical, or none."""
    pairs = (
        (first, second)
        for first, second in product(firsts, seconds)
        if splits[first] != splits[second] and records[first].sha256 != records[second].sha256
    )
    return list(islice(pairs, 1))


def _example(
    records: Sequence[Record], splits: Sequence[Split], kind: str, distance: int, first: int, second: int
) -> dict[str, Any]:
    sides = [
        {
            "key": records[position].key,
            "split": splits[position],
            "group": records[position].group,
            "source": records[position].source,
            "timestamp_s": records[position].timestamp_s,
        }
        for position in (first, second)
    ]
    return {"kind": kind, "distance": distance, "first": sides[0], "second": sides[1]}


def _report(certificate: LeakCertificate, problems: Problems) -> None:
    if certificate.is_leaky:
        problems.add(
            "leak_across_splits",
            "",
            f"the split leaks: {certificate.group_overlap} groups and {certificate.identical_images} pairs of "
            "identical images stand in two splits; split anew with data.split_mode = group",
        )
    if certificate.near_duplicate_pairs:
        least = "" if certificate.is_near_duplicate_search_complete else "at least "
        problems.add(
            "near_duplicates_across_splits",
            "",
            f"{least}{certificate.near_duplicate_pairs} pairs of images in different splits look alike; look at the "
            "examples in the leak certificate, and group such images by data.group_pattern when they show one scene",
        )
