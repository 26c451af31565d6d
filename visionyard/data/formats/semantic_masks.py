"""Images with a picture of labels each: indexed, grey or in colour, with a class map file or without.

An image and its mask have the same name, apart from an ending such as `_mask`, in folders of which one is called for
images and the other for labels: `images/a.jpg` and `masks/a.png`, `train/image/0.png` and `train/label/0.png`,
`JPEGImages/` and `SegmentationClass/`, `train/` and `train_labels/`, or both in one folder: `a.jpg`, `a_mask.png`.

Without a class map the numbers that occur are the classes, named by themselves; where these are 0 and 255 alone, they
are background and foreground. With a map that has colours only, grey masks hold either these colours or the places of
the classes in the file: what fits all masks is taken.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from visionyard import events
from visionyard.data.class_masks import UNLABELLED_ID, row_parts
from visionyard.data.formats.class_maps import MAX_MAP_BYTES, MapEntry, parse_class_map
from visionyard.data.formats.label_pictures import MAX_LEVEL, ClassMap, Colour, LabelPicture
from visionyard.data.formats.reading import Reading, SourceFormat, SourceImage, split_of_path
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems
from visionyard.errors import DataError, MediaError

_IMAGE_FOLDERS = re.compile(r"(?i)^(images?|imgs?|jpegimages|inputs?|photos?|rgb)$")
_MASK_FOLDERS = re.compile(
    r"(?i)^((ground_?truth|semantic|class)?_?(masks?|labels?|labell?ed|annotations?|annots?|segmentations?|maps?)|"
    r"gts?|ground_?truths?|segmentationclass(aug|raw)?|png_?masks?|targets?)$"
)
# Beside SegmentationClass, with a number for each object rather than each class.
_OBJECT_FOLDERS = {"segmentationobject"}
_FOLDER_ENDING = re.compile(r"(?i)^(.+?)[_-]?(masks?|labels?|annotations?|annot|gt)$")
_NAME_ENDING = re.compile(r"(?i)^(.+?)[_-](masks?|labels?|gt|l|seg(mentation)?|annotations?)$")
_MAP_FILES = (
    *("class_dict.csv", "_classes.csv", "classes.csv", "class_map.csv", "label_colors.txt", "labelmap.txt"),
    *("label_classes.json", "classes.json", "class_map.json", "classes.txt", "codes.txt"),
)
# COCO-Stuff, the set with the most classes in common use, has 182: more numbers are no classes.
_MAX_UNNAMED = 200
_BINARY = {0: "background", 255: "foreground"}
_SHOWN = 8

Key = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class _Pairing:
    """Which picture is the mask of which image.

    Attributes:
        images: All images that are no masks, in the order of their names.
        mask_of: From an image's name to its mask.
        unmatched: Masks without an image, or beyond the first of one.
    """

    images: list[SourceFile]
    mask_of: dict[str, SourceFile]
    unmatched: list[SourceFile]


def _pair(tree: SourceTree) -> _Pairing:
    folders = {file.path.parts[:-1] for file in tree.images()}
    names = {part for parts in folders for part in parts}
    # Once a folder, not once a file: there may be hundreds of thousands.
    image_parts = {parts: _image_parts(parts, names) for parts in folders}
    images: list[SourceFile] = []
    masks: list[tuple[Key, SourceFile]] = []
    for file in tree.images():
        parts = file.path.parts[:-1]
        if any(part.lower() in _OBJECT_FOLDERS for part in parts):
            continue
        of_image = image_parts[parts]
        if of_image is None:
            images.append(file)
        else:
            masks.append(((of_image, file.path.stem), file))
    images, beside = _split_by_name(images) if not masks else (images, [])
    by_key = {_image_key(file.path): file for file in reversed(images)}
    mask_of: dict[str, SourceFile] = {}
    unmatched: list[SourceFile] = []
    for (parts, stem), file in [*masks, *beside]:
        ending = _NAME_ENDING.match(stem)
        image = by_key.get((parts, stem)) or (by_key.get((parts, ending.group(1))) if ending else None)
        if image is None or image.name in mask_of:
            unmatched.append(file)
        else:
            mask_of[image.name] = file
    return _Pairing(images, mask_of, unmatched)


def _image_parts(parts: tuple[str, ...], names: set[str]) -> tuple[str, ...] | None:
    """Return the folders of the image of a mask that lies in `parts`; None when these are no folders of masks.

    `names` are all folders there are: `train_labels` is one of masks where `train` is there too.
    """
    for at in range(len(parts) - 1, -1, -1):
        if _MASK_FOLDERS.match(parts[at]):
            return _without_image_folders((*parts[:at], *parts[at + 1 :]))
        ending = _FOLDER_ENDING.match(parts[at])
        if ending and ending.group(1) in names:
            return _without_image_folders((*parts[:at], ending.group(1), *parts[at + 1 :]))
    return None


def _without_image_folders(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in parts if not _IMAGE_FOLDERS.match(part))


def _image_key(path: PurePosixPath) -> Key:
    return _without_image_folders(path.parts[:-1]), path.stem


def _split_by_name(files: list[SourceFile]) -> tuple[list[SourceFile], list[tuple[Key, SourceFile]]]:
    """Tell images from masks that lie in one folder, by the masks' endings."""
    stems: dict[PurePosixPath, set[str]] = defaultdict(set)
    for file in files:
        stems[file.path.parent].add(file.path.stem)
    images, masks = [], []
    for file in files:
        ending = _NAME_ENDING.match(file.path.stem)
        if ending and ending.group(1) in stems[file.path.parent]:
            masks.append((_image_key(file.path), file))
        else:
            images.append(file)
    return images, masks


