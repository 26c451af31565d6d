"""What differs between two sets of labelled images, by the content of the images.

An image is known by the SHA-256 of its bytes, whatever it is called; the same bytes for the second time in a set count
as another image. Labels are compared exactly. Of an image whose boxes changed, equal boxes are taken off first; then
the best overlaps (IoU of at least a half) tell a box that was moved from one whose class was changed; what is left was
added or removed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionyard import events
from visionyard.data.class_masks import UNLABELLED_ID, decode_class_mask, ids_present, looked_up, row_parts
from visionyard.data.items import Box
from visionyard.data.labelled import LabelledImage, LabelledSet
from visionyard.digests import canonical_json, sha256_bytes
from visionyard.errors import DataError
from visionyard.geometry import iou_matrix

# Overlap from which two boxes are of one object, as in Pascal VOC's and COCO's first threshold.
_SAME_OBJECT_IOU = 0.5
_LISTED = 1000
_NO_SPLIT = "none"
Identity = tuple[str, int]


@dataclass(frozen=True)
class Change:
    """How often one class, or place, became another.

    Attributes:
        before: Its name in the first set; empty for what was not there.
        after: Its name in the second set; empty for what is gone.
        count: Boxes, images or pixels.
    """

    before: str
    after: str
    count: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"before": self.before, "after": self.after, "count": self.count}


@dataclass(frozen=True)
class Difference:
    """What differs between two sets.

    Attributes:
        added: By split, images of the second set that the first lacks.
        removed: By split, images of the first set that the second lacks.
        same_count: Images with the same label in the same split.
        relabelled_count: Images whose label differs.
        split_changes: Images that stand in another split.
        class_changes: Boxes (images for classification, pixels for semantic segmentation) whose class differs; where
            one side is empty, boxes added or removed, or images labelled or no more.
        moved: By class, boxes that lie elsewhere or have another mask.
        classes_added: Classes that the first set's list lacks.
        classes_removed: Classes that the second set's list lacks.
        added_sources: Paths of the images added, at most 1,000; likewise the next two.
        removed_sources: Of the images removed, as the first set calls them.
        relabelled_sources: Of the images whose label differs, as the second set calls them.
    """

    added: Mapping[str, int]
    removed: Mapping[str, int]
    same_count: int
    relabelled_count: int
    split_changes: tuple[Change, ...]
    class_changes: tuple[Change, ...]
    moved: Mapping[str, int]
    classes_added: tuple[str, ...]
    classes_removed: tuple[str, ...]
    added_sources: tuple[str, ...]
    removed_sources: tuple[str, ...]
    relabelled_sources: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        found = (self.added, self.removed, self.relabelled_count, self.split_changes)
        return not any((*found, self.classes_added, self.classes_removed))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "is_empty": self.is_empty,
            "added": dict(self.added),
            "removed": dict(self.removed),
            "same_count": self.same_count,
            "relabelled_count": self.relabelled_count,
            "split_changes": [change.to_json() for change in self.split_changes],
            "class_changes": [change.to_json() for change in self.class_changes],
            "moved": dict(self.moved),
            "classes_added": list(self.classes_added),
            "classes_removed": list(self.classes_removed),
            "added_sources": list(self.added_sources),
            "removed_sources": list(self.removed_sources),
            "relabelled_sources": list(self.relabelled_sources),
        }


@dataclass(frozen=True, slots=True)
class _Known:
    """What is held of an image of the first set: some 300 bytes."""

    split: str
    label: str
    source: str


@dataclass
class _Found:
    """What differs, in the making."""

    added: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    splits: Counter[tuple[str, str]] = field(default_factory=Counter)
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    same_count: int = 0
    relabelled: dict[Identity, str] = field(default_factory=dict)
    added_sources: list[str] = field(default_factory=list)


def compare(first: LabelledSet, second: LabelledSet) -> Difference:
    """Compare two sets, which are gone through again where labels differ; held are digests, and those labels.

    Raises:
        DataError: Their labels are for different tasks, or a semantic mask cannot be decoded.
    """
    if first.task != second.task:
        raise DataError(
            f"{first.label} is for {first.task}, {second.label} for {second.task}: labels of two tasks cannot be "
            "compared"
        )
    missing = {identity: _known(image, first) for identity, image in _with_identity(first)}
    found = _Found()
    for identity, image in _with_identity(second):
        before, after = missing.pop(identity, None), _known(image, second)
        if before is None:
            found.added[after.split] += 1
            found.added_sources.append(after.source)
            continue
        if before.split != after.split:
            found.splits[before.split, after.split] += 1
        if before.label != after.label:
            found.relabelled[identity] = after.source
        found.same_count += (before.split, before.label) == (after.split, after.label)
    found.removed.update(gone.split for gone in missing.values())
    if found.relabelled:
        _compare_labels(first, second, found)
    return Difference(
        added=dict(sorted(found.added.items())),
        removed=dict(sorted(found.removed.items())),
        same_count=found.same_count,
        relabelled_count=len(found.relabelled),
        split_changes=_changes(found.splits),
        class_changes=_changes(found.classes),
        moved=dict(sorted(found.moved.items())),
        classes_added=tuple(name for name in second.classes if name not in first.classes),
        classes_removed=tuple(name for name in first.classes if name not in second.classes),
        added_sources=tuple(found.added_sources[:_LISTED]),
        removed_sources=tuple([gone.source for gone in missing.values()][:_LISTED]),
        relabelled_sources=tuple(list(found.relabelled.values())[:_LISTED]),
    )


def _with_identity(labelled: LabelledSet) -> Iterator[tuple[Identity, LabelledImage]]:
    seen: Counter[str] = Counter()
    for done, image in enumerate(labelled.images(), start=1):
        events.progress(done, labelled.item_count, unit="image", label=labelled.label)
        seen[image.item.sha256] += 1
        yield (image.item.sha256, seen[image.item.sha256]), image


def _known(image: LabelledImage, labelled: LabelledSet) -> _Known:
    item = image.item
    boxes = None if item.boxes is None else sorted(canonical_json(box.to_json()) for box in item.boxes)
    mask = None if item.mask_blob is None else sha256_bytes(_named_mask(image, labelled))
    label = sha256_bytes(canonical_json([item.class_name, boxes, mask]).encode())
    return _Known(item.published_split or _NO_SPLIT, label, item.source)


def _named_mask(image: LabelledImage, labelled: LabelledSet) -> bytes:
    """Return a mask as pixels and the names of its ids: another order of the classes, or encoder, is no other label."""
    class_ids = decode_class_mask(image.mask_bytes())
    order = sorted(ids_present(class_ids), key=lambda class_id: labelled.classes[class_id])
    table = np.full(UNLABELLED_ID + 1, UNLABELLED_ID, np.uint8)
    table[order] = np.arange(len(order), dtype=np.uint8)
    names = [labelled.classes[class_id] for class_id in order]
    levels: bytes = looked_up(table, class_ids).tobytes()
    return canonical_json([names, list(class_ids.shape)]).encode() + levels


def _compare_labels(first: LabelledSet, second: LabelledSet, found: _Found) -> None:
    """Go through both sets side by side again, for the images whose label differs."""
    waiting = {identity: image for identity, image in _with_identity(first) if identity in found.relabelled}
    for identity, image in _with_identity(second):
        if identity in waiting:
            _compare_label(waiting.pop(identity), image, first, second, found)


def _compare_label(
    before: LabelledImage, after: LabelledImage, first: LabelledSet, second: LabelledSet, found: _Found
) -> None:
    if before.item.boxes is not None or after.item.boxes is not None:
        _compare_boxes(list(before.item.boxes or ()), list(after.item.boxes or ()), found)
    elif before.item.mask_blob is not None and after.item.mask_blob is not None:
        _compare_masks(before, after, first, second, found)
    else:
        found.classes[before.item.class_name or "", after.item.class_name or ""] += 1


def _compare_boxes(before: list[Box], after: list[Box], found: _Found) -> None:
    for box in list(before):
        if box in after:
            after.remove(box)
            before.remove(box)
    if before and after:
        xyxys = [np.array([box.xyxy for box in boxes], np.float64) for boxes in (before, after)]
        overlap = iou_matrix(*xyxys)
        pairs: defaultdict[str, list[int]] = defaultdict(list)
        # The best pair first; on a tie the first ones.
        while overlap.size and overlap.max() >= _SAME_OBJECT_IOU:
            one, other = (int(place) for place in np.unravel_index(overlap.argmax(), overlap.shape))
            overlap[one, :] = overlap[:, other] = -1.0
            pairs["before"].append(one)
            pairs["after"].append(other)
            _note_pair(before[one], after[other], found)
        before = [box for place, box in enumerate(before) if place not in pairs["before"]]
        after = [box for place, box in enumerate(after) if place not in pairs["after"]]
    found.classes.update((box.class_name, "") for box in before)
    found.classes.update(("", box.class_name) for box in after)


def _note_pair(before: Box, after: Box, found: _Found) -> None:
    if before.class_name != after.class_name:
        found.classes[before.class_name, after.class_name] += 1
    else:
        found.moved[after.class_name] += 1


def _compare_masks(
    before: LabelledImage, after: LabelledImage, first: LabelledSet, second: LabelledSet, found: _Found
) -> None:
    one, other = (decode_class_mask(image.mask_bytes()) for image in (before, after))
    counts = np.zeros((UNLABELLED_ID + 1) ** 2, np.int64)
    for part, other_part in zip(row_parts(one), row_parts(other), strict=True):
        pairs = part.astype(np.int64) * (UNLABELLED_ID + 1) + other_part
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    for place in np.flatnonzero(counts).tolist():
        names = [
            "" if class_id == UNLABELLED_ID else labelled.classes[class_id]
            for class_id, labelled in zip(divmod(place, UNLABELLED_ID + 1), (first, second), strict=True)
        ]
        if names[0] != names[1]:
            found.classes[names[0], names[1]] += int(counts[place])


def _changes(counts: Counter[tuple[str, str]]) -> tuple[Change, ...]:
    order = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Change(before, after, count) for (before, after), count in order)
