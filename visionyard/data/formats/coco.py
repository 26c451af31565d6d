"""COCO JSON: `images`, `annotations` and `categories` in one file for each split, such as Roboflow's or COCO's own.

A file of any length is read entry by entry; of an annotation only its place is remembered, and it is read again when
its image comes: about 20 bytes an annotation and 500 an image are held. An image that `images` lists without an
annotation is one where nothing is. Masks are outlines, run lengths as numbers, or COCO's compressed text.

Source: COCO data format, https://cocodataset.org/#format-data.
"""

import re
from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from visionyard.data.formats.coco_categories import Categories, merged_classes
from visionyard.data.formats.coco_shapes import read_box
from visionyard.data.formats.image_lookup import Claims, ImageLookup
from visionyard.data.formats.json_reading import JsonValue, json_values, read_value
from visionyard.data.formats.reading import (
    ImageLabels,
    RawBox,
    Reading,
    SourceFormat,
    SourceImage,
    split_of_folder,
    split_of_path,
    unlabelled,
)
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems, Split
from visionyard.errors import DataError

_LOOKED_AT = 50
# What stands before the first image or annotation (info, licences) is a few kilobytes in every set met.
_HEAD_BYTES = 1 << 20
_LISTS = {"images", "annotations", "categories"}
_OTHER_KINDS = {"keypoints": "key points", "caption": "captions", "segments_info": "panoptic segments"}
_WORDS = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class _Entry:
    """An image as a file lists it; `size_wh` is None where the file does not say."""

    image_id: Hashable
    file_name: str
    size_wh: tuple[int, int] | None


@dataclass
class _File:
    """A COCO file: all of it but the annotations, of which only the places are held.

    Attributes:
        name: Path within the source.
        split: The one it is for; None when its name and folder do not say.
        categories: Its classes.
        entries: Its images, one for each id.
        has_annotations: Whether it lists annotations: a file of a test set without labels does not.
        unread_ids: Of the images with an annotation that is of no class, such as a caption: something is there.
        rows: From an image id to its number, in the order in which ids occurred.
        owners: For each annotation the number of its image's id.
        starts: For each annotation its first byte.
        sizes: For each annotation its bytes.
        annotation_ids: Of those that have a number, until they are checked.
    """

    name: str
    split: Split | None
    categories: Categories
    entries: list[_Entry] = field(default_factory=list)
    has_annotations: bool = False
    unread_ids: set[Hashable] = field(default_factory=set)
    rows: dict[Hashable, int] = field(default_factory=dict)
    owners: "array[int]" = field(default_factory=lambda: array("I"))
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("I"))
    annotation_ids: "array[int]" = field(default_factory=lambda: array("q"))

    @property
    def says_what_is_there(self) -> bool:
        """Whether an image without an annotation is one where nothing is: not so in a file of captions alone."""
        return self.has_annotations and (bool(self.owners) or not self.unread_ids)


def evidence(tree: SourceTree) -> str:
    """Return what shows a COCO source: a JSON file with `images` or `annotations` as COCO has them, and images."""
    images = tree.images()
    if not images:
        return ""
    found = next((file.name for file in _json_files(tree)[:_LOOKED_AT] if _is_coco(tree, file.name)), "")
    return f"{found} with COCO's images and annotations, {len(images)} images" if found else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a COCO source.

    Raises:
        DataError: No file is a COCO file, or one is that cannot be read to its end.
    """
    files = [_scan(tree, file, problems) for file in _json_files(tree) if _is_coco(tree, file.name)]
    if not files:
        raise DataError(_none_found(tree))
    classes = merged_classes([file.categories for file in files], problems)
    return Reading(len(tree.images()), images=_items(tree, files, problems), classes=classes)


def _json_files(tree: SourceTree) -> list[SourceFile]:
    """Return JSON files, those first whose names are COCO's: boxes and masks before other labels of the same images."""

    def order(file: SourceFile) -> tuple[int, int, str]:
        is_usual = "coco" in file.path.name.lower() or file.path.name.startswith("instances")
        return 0 if is_usual else 1, file.name.count("/"), file.name

    return sorted((file for file in tree.with_extension(".json") if file.size), key=order)