def _map_file(tree: SourceTree) -> SourceFile | None:
    """Return the class map file: the one nearest to the top, in the order of `_MAP_FILES`."""
    found = [file for file in tree.files if file.path.name.lower() in _MAP_FILES]
    return min(
        found,
        key=lambda file: (len(file.path.parts), _MAP_FILES.index(file.path.name.lower()), file.name),
        default=None,
    )


def evidence(tree: SourceTree) -> str:
    """Return what shows images with masks: pairs of the same name, more than there are masks left over."""
    pairing = _pair(tree)
    if len(pairing.mask_of) <= len(pairing.unmatched):
        return ""
    image, mask = next(iter(pairing.mask_of.items()))
    without = len(pairing.images) - len(pairing.mask_of)
    map_file = _map_file(tree)
    return (
        f"{len(pairing.mask_of)} images with a mask of their name each, such as {mask.name} for {image}, {without} "
        f"images without, " + (f"class map {map_file.name}" if map_file else "no class map")
    )


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a source of images with masks.

    Raises:
        DataError: There are no pairs, the class map cannot be used, or the masks need one and there is none.
    """
    pairing = _pair(tree)
    if not pairing.mask_of:
        raise DataError(
            f"{tree.label}: found {len(pairing.images)} images and no mask of the same name; expected {FORMAT.expected}"
        )
    lossy = [file.name for file in pairing.mask_of.values() if file.media_type == "image/jpeg"]
    if len(lossy) == len(pairing.mask_of):
        raise DataError(f"{lossy[0]}: labels as JPEG, which changes pixels and so invents classes; save masks as PNG")
    map_file = _map_file(tree)
    entries = _entries(tree, map_file) if map_file else []
    class_map = _class_map(tree, pairing, entries, map_file.name if map_file else "")
    for file in pairing.unmatched:
        problems.add("mask_without_image", file.name, "there is no image of its name, or it has another mask; left out")
    images = _images(pairing, problems)
    return Reading(len(pairing.images), images=images, classes=list(class_map.classes), class_map=class_map)


def _images(pairing: _Pairing, problems: Problems) -> Iterator[SourceImage]:
    for file in pairing.images:
        mask = pairing.mask_of.get(file.name)
        if mask is None:
            problems.add("image_without_labels", file.name, "no mask of its name; kept as unlabelled")
        yield SourceImage(file, published_split=split_of_path(file.path), mask_file=mask)


def _entries(tree: SourceTree, file: SourceFile) -> list[MapEntry]:
    if file.size > MAX_MAP_BYTES:
        raise DataError(f"{file.name}: has {file.size} bytes, expected a class map of at most {MAX_MAP_BYTES}")
    try:
        return parse_class_map(tree.path(file.name).read_text(encoding="utf-8-sig"), file.name)
    except UnicodeDecodeError:
        raise DataError(f"{file.name}: not UTF-8 text; save the class map as UTF-8") from None


def _class_map(tree: SourceTree, pairing: _Pairing, entries: list[MapEntry], file: str) -> ClassMap:
    """Return what the masks' numbers and colours mean; all masks are looked at where the class map leaves that open."""
    ordered = sorted(entries, key=lambda entry: entry.number or 0) if entries else []
    classes = tuple(dict.fromkeys(entry.name for entry in ordered))
    ids = {name: class_id for class_id, name in enumerate(classes)}
    colours = {entry.colour: ids[entry.name] for entry in ordered if entry.colour is not None}
    numbers = {entry.number: ids[entry.name] for entry in ordered if entry.number is not None}
    if numbers:
        return ClassMap(classes, numbers, colours)
    levels, colour_example = _survey(tree, pairing, has_colours=bool(colours))
    if not entries:
        return _unnamed(tree, levels, colour_example)
    return ClassMap(classes, _numbers_of_colours(levels, colours, [ids[each.name] for each in ordered], file), colours)


