"""Check one item's label against its image and the dataset's classes; what is found stands in the table of `health`."""

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionyard.data.artifacts import SHARDS
from visionyard.data.box_checks import checked_xyxy
from visionyard.data.class_masks import decode_class_mask, ids_present
from visionyard.data.items import Box, Item, Problems
from visionyard.data.shards import Blob, read_blob
from visionyard.digests import sha256_bytes
from visionyard.errors import ArtifactError, MediaError
from visionyard.geometry import Xyxy

# Labels are rounded to whole pixels, and Pascal VOC counts pixels from 1: that much beyond the image is no mistake.
_ROUNDING_PX = 1.0


@dataclass(frozen=True)
class Label:
    """A checked label; each value as in `visionyard.data.records.Record`."""

    class_ids: tuple[int, ...]
    xyxy: "array[float] | None" = None
    masks: tuple[str | None, ...] | None = None
    is_crowd: tuple[bool, ...] | None = None


class LabelChecker:
    """Checks labels one after another, and counts those of classes that were left out on purpose.

    Attributes:
        other_class_boxes: Boxes left out since the dataset's classes do not name their class.
        other_class_items: Items likewise.
    """

    def __init__(
        self, classes: Sequence[str], *, listed: Sequence[str], known: Collection[str], problems: Problems
    ) -> None:
        """Prepare to check.

        Args:
            classes: The dataset's, in the order of their ids.
            listed: The artifact's, in the order of the ids in its semantic masks.
            known: Classes that are left out without a word when `classes` lacks them.
            problems: Gets what is found.
        """
        self._ids = {name: class_id for class_id, name in enumerate(classes)}
        self._listed, self._known, self._problems = listed, known, problems
        self.other_class_boxes = 0
        self.other_class_items = 0

    def check(self, item: Item, folder: Path) -> Label | None:
        """Return the label of an item of an artifact folder; None when it is left out."""
        if item.boxes is not None:
            return self._boxes(item)
        if item.mask_blob is not None:
            return self._mask(item, item.mask_blob, folder)
        name = item.class_name or ""
        if name in self._ids:
            return Label((self._ids[name],))
        if name in self._known:
            self.other_class_items += 1
        else:
            message = f"class {name!r} is not among the source's classes; the item is left out"
            self._problems.add("unknown_class", item.source, message, moment(item))
        return None

    def _boxes(self, item: Item) -> Label:
        kept: list[Box] = []
        xyxy = array("d")
        masks: list[str | None] = []
        for number, box in enumerate(item.boxes or (), 1):
            where = ", ".join(part for part in (moment(item), f"box {number}") if part)
            if box.class_name not in self._ids:
                self._pass_over(box, item, where)
                continue
            clipped = self._checked_box(box, item, where)
            if clipped:
                kept.append(box)
                xyxy.extend(clipped)
                masks.append(self._checked_mask(box, item, where))
        return Label(
            tuple(self._ids[box.class_name] for box in kept),
            xyxy,
            tuple(masks) if any(masks) else None,
            tuple(box.is_crowd for box in kept) if any(box.is_crowd for box in kept) else None,
        )

    def _pass_over(self, box: Box, item: Item, where: str) -> None:
        if box.class_name in self._known:
            self.other_class_boxes += 1
        else:
            message = f"class {box.class_name!r} is not among the source's classes; the box is left out"
            self._problems.add("unknown_class", item.source, message, where)

    def _checked_box(self, box: Box, item: Item, where: str) -> Xyxy | None:
        """Return the box within the image, None when nothing of it is left."""
        inside, code, message = checked_xyxy(box.xyxy, (item.width, item.height), rounding_px=_ROUNDING_PX)
        if code:
            self._problems.add(code, item.source, f"{box.class_name} box {message}", where)
        return inside

    def _checked_mask(self, box: Box, item: Item, where: str) -> str | None:
        """Return the run lengths of a box's mask; None when it has none, or one that is not of its image."""
        if box.mask is None:
            return None
        if box.mask.size_hw != (item.height, item.width):
            size = f"{box.mask.size_hw[1]}x{box.mask.size_hw[0]}"
            message = f"the mask of {box.class_name} is of {size} px, the image of {item.width}x{item.height}"
            self._problems.add("mask_size_differs", item.source, f"{message}; the box is kept without it", where)
            return None
        if not len(box.mask.edges()):
            message = f"the mask of {box.class_name} holds no pixel; the box is kept without it"
            self._problems.add("mask_without_pixels", item.source, message, where)
            return None
        return box.mask.counts

    def _mask(self, item: Item, blob: Blob, folder: Path) -> Label | None:
        data = read_blob(folder / SHARDS, blob)
        if sha256_bytes(data) != item.mask_sha256:
            raise ArtifactError(
                f"{folder / SHARDS / blob.shard}: the mask of {item.key} is not the one that was written "
                "(its SHA-256 differs); run the stage that wrote it again"
            )
        try:
            ids = decode_class_mask(data)
        except MediaError as error:
            self._problems.add("unreadable_mask", item.source, f"{error}; the item is left out")
            return None
        if ids.shape != (item.height, item.width):
            message = f"its mask is of {ids.shape[1]}x{ids.shape[0]} px, the image of {item.width}x{item.height}"
            self._problems.add("mask_size_differs", item.source, f"{message}; the item is left out")
            return None
        return self._mask_label(item, ids)

    def _mask_label(self, item: Item, ids: np.ndarray) -> Label | None:
        present = ids_present(ids)
        unknown = [class_id for class_id in present if class_id >= len(self._listed)]
        if unknown:
            message = f"its mask holds the ids {unknown}, there are {len(self._listed)} classes"
            self._problems.add("unknown_class", item.source, f"{message}; those pixels count as unlabelled")
        names = [self._listed[class_id] for class_id in present if class_id < len(self._listed)]
        shown = tuple(sorted(self._ids[name] for name in names if name in self._ids))
        if shown:
            return Label(shown)
        if names:
            self.other_class_items += 1
        else:
            message = "its mask says of no pixel what it shows; the item is left out"
            self._problems.add("mask_without_classes", item.source, message)
        return None


def moment(item: Item) -> str:
    """Return the time of a frame in its clip, for messages; empty for a loose image."""
    return "" if item.timestamp_s is None else f"{item.timestamp_s:.3f} s"