def _is_coco(tree: SourceTree, name: str) -> bool:
    """Return whether a file's first image or annotation is one of COCO's; looks no further than that."""
    try:
        for each in json_values(tree.path(name), name, max_value_bytes=_HEAD_BYTES):
            value = each.value
            if each.key in {"images", "annotations"} and each.is_entry:
                wanted = "file_name" if each.key == "images" else "image_id"
                return isinstance(value, dict) and wanted in value
            if not each.key or each.stop > _HEAD_BYTES:
                return False
    except DataError:
        return False
    return False


def _none_found(tree: SourceTree) -> str:
    seen = []
    for file in _json_files(tree)[:5]:
        try:
            keys = dict.fromkeys(each.key[:40] for each in json_values(tree.path(file.name), file.name))
            shown = ", ".join(map(repr, list(keys)[:8])) or "nothing in it"
            seen.append(f"{file.name} is a list" if "" in keys else f"{file.name} has {shown}")
        except DataError as error:
            seen.append(str(error))
    return (
        f"{tree.label}: no COCO file found ({'; '.join(seen) or 'no JSON files'}); expected a JSON object with images "
        "(each with id and file_name), annotations (each with image_id, category_id and bbox) and categories"
    )


def _scan(tree: SourceTree, source: SourceFile, problems: Problems) -> _File:
    file = _File(source.name, _split_of(source.path), Categories(source.name))
    is_told: set[str] = set()
    for each in json_values(tree.path(file.name), file.name):
        file.has_annotations = file.has_annotations or each.key == "annotations"
        if each.key not in _LISTS or each.value == []:
            continue
        if not each.is_entry or not isinstance(each.value, dict):
            message = f"{each.key} holds {str(each.value)[:40]!r}, expected a list of objects; passed over"
            problems.add("malformed_entry", file.name, message, f"byte {each.start}")
        elif each.key == "categories":
            file.categories.add(each.value, problems)
        elif each.key == "images":
            _add_image(file, each, problems)
        else:
            _add_annotation(file, each, is_told, problems)
    _check_ids(file, problems)
    return file


def _split_of(path: PurePosixPath) -> Split | None:
    """Return the split in a file's name, such as `instances_val2017.json`, else of its folder."""
    splits = {split_of_folder(word) for word in _WORDS.split(path.stem)} - {None}
    return splits.pop() if len(splits) == 1 else split_of_path(path)


def _add_image(file: _File, each: JsonValue, problems: Problems) -> None:
    image_id, file_name = each.value.get("id"), each.value.get("file_name")
    if not isinstance(image_id, int | str) or not isinstance(file_name, str) or not file_name:
        message = f"an image needs id and file_name, got {str(image_id)[:40]!r} and {str(file_name)[:40]!r}; left out"
        problems.add("malformed_entry", file.name, message, f"byte {each.start}")
        return
    sides = [each.value.get("width"), each.value.get("height")]
    width, height = (side if isinstance(side, int) and side > 0 else 0 for side in sides)
    file.entries.append(_Entry(image_id, file_name, (width, height) if width and height else None))


def _add_annotation(file: _File, each: JsonValue, is_told: set[str], problems: Problems) -> None:
    image_id = each.value.get("image_id")
    if not isinstance(image_id, int | str):
        message = f"an annotation needs an image_id, got {str(image_id)[:40]!r}; left out"
        problems.add("malformed_entry", file.name, message, f"byte {each.start}")
        return
    others = [key for key in _OTHER_KINDS if key in each.value]
    for key in others:
        if key not in is_told:
            is_told.add(key)
            message = f"{_OTHER_KINDS[key]} are not read; boxes and masks are"
            problems.add("shape_not_supported", file.name, message, key)
    if "category_id" not in each.value:
        file.unread_ids.add(image_id)
        if not others:
            message = "an annotation needs a category_id, got none; left out"
            problems.add("malformed_entry", file.name, message, f"byte {each.start}")
    else:
        file.owners.append(file.rows.setdefault(image_id, len(file.rows)))
        file.starts.append(each.start)
        file.sizes.append(each.stop - each.start)
        file.categories.use(each.value["category_id"])
        annotation_id = each.value.get("id")
        if type(annotation_id) is int and abs(annotation_id) < 1 << 63:
            file.annotation_ids.append(annotation_id)