def _survey(tree: SourceTree, pairing: _Pairing, *, has_colours: bool) -> tuple[set[int], str]:
    """Return the numbers that occur in the masks without channels, and a mask in colour that no map explains."""
    seen = np.zeros(MAX_LEVEL + 1, np.bool_)
    colour_example = ""
    masks = list(pairing.mask_of.values())
    for done, file in enumerate(masks, 1):
        events.progress(done, len(masks), unit="mask", label="looking for classes")
        try:
            picture = LabelPicture.decode(tree.read_image(file))
        except MediaError:
            continue  # told when it is read for its image
        if has_colours and (picture.has_channels or picture.palette is not None):
            continue
        grey = picture.as_grey()
        if grey is None:
            colour_example = colour_example or file.name
        else:
            for part in row_parts(grey.levels):
                seen[part] = True
    return set(np.flatnonzero(seen).tolist()), colour_example


def _unnamed(tree: SourceTree, levels: set[int], colour_example: str) -> ClassMap:
    if colour_example:
        raise DataError(
            f"{colour_example}: the mask is in colour, and {tree.label} has no class map; add class_dict.csv with the "
            "header name,r,g,b and a line for each class"
        )
    if UNLABELLED_ID in levels and levels <= set(_BINARY):
        return ClassMap(tuple(_BINARY.values()), {level: place for place, level in enumerate(_BINARY)}, {})
    numbers = sorted(levels - {UNLABELLED_ID})
    if not numbers:
        raise DataError(f"{tree.label}: no mask says of any pixel what it shows; each is 255 throughout, or unreadable")
    if len(numbers) > _MAX_UNNAMED:
        shown = ", ".join(map(str, numbers[:_SHOWN]))
        raise DataError(
            f"{tree.label}: the masks hold {len(numbers)} numbers ({shown} ...), more than classes can be; they may be "
            "blurred edges, objects or depths: save class numbers, or add classes.csv with the header id,name"
        )
    return ClassMap(tuple(map(str, numbers)), {number: place for place, number in enumerate(numbers)}, {})


def _numbers_of_colours(
    levels: set[int], colours: dict[Colour, int], class_ids: list[int], file: str
) -> dict[int, int]:
    """Return what the numbers of grey masks mean when the class map has colours only.

    Args:
        levels: The numbers that occur.
        colours: To class ids.
        class_ids: In the order of the file.
        file: The class map.
    """
    by_colour = {red: class_id for (red, green, blue), class_id in colours.items() if red == green == blue}
    meant = levels - {UNLABELLED_ID}
    if levels <= set(by_colour):
        return by_colour
    if not meant or max(meant) < len(class_ids):
        return dict(enumerate(class_ids))
    raise DataError(
        f"{file}: the masks are grey with the numbers {', '.join(map(str, sorted(meant)[:_SHOWN]))}, which are neither "
        f"colours of the class map nor places of its {len(class_ids)} classes (from 0); add an id column"
    )


FORMAT = SourceFormat(
    kind="images_semantic_masks",
    task="semantic_segmentation",
    expected="images with a mask picture of the same name each (images/ beside masks/ or labels/), and for colours a "
    "class map such as class_dict.csv (name,r,g,b)",
    evidence=evidence,
    read=read,
)
