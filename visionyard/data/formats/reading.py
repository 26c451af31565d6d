"""What every annotation format says of a source, before pixels are looked at, and the checks of its boxes."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from visionyard.data.box_checks import checked_xyxy
from visionyard.data.formats.label_pictures import ClassMap
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Box, Problems, Split, Task, Track
from visionyard.errors import ShapeError
from visionyard.geometry import Mask, Xyxy
from visionyard.geometry.polygons import rasterize

# Labels written with four digits are off by up to 0.1 px on an image of 1,000 px: clipped without a word.
ROUNDING_PX = 0.1
_SPLIT_FOLDERS: tuple[tuple[re.Pattern[str], Split], ...] = (
    (re.compile(r"(?i)^train(ing)?\d*$"), "train"),
    (re.compile(r"(?i)^val(id|idation)?\d*$"), "val"),
    (re.compile(r"(?i)^test(ing)?\d*$"), "test"),
)


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as the label file has it.

    Attributes:
        class_name: Its class.
        xyxy: Pixels, or shares of width and height when `ImageLabels.is_normalized`.
        item: Where it stands in the file, such as `line 3`.
        polygons: Outlines of its pixels, each x, y, x, y ... in the unit of `xyxy`; empty when there are none.
        mask: Its pixels, where the file has them as such; then `polygons` is empty.
        is_crowd: As in `visionyard.data.items.Box`.
    """

    class_name: str
    xyxy: Xyxy
    item: str
    polygons: tuple[tuple[float, ...], ...] = ()
    mask: Mask | None = None
    is_crowd: bool = False


@dataclass(frozen=True)
class ImageLabels:
    """The label file of one image.

    Attributes:
        file: Path within the source.
        boxes: Those that could be read.
        has_faults: Whether entries of the file could not be read.
        is_normalized: Whether the boxes are shares of width and height.
        size_wh: The image size that the labels were made for; None when they do not say.
    """

    file: str
    boxes: tuple[RawBox, ...]
    has_faults: bool = False
    is_normalized: bool = False
    size_wh: tuple[int, int] | None = None


@dataclass(frozen=True)
class SourceImage:
    """An image of a source with its label.

    Attributes:
        file: The image's file; where `data` is given, its name is only what messages and the key are made of.
        class_name: Label of a classification.
        labels: Label of a detection.
        published_split: The split that the source itself gave.
        data: Returns the encoded image, for one that is no file of its own.
        mask_file: Label of a semantic segmentation: a picture whose colours or numbers are classes.
    """

    file: SourceFile
    class_name: str | None = None
    labels: ImageLabels | None = None
    published_split: Split | None = None
    data: Callable[[], bytes] | None = None
    mask_file: SourceFile | None = None


@dataclass(frozen=True)
class SourceClip:
    """A clip of a source with its label."""

    file: SourceFile
    class_name: str | None = None
    tracks: tuple[Track, ...] | None = None
    published_split: Split | None = None


@dataclass(frozen=True)
class Reading:
    """A source being read.

    Attributes:
        item_count: How many images and clips will come.
        images: In the order of their paths; problems are noted as they come.
        clips: Likewise.
        classes: Class names in the order of their ids; None: the sorted names that occur.
        task: What the labels train, where the kind leaves it open; None: what the kind says.
        class_map: What the pictures of `SourceImage.mask_file` mean; None when there are none.
    """

    item_count: int
    images: Iterable[SourceImage] = ()
    clips: Iterable[SourceClip] = ()
    classes: list[str] | None = None
    task: Task | None = None
    class_map: ClassMap | None = None


@dataclass(frozen=True)
class SourceFormat:
    """An annotation format.

    Attributes:
        kind: As in `data.kind`.
        task: What its labels train.
        expected: How a source of this kind is laid out, for messages.
        evidence: From a tree to what shows that it is of this kind; empty when nothing does.
        read: Reads a tree.
        is_container: Whether a file holds images of this format, whatever its bytes look like.
    """

    kind: str
    task: Task
    expected: str
    evidence: Callable[[SourceTree], str]
    read: Callable[[SourceTree, Problems], Reading]
    is_container: Callable[[SourceFile], bool] = lambda _: False

    @property
    def takes_clips(self) -> bool:
        """Whether its items are clips rather than images."""
        return self.kind.startswith("clips")


def split_of_folder(name: str) -> Split | None:
    """Return the split that a folder's name stands for, such as `valid` or `train2017`; None for any other name."""
    return next((split for pattern, split in _SPLIT_FOLDERS if pattern.match(name)), None)


def split_of_path(path: PurePosixPath) -> Split | None:
    """Return the split of the first folder in a path that stands for one."""
    splits = (split_of_folder(part) for part in path.parts[:-1])
    return next((split for split in splits if split is not None), None)


def unlabelled(image: SourceFile, reason: str, problems: Problems) -> SourceImage:
    """Return an image that no label file says anything of, and note why."""
    problems.add("image_without_labels", image.name, f"{reason}; kept as unlabelled")
    return SourceImage(image, published_split=split_of_path(image.path))


def checked_boxes(labels: ImageLabels, size_wh: tuple[int, int], problems: Problems) -> tuple[Box, ...] | None:
    """Return an image's boxes in pixels, each within the image; what is wrong is noted.

    A box whose mask cannot be used (of another size, without a pixel, outlines that are none) is kept without it.

    Args:
        labels: As read.
        size_wh: Width and height of the image as displayed.
        problems: Where to note.

    Returns:
        The boxes; empty when the file says that nothing is there; None when the file has entries but none of them is
        usable, since then no one said that nothing is there.
    """
    scale_wh = size_wh if labels.is_normalized else (1, 1)
    boxes = []
    for raw in labels.boxes:
        left, top, right, bottom = _scaled(raw.xyxy, scale_wh)
        xyxy, code, message = checked_xyxy((left, top, right, bottom), size_wh, rounding_px=ROUNDING_PX)
        if code:
            problems.add(code, labels.file, message, raw.item)
        if xyxy is not None:
            mask, code, message = _checked_mask(raw, size_wh, scale_wh)
            if code:
                problems.add(code, labels.file, f"{message}; the box is kept without it", raw.item)
            boxes.append(Box(raw.class_name, xyxy, mask, raw.is_crowd))
    had_entries = bool(labels.boxes) or labels.has_faults
    return None if had_entries and not boxes else tuple(boxes)


def _scaled(values: Sequence[float], scale_wh: tuple[int, int]) -> list[float]:
    return [value * scale_wh[place % 2] for place, value in enumerate(values)]


def _checked_mask(raw: RawBox, size_wh: tuple[int, int], scale_wh: tuple[int, int]) -> tuple[Mask | None, str, str]:
    """Return a box's mask, or None; a problem code and what is wrong, both empty when nothing is."""
    size_hw = (size_wh[1], size_wh[0])
    mask = raw.mask
    if mask is None and not raw.polygons:
        return None, "", ""
    if mask is None:
        try:
            mask = rasterize([_scaled(polygon, scale_wh) for polygon in raw.polygons], size_hw)
        except ShapeError as error:
            return None, "unusable_polygon", str(error)
    if mask.size_hw != size_hw:
        found, wanted = (f"{width}x{height}" for height, width in (mask.size_hw, size_hw))
        return None, "mask_size_differs", f"its mask is of {found} px, the image has {wanted}"
    if not len(mask.edges()):
        return None, "mask_without_pixels", "its mask holds no pixel of the image"
    return mask, "", ""
