"""Go through labelled images once and count; memory follows the classes, the groups and the different image sizes."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from visionyard import events
from visionyard.data.class_masks import decode_class_mask, pixel_counts
from visionyard.data.inspection.histogram import Bins
from visionyard.data.inspection.looks import LooksTally
from visionyard.data.inspection.statistics import ClassCounts, Inspection
from visionyard.data.items import SPLITS, Box, Item
from visionyard.data.labelled import LabelledImage, LabelledSet

NO_SPLIT = "none"
# Enough for a distribution that does not change to the eye; at 10 ms an image 20 s.
LOOKED_AT = 2000
_GRID = 32
_LISTED_SIZES = 12
# Eight bins an octave from 1 to 8192 px.
_SIDE_EDGES_PX = tuple(2 ** (step / 8) for step in range(105))
_SHARE_EDGES = (0.0, *(10 ** (step / 4) for step in range(-16, 1)))
_MOST_BOXES = 50


def inspect_images(labelled: LabelledSet, *, looked_at: int = LOOKED_AT) -> Inspection:
    """Count what labelled images hold.

    All labels are counted. Of the images `looked_at`, spread evenly, are decoded for brightness and sharpness; semantic
    masks are decoded all.

    Args:
        labelled: The images.
        looked_at: At most so many are decoded; 0 decodes none.

    Raises:
        DataError: A semantic mask cannot be decoded.
    """
    tally = _Tally(labelled.classes)
    looks = LooksTally()
    # Of every `stride` images the first is looked at.
    stride = -(-labelled.item_count // looked_at) if looked_at else 0
    for position, image in enumerate(labelled.images()):
        events.progress(position + 1, labelled.item_count, unit="image", label="counting")
        tally.add(image)
        if stride and position % stride == 0:
            looks.add(image)
    return tally.finish(labelled, looks)


class _Tally:
    """Counts in the making."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = list(classes)
        self._items: Counter[str] = Counter()
        self._groups: defaultdict[str, set[int]] = defaultdict(set)
        self._class_items: Counter[tuple[str, str]] = Counter()
        self._class_boxes: Counter[tuple[str, str]] = Counter()
        self._class_pixels: Counter[tuple[str, str]] = Counter()
        self._class_masks: Counter[str] = Counter()
        self._class_sides: defaultdict[str, Bins] = defaultdict(lambda: Bins(_SIDE_EDGES_PX))
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._image_sides, self._box_sides = Bins(_SIDE_EDGES_PX), Bins(_SIDE_EDGES_PX)
        self._box_share = Bins(_SHARE_EDGES)
        self._boxes_per_image = Bins(range(_MOST_BOXES + 2))
        self._coverage = _Coverage()
        self._unlabelled_count = self._background_count = self._crowd_count = 0

    def add(self, image: LabelledImage) -> None:
        """Count one image."""
        item = image.item
        split = item.published_split or NO_SPLIT
        self._items[split] += 1
        # Hashes, not names: 200,000 groups of one image each take 15 MB.
        self._groups[split].add(hash(item.group))
        self._sizes[item.width, item.height] += 1
        self._image_sides.add([max(item.width, item.height)])
        if not image.is_labelled:
            self._unlabelled_count += 1
        elif item.boxes is not None:
            self._add_boxes(item, item.boxes, split)
        elif item.class_name is not None:
            self._class_items[item.class_name, split] += 1
        else:
            self._add_mask(image, split)

    def _add_boxes(self, item: Item, boxes: Sequence[Box], split: str) -> None:
        self._background_count += not boxes
        self._boxes_per_image.add([len(boxes)])
        for name in {box.class_name for box in boxes}:
            self._class_items[name, split] += 1
        for box in boxes:
            left, top, right, bottom = box.xyxy
            area = (right - left) * (bottom - top)
            self._class_boxes[box.class_name, split] += 1
            self._class_masks[box.class_name] += box.mask is not None
            self._crowd_count += box.is_crowd
            self._class_sides[box.class_name].add([area**0.5])
            self._box_sides.add([area**0.5])
            self._box_share.add([area / (item.width * item.height)])
            self._coverage.add(box, item)

    def _add_mask(self, image: LabelledImage, split: str) -> None:
        pixels = pixel_counts(decode_class_mask(image.mask_bytes()))
        for class_id in np.flatnonzero(pixels[: len(self._classes)]).tolist():
            self._class_items[self._classes[class_id], split] += 1
            self._class_pixels[self._classes[class_id], split] += int(pixels[class_id])

    def finish(self, labelled: LabelledSet, looks: LooksTally) -> Inspection:
        """Return what was counted."""
        splits = [split for split in (*SPLITS, NO_SPLIT) if split in self._items]
        # A source may label with classes that its own list lacks.
        named = dict.fromkeys([*self._classes, *sorted({name for name, _ in self._class_items})])
        return Inspection(
            label=labelled.label,
            task=labelled.task,
            items={split: self._items[split] for split in splits},
            groups={split: len(self._groups[split]) for split in splits},
            item_count=self._items.total(),
            unlabelled_count=self._unlabelled_count,
            background_count=self._background_count,
            crowd_count=self._crowd_count,
            classes=tuple(self._class_counts(name, splits, labelled.task) for name in named),
            image_sizes=tuple((*size, count) for size, count in _most_frequent(self._sizes)),
            image_size_count=len(self._sizes),
            image_sides_px=self._image_sides.histogram(),
            image_side_quantiles_px=_side_quantiles(self._sizes),
            boxes_per_image=self._boxes_per_image.histogram(),
            box_sides_px=self._box_sides.histogram(),
            box_share=self._box_share.histogram(),
            coverage=self._coverage.shares(),
            looks=looks.finish(),
            problem_counts=dict(sorted(Counter(problem.code for problem in labelled.problems).items())),
        )

    def _class_counts(self, name: str, splits: Sequence[str], task: str) -> ClassCounts:
        def by_split(counts: Counter[tuple[str, str]], wanted: str) -> dict[str, int]:
            return {split: counts[name, split] for split in splits} if task == wanted else {}

        return ClassCounts(
            name=name,
            items={split: self._class_items[name, split] for split in splits},
            boxes=by_split(self._class_boxes, "detection"),
            mask_count=self._class_masks[name],
            pixels=by_split(self._class_pixels, "semantic_segmentation"),
            side_px=self._class_sides[name].histogram(),
        )


