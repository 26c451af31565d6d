"""Images with one mask picture for each object, as in the Data Science Bowl 2018.

`<id>/images/<any>.png` with `<id>/masks/*.png`, or `images/<name>.png` with `masks/<name>/*.png`, or, numbered, with
`masks/<name>_1.png`, `masks/<name>_mask_2.png`. In the first two the masks may lie in a folder for each class below:
`masks/<class>/*.png`, `masks/<name>/<class>/*.png`. Without such folders all are of one class, whose name is the only
line of a `classes.txt`, else `object`.

A mask is as large as its image; its pixels other than 0 are the object, and its box is the smallest around them. An
image without masks is unlabelled: nothing in this layout says that a person found nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from visionyard.data.formats.label_pictures import LabelPicture
from visionyard.data.formats.reading import (
    ImageLabels,
    RawBox,
    Reading,
    SourceFormat,
    SourceImage,
    split_of_path,
    unlabelled,
)
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems
from visionyard.errors import DataError, MediaError
from visionyard.geometry import Mask

_IMAGE_FOLDERS = ("images", "image")
_MASK_FOLDERS = ("masks", "mask")
_SEPARATOR = re.compile(r"([_-])")
_NAME_FILE = "classes.txt"
_ONE_CLASS = "object"

Folder = tuple[str, ...]


@dataclass(frozen=True)
class _ObjectMask:
    """The mask file of an object, and its class where a folder names one."""

    file: SourceFile
    class_name: str | None


@dataclass(frozen=True)
class _Layout:
    """Which masks belong to which image.

    Attributes:
        images: In the order of their names.
        masks_of: From an image's name to its masks.
        unmatched: Masks without an image.
        unplaced: Images in folders that are neither for images nor for masks.
    """

    images: list[SourceFile]
    masks_of: dict[str, list[_ObjectMask]]
    unmatched: list[SourceFile]
    unplaced: list[SourceFile]


def _last_of(parts: Folder, names: tuple[str, ...]) -> int | None:
    """Return the place of the last folder that is called so."""
    return next((at for at in range(len(parts) - 1, -1, -1) if parts[at].lower() in names), None)


def _layout(tree: SourceTree) -> _Layout:
    images: list[SourceFile] = []
    masks: list[tuple[Folder, Folder, SourceFile]] = []
    unplaced: list[SourceFile] = []
    in_folder: dict[Folder, list[SourceFile]] = defaultdict(list)
    by_stem: dict[tuple[Folder, str], SourceFile] = {}
    for file in tree.images():
        parts = file.path.parts[:-1]
        if (at := _last_of(parts, _MASK_FOLDERS)) is not None:
            masks.append((parts[:at], parts[at + 1 :], file))
        elif (at := _last_of(parts, _IMAGE_FOLDERS)) is not None:
            images.append(file)
            in_folder[parts[:at]].append(file)
            by_stem.setdefault((parts[:at], file.path.stem), file)
        else:
            unplaced.append(file)
    masks_of: dict[str, list[_ObjectMask]] = defaultdict(list)
    unmatched: list[SourceFile] = []
    for above, below, file in masks:
        image, classes = by_stem.get((above, below[0])) if below else _numbered(by_stem, above, file), below[1:]
        if image is None and len(in_folder[above]) == 1:
            image, classes = in_folder[above][0], below
        if image is None or len(classes) > 1:
            unmatched.append(file)
        else:
            masks_of[image.name].append(_ObjectMask(file, classes[0] if classes else None))
    return _Layout(images, dict(masks_of), unmatched, unplaced)


def _numbered(by_stem: dict[tuple[Folder, str], SourceFile], above: Folder, file: SourceFile) -> SourceFile | None:
    """Return the image of a mask that has its name, perhaps a word, and a number."""
    parts = _SEPARATOR.split(file.path.stem)
    if (above, file.path.stem) in by_stem or not parts[-1].isdecimal():
        return None
    stems = ("".join(parts[:end]) for end in range(len(parts) - 2, 0, -2))
    return next((by_stem[above, stem] for stem in stems if (above, stem) in by_stem), None)


def evidence(tree: SourceTree) -> str:
    """Return what shows a mask for each object: masks beside images, that are not one of the same name for each."""
    layout = _layout(tree)
    mask_count = sum(map(len, layout.masks_of.values()))
    is_pairs = all(
        [mask.file.path.stem for mask in masks] == [tree_name.rpartition("/")[2].rpartition(".")[0]]
        for tree_name, masks in layout.masks_of.items()
    )
    if is_pairs or mask_count <= len(layout.unmatched) + len(layout.unplaced):
        return ""
    image, masks = next(iter(layout.masks_of.items()))
    return (
        f"{mask_count} masks of objects in {len(layout.masks_of)} of {len(layout.images)} images, such as "
        f"{masks[0].file.name} for {image}"
    )


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a source of images with a mask for each object.

    Raises:
        DataError: There is no mask beside an image, the masks are JPEG, or `classes.txt` names several classes for
            masks without class folders.
    """
    layout = _layout(tree)
    if not layout.masks_of:
        raise DataError(f"{tree.label}: found {len(layout.images)} images and no mask; expected {FORMAT.expected}")
    masks = [mask for found in layout.masks_of.values() for mask in found]
    if all(mask.file.media_type == "image/jpeg" for mask in masks):
        raise DataError(
            f"{masks[0].file.name}: a mask as JPEG, which changes pixels at the border of the object; save masks as PNG"
        )
    one_class = _one_class(tree) if any(mask.class_name is None for mask in masks) else _ONE_CLASS
    for file in layout.unmatched:
        problems.add("mask_without_image", file.name, "no image in an images folder belongs to it; left out")
    for file in layout.unplaced:
        problems.add("file_left_out", file.name, "lies neither in a folder images nor in masks; left out")
    return Reading(len(layout.images), images=_images(tree, layout, one_class, problems))