def _check_ids(file: _File, problems: Problems) -> None:
    """Leave one image for each id; say which annotations have none, and which ids are another's, too."""
    entries: dict[Hashable, _Entry] = {}
    doubtful: dict[Hashable, None] = {}
    for entry in file.entries:
        first = entries.setdefault(entry.image_id, entry)
        if first is not entry:
            item = f"image {str(entry.image_id)[:40]}"
            if first.file_name != entry.file_name:
                doubtful[entry.image_id] = None
                message = f"{first.file_name[:80]} and {entry.file_name[:80]} have one id; both count as unlabelled"
            else:
                message = f"{entry.file_name[:80]} is listed twice; once is enough"
            problems.add("duplicate_image_id", file.name, message, item)
    for image_id in doubtful:
        del entries[image_id]
    strangers = [image_id for image_id in file.rows if image_id not in entries and image_id not in doubtful]
    if strangers:
        message = (
            f"annotations name {len(strangers)} image ids that images does not list, such as "
            f"{', '.join(str(each)[:40] for each in strangers[:3])}; left out"
        )
        problems.add("labels_without_image", file.name, message)
    file.entries = list(entries.values())
    ids, repeats = np.unique(np.asarray(file.annotation_ids, np.int64), return_counts=True)
    if len(repeated := ids[repeats > 1]):
        message = f"{len(repeated)} ids stand more than once, such as {repeated[0]}; all annotations are kept"
        problems.add("duplicate_annotation_id", file.name, message)
    del file.annotation_ids[:]


def _items(tree: SourceTree, files: list[_File], problems: Problems) -> Iterator[SourceImage]:
    labelled = _labelled_images(tree, files, problems)
    annotations = [_Annotations(tree, file) for file in files]
    for image in tree.images():
        if image.name not in labelled:
            yield unlabelled(image, "no COCO file lists it", problems)
            continue
        place, entry = labelled[image.name]
        labels = annotations[place].labels_of(entry, problems) if files[place].says_what_is_there else None
        yield SourceImage(image, labels=labels, published_split=files[place].split or split_of_path(image.path))


def _labelled_images(tree: SourceTree, files: list[_File], problems: Problems) -> dict[str, tuple[int, _Entry]]:
    """Return for each image the file that labels it, by its number, and how that lists it."""
    lookup, claims = ImageLookup(tree), Claims(problems)
    labelled: dict[str, tuple[int, _Entry]] = {}
    for place, file in enumerate(files):
        references = [entry.file_name for entry in file.entries]
        found = lookup.resolve(references, beside=PurePosixPath(file.name).parent, split=file.split)
        for entry, each in zip(file.entries, found):
            image = claims.take(each, file.name, f"image {str(entry.image_id)[:40]}")
            if image is not None:
                labelled[image.name] = (place, entry)
    return labelled


class _Annotations:
    """The annotations of one file, read where they stand."""

    def __init__(self, tree: SourceTree, file: _File) -> None:
        self._path, self._file = tree.path(file.name), file
        owners = np.asarray(file.owners, np.uint32)
        self._order = np.argsort(owners, kind="stable").astype(np.uint32)
        self._bounds = np.searchsorted(owners[self._order], np.arange(len(file.rows) + 1))

    def labels_of(self, entry: _Entry, problems: Problems) -> ImageLabels:
        """Return the labels of one image; what cannot be read is noted."""
        file = self._file
        row = file.rows.get(entry.image_id)
        places = [] if row is None else self._order[self._bounds[row] : self._bounds[row + 1]].tolist()
        boxes: list[RawBox] = []
        if places:
            with self._path.open("rb") as stream:
                for place in places:
                    start = file.starts[place]
                    values = read_value(stream, start, start + file.sizes[place])
                    item = f"annotation {str(values['id'])[:40]}" if "id" in values else f"byte {start}"
                    box = read_box(values, item, file.name, file.categories, problems)
                    boxes += [box] if box else []
        has_faults = len(boxes) < len(places) or entry.image_id in file.unread_ids
        return ImageLabels(file.name, tuple(boxes), has_faults=has_faults, size_wh=entry.size_wh)


FORMAT = SourceFormat(
    kind="images_coco",
    task="detection",
    expected="images with a COCO JSON file for each split (beside them, or in annotations/)",
    evidence=evidence,
    read=read,
)
