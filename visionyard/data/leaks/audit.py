"""The leak certificate: whether anything of one split can be seen in another.

A split leaks when a group (a clip, a scene) stands in two splits, when the very same image does, or when more of the
images held out (val and test) than the budget allows have a near-duplicate in another split: a copy, a crop, a flip, a
neighbouring frame (see `visionyard.data.leaks.near_duplicates`). The budget is a share of images, not a number of
pairs: twenty frames of one scene make up to 190 pairs, and are twenty images still.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from visionyard.data.items import SPLITS, Problems, Split
from visionyard.data.leaks.confirmation import MIN_SCORE
from visionyard.data.leaks.near_duplicates import NearDuplicates
from visionyard.data.leaks.union_find import join_groups

LEAK_BUDGET = 0.01
MAX_EXAMPLES = 24
# Of groups and of identical images so many, for the near-duplicates want to be looked at.
_MAX_EXAMPLES_A_KIND = 6
_MAX_CLUSTERS = 20
_MAX_CLUSTER_KEYS = 10
_METHOD = (
    "Candidates by a 256-bit difference hash of the picture and by ORB descriptors of 64 corners, plain, mirrored and "
    "upside down; confirmed by the share of 8x8 px blocks of aligned thumbnails that correlate."
)
# Positions of one group or image by the split it stands in.
Places = dict[Split, list[int]]


@dataclass(frozen=True, slots=True)
class AuditedImage:
    """What the audit knows of an image.

    Attributes:
        key: Unique in the set.
        source: Path of the image or clip within the source.
        group: Images that belong together.
        timestamp_s: Time in its clip, None for a loose image.
        sha256: Of the image bytes, 32 bytes.
        split: Where it stands.
        class_name: The one class of the whole image; None where the label is another, as in detection.
    """

    key: str
    source: str
    group: str
    timestamp_s: float | None
    sha256: bytes
    split: Split
    class_name: str | None = None


@dataclass(frozen=True)
class LeakCertificate:
    """What the splits have in common.

    Attributes:
        group_overlap: Groups, as the source gave them, that stand in two splits or more.
        identical_images: Pairs of images with the same bytes in two splits.
        near_duplicate_pairs: Confirmed pairs of other images in two splits that show the same; at least so many when
            the search was not complete.
        is_near_duplicate_search_complete: False when so many images look alike that only some pairs were compared.
        near_duplicate_items: Images of val and test that have such a near-duplicate in another split.
        held_out_items: Images of val and test.
        leak_budget: The share of them that may have one.
        is_over_budget: Whether more of them have.
        is_leaky: Whether a group or an identical image stands in two splits, or the budget is passed.
        candidate_pairs: Pairs that the hashes proposed and the second measure looked at.
        cluster_count: Clusters of near-duplicates in all, in one split or several.
        clusters: The 20 largest, each with `count`, its first 10 `keys`, and `splits` with its images in each.
        method: How they were found; `min_score` is the share of blocks that must agree.
        examples: Up to 24 pairs, each with `kind` (`group`, `identical`, `near_duplicate`), `score` (share of blocks
            that agree, null for a group), and `first` and `second` with key, split, group, source, timestamp_s.
    """

    group_overlap: int
    identical_images: int
    near_duplicate_pairs: int
    is_near_duplicate_search_complete: bool
    near_duplicate_items: int
    held_out_items: int
    leak_budget: float
    is_over_budget: bool
    is_leaky: bool
    candidate_pairs: int
    cluster_count: int
    clusters: tuple[dict[str, Any], ...]
    method: dict[str, Any]
    examples: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "clusters": list(self.clusters), "examples": list(self.examples)}


def leak_summary(leak: Mapping[str, Any]) -> str:
    """Return what leaks as a person would say it, empty for a split that does not.

    Args:
        leak: A certificate as plain values, such as a dataset version's.
    """
    facts = []
    if leak["group_overlap"]:
        facts.append(f"{leak['group_overlap']} groups stand in two splits")
    if leak["identical_images"]:
        facts.append(f"{leak['identical_images']} pairs of identical images stand in two splits")
    if leak.get("is_over_budget"):  # versions made before there was a budget do not say
        facts.append(
            f"{leak['near_duplicate_items']} of {leak['held_out_items']} images held out have a near-duplicate in "
            f"another split, and data.leak_budget allows {leak['leak_budget']:.1%}"
        )
    return "; ".join(facts)


def certify(
    images: Sequence[AuditedImage],
    duplicates: NearDuplicates,
    problems: Problems,
    *,
    leak_budget: float = LEAK_BUDGET,
) -> LeakCertificate:
    """Compare the splits with each other.

    Args:
        images: All items.
        duplicates: Pairs of positions in `images`.
        problems: Gets `leak_across_splits` and `near_duplicates_across_splits`.
        leak_budget: Share of val and test that may have a near-duplicate in another split, in [0, 1].
    """
    splits = [image.split for image in images]
    overlapping = _straddling([image.group for image in images], splits)
    shared = _straddling([image.sha256 for image in images], splits)
    is_crossing = np.array(
        [
            splits[first] != splits[second] and images[first].sha256 != images[second].sha256
            for first, second in duplicates.pairs.tolist()
        ],
        dtype=bool,
    )
    crossing = duplicates.pairs[is_crossing]
    held_out = len(splits) - splits.count("train")
    touched = sum(splits[position] != "train" for position in np.unique(crossing).tolist())
    clusters = _clusters(images, duplicates)
    is_over_budget = touched > leak_budget * held_out
    pairs: list[tuple[str, float | None, int, int]] = []
    pairs += [("group", None, *_pair(places)) for places in overlapping[:_MAX_EXAMPLES_A_KIND]]
    pairs += [("identical", 1.0, *_pair(places)) for places in shared[:_MAX_EXAMPLES_A_KIND]]
    pairs += _near_examples(crossing, duplicates.scores[is_crossing], MAX_EXAMPLES - len(pairs))
    certificate = LeakCertificate(
        group_overlap=len(overlapping),
        identical_images=sum(_cross_pairs(places) for places in shared),
        near_duplicate_pairs=len(crossing),
        is_near_duplicate_search_complete=duplicates.is_complete,
        near_duplicate_items=touched,
        held_out_items=held_out,
        leak_budget=leak_budget,
        is_over_budget=is_over_budget,
        is_leaky=bool(overlapping or shared or is_over_budget),
        candidate_pairs=duplicates.candidate_count,
        cluster_count=len(clusters),
        clusters=tuple(clusters[:_MAX_CLUSTERS]),
        method={"description": _METHOD, "min_score": MIN_SCORE},
        examples=tuple(_example(images, *pair) for pair in pairs),
    )
    _report(certificate, problems)
    return certificate


def group_table(images: Sequence[AuditedImage]) -> list[dict[str, Any]]:
    """Return how many items of which group stand in which split, sorted by split (train first) and group."""
    counts = Counter((SPLITS.index(image.split), image.group) for image in images)
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


def _clusters(images: Sequence[AuditedImage], duplicates: NearDuplicates) -> list[dict[str, Any]]:
    """Return the clusters, the largest first."""
    members: dict[int, list[int]] = {}
    for position, root in sorted(_roots(duplicates.pairs).items()):
        members.setdefault(root, []).append(position)
    return [
        {
            "count": len(positions),
            "keys": [images[position].key for position in positions[:_MAX_CLUSTER_KEYS]],
            "splits": dict(Counter(images[position].split for position in positions)),
        }
        for positions in sorted(members.values(), key=lambda positions: (-len(positions), positions[0]))
    ]


def _roots(pairs: np.ndarray) -> dict[int, int]:
    """Return, for each position that stands in a pair, the first position of its cluster."""
    return join_groups((first, second) for first, second in pairs.tolist())


def _near_examples(pairs: np.ndarray, scores: np.ndarray, count: int) -> list[tuple[str, float | None, int, int]]:
    """Return the pairs that agree most, of each cluster first one."""
    root = _roots(pairs)
    ranked = np.argsort(-scores, kind="stable").tolist()
    turns: Counter[int] = Counter()
    turn = {}
    for row in ranked:
        cluster = root[int(pairs[row, 0])]
        turn[row] = turns[cluster]
        turns[cluster] += 1
    chosen = sorted(ranked, key=lambda row: turn[row])[:count]
    return [("near_duplicate", round(float(scores[row]), 3), int(pairs[row, 0]), int(pairs[row, 1])) for row in chosen]


def _example(images: Sequence[AuditedImage], kind: str, score: float | None, first: int, second: int) -> dict[str, Any]:
    def side(position: int) -> Mapping[str, Any]:
        image = images[position]
        return {
            "key": image.key,
            "split": image.split,
            "group": image.group,
            "source": image.source,
            "timestamp_s": image.timestamp_s,
        }

    return {"kind": kind, "score": score, "first": side(first), "second": side(second)}


def _report(certificate: LeakCertificate, problems: Problems) -> None:
    if certificate.is_leaky:
        message = f"the split leaks: {leak_summary(certificate.to_json())}; split anew with data.split_mode = group"
        problems.add("leak_across_splits", "", message)
    if certificate.near_duplicate_pairs:
        least = "" if certificate.is_near_duplicate_search_complete else "at least "
        problems.add(
            "near_duplicates_across_splits",
            "",
            f"{least}{certificate.near_duplicate_pairs} pairs of images in different splits show the same, "
            f"{certificate.near_duplicate_items} of {certificate.held_out_items} images held out; look at them in the "
            "report, and group such images by data.near_duplicates = group or data.group_pattern",
        )