class _Coverage:
    """Where in their images boxes lie: a grid in which each box raises the cells that it covers.

    Only the corners are written, as differences; sums over rows and columns give the grid.
    """

    def __init__(self) -> None:
        self._differences = np.zeros((_GRID + 1, _GRID + 1), np.int64)
        self._count = 0

    def add(self, box: Box, item: Item) -> None:
        """Raise the cells whose middle a box covers, at least the one that its own middle lies in."""
        left, right = _cells(box.xyxy[0] / item.width, box.xyxy[2] / item.width)
        top, bottom = _cells(box.xyxy[1] / item.height, box.xyxy[3] / item.height)
        self._differences[top, left] += 1
        self._differences[bottom, left] -= 1
        self._differences[top, right] -= 1
        self._differences[bottom, right] += 1
        self._count += 1

    def shares(self) -> tuple[tuple[float, ...], ...]:
        """Return rows of columns: the share of boxes that cover each cell; empty when there are none."""
        if not self._count:
            return ()
        grid = self._differences.cumsum(axis=0).cumsum(axis=1)[:_GRID, :_GRID] / self._count
        return tuple(tuple(row) for row in grid.round(6).tolist())


def _cells(low: float, high: float) -> tuple[int, int]:
    """Return the first cell whose middle lies between two shares, and the one behind the last."""
    first, behind = int(np.ceil(low * _GRID - 0.5)), int(np.ceil(high * _GRID - 0.5))
    first = min(max(first, 0), _GRID)
    behind = min(max(behind, first), _GRID)
    if first < behind:
        return first, behind
    middle = min(max(int((low + high) / 2 * _GRID), 0), _GRID - 1)
    return middle, middle + 1


def _most_frequent(sizes: Counter[tuple[int, int]]) -> list[tuple[tuple[int, int], int]]:
    return sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))[:_LISTED_SIZES]


def _side_quantiles(sizes: Counter[tuple[int, int]]) -> tuple[int, int, int]:
    sides: Counter[int] = Counter()
    for size, count in sizes.items():
        sides[max(size)] += count
    values = sorted(sides)
    behind = np.cumsum([sides[value] for value in values])
    low, middle, high = (
        values[int(np.searchsorted(behind, share * behind[-1]))] if values else 0 for share in (0.05, 0.5, 0.95)
    )
    return low, middle, high