def _one_class(tree: SourceTree) -> str:
    if _NAME_FILE not in tree:
        return _ONE_CLASS
    try:
        names = tree.path(_NAME_FILE).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"{_NAME_FILE}: not UTF-8 text; expected the name of the one class") from None
    names = [name.strip() for name in names if name.strip()]
    if len(names) != 1:
        raise DataError(
            f"{_NAME_FILE}: expected the name of one class, got {len(names)} lines; for several classes put the masks "
            "into a folder for each: masks/<class>/"
        )
    return names[0]


def _images(tree: SourceTree, layout: _Layout, one_class: str, problems: Problems) -> Iterator[SourceImage]:
    for file in layout.images:
        masks = layout.masks_of.get(file.name)
        if masks is None:
            yield unlabelled(file, "no mask belongs to it", problems)
        else:
            labels = _labels(tree, masks, one_class, problems)
            yield SourceImage(file, labels=labels, published_split=split_of_path(file.path))


def _labels(tree: SourceTree, masks: list[_ObjectMask], one_class: str, problems: Problems) -> ImageLabels:
    folder = str(masks[0].file.path.parent)
    boxes: list[RawBox] = []
    for each in masks:
        mask = _read_mask(tree, each.file, problems)
        if mask is None:
            continue
        size_hw = boxes[0].mask.size_hw if boxes and boxes[0].mask else mask.size_hw
        if mask.size_hw != size_hw:
            found, expected = (f"{width}x{height}" for height, width in (mask.size_hw, size_hw))
            message = f"the mask is of {found} px, those before it of {expected}; left out"
            problems.add("mask_size_differs", each.file.name, message)
            continue
        around = mask.xyxy()
        if around is not None:
            boxes.append(RawBox(each.class_name or one_class, around, each.file.path.name, mask=mask))
    size_wh = (size_hw[1], size_hw[0]) if boxes else None
    return ImageLabels(folder, tuple(boxes), has_faults=len(boxes) < len(masks), size_wh=size_wh)


def _read_mask(tree: SourceTree, file: SourceFile, problems: Problems) -> Mask | None:
    try:
        levels = LabelPicture.decode(tree.read_image(file)).levels
    except MediaError as error:
        problems.add("unreadable_mask", file.name, f"{error}; left out")
        return None
    if levels.ndim == 3:
        levels = levels.max(axis=2)
    highest = int(levels.max())
    if not highest:
        problems.add("mask_without_pixels", file.name, "the mask holds no pixel of an object; left out")
        return None
    is_inside = levels > 0
    if (levels[is_inside] != highest).any():
        # Edges blurred by scaling: from the middle of the range on, a pixel is more object than not.
        is_inside = levels >= (highest + 1) // 2
        message = f"the mask holds numbers between 0 and {highest}; pixels from the middle on are taken"
        problems.add("mask_not_binary", file.name, message)
    return Mask.from_array(np.ascontiguousarray(is_inside))


FORMAT = SourceFormat(
    kind="images_instance_masks",
    task="detection",
    expected="a mask PNG for each object: <id>/images/<any>.png with <id>/masks/*.png, or images/<name>.png with "
    "masks/<name>/*.png or masks/<name>_<number>.png",
    evidence=evidence,
    read=read,
)
