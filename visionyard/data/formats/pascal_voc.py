"""Pascal VOC: an XML file of the image's name, in `Annotations/` or beside the image.

Corners are taken as they stand, as distances from the image's left and top edge: today's tools write them so, while the
original set counted pixels from 1. The published split comes from `ImageSets/Main/{train,val,test}.txt`, else from a
`train`, `valid` or `test` folder. Objects marked difficult are kept, and told. Where the set has
`SegmentationObject`, number n of its pictures is the mask of object n; the classes of pixels are left out, and told.

Source: M. Everingham et al., The PASCAL Visual Object Classes Challenge 2012 Development Kit, section 10.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np

from visionyard.data.formats.label_pictures import LabelPicture
from visionyard.data.formats.reading import ImageLabels, RawBox, Reading, SourceFormat, SourceImage, split_of_path
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.formats.xml_reading import XML_ERRORS, number_of, root_tag, size_of, text_of, xml_events
from visionyard.data.items import SPLITS, Problems, Split
from visionyard.errors import MediaError
from visionyard.geometry import Mask

_LOOKED_AT = 20
# The full VOC sets hold masks as images, of the same names as the photographs.
_CLASS_MASKS, _OBJECT_MASKS = "SegmentationClass", "SegmentationObject"
# What nobody said: the borders of objects.
_VOID = 255


def evidence(tree: SourceTree) -> str:
    """Return what shows a VOC source: XML files whose outermost element is `annotation`, and images."""
    if not tree.images():
        return ""
    files = tree.with_extension(".xml")
    found = next(
        (file.name for file in files[:_LOOKED_AT] if root_tag(tree.path(file.name), file.name) == "annotation"), ""
    )
    return f"{len(files)} XML files such as {found} with <annotation>, {len(tree.images())} images" if found else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a VOC source."""
    splits = _published_splits(tree, problems)
    _tell_masks(tree, problems)
    return Reading(len(_images(tree)), images=_items(tree, splits, problems))


def _images(tree: SourceTree) -> list[SourceFile]:
    return [file for file in tree.images() if file.path.parent.name not in {_CLASS_MASKS, _OBJECT_MASKS}]


def _tell_masks(tree: SourceTree, problems: Problems) -> None:
    folders = Counter(str(file.path.parent) for file in tree.images() if file.path.parent.name == _CLASS_MASKS)
    for folder, count in sorted(folders.items()):
        message = f"{count} pictures of pixels' classes are left out; to read them instead of boxes, set data.kind: "
        problems.add("segmentation_left_out", folder, message + "images_semantic_masks")


def _object_masks(tree: SourceTree) -> dict[PurePosixPath, SourceFile]:
    """Return the picture of object numbers for each image, by the folder above its own and its name."""
    return {
        file.path.parent.parent / file.path.stem: file
        for file in tree.images()
        if file.path.parent.name == _OBJECT_MASKS
    }


def _with_masks(
    tree: SourceTree, picture: SourceFile, boxes: list[RawBox], count: int, problems: Problems
) -> list[RawBox]:
    """Return boxes with the masks of the objects that a picture shows.

    Args:
        tree: The source.
        picture: The picture.
        boxes: Their items end with the number of the object.
        count: Objects in the label file, those left out included.
        problems: Where to note.
    """
    try:
        levels = LabelPicture.decode(tree.read_image(picture)).levels
    except MediaError as error:
        problems.add("unreadable_mask", picture.name, f"{error}; its boxes are kept without masks")
        return boxes
    found = np.unique(levels) if levels.ndim == 2 else np.zeros(0)
    unknown = [int(number) for number in found if count < number != _VOID]
    if levels.ndim != 2 or unknown:
        shown = f"the numbers {unknown[:5]}" if unknown else "colours"
        message = f"it holds {shown}, expected those of {count} objects; its boxes are kept without masks"
        problems.add("unreadable_mask", picture.name, message)
        return boxes
    numbers = [int(box.item.rpartition(" ")[2]) for box in boxes]
    return [
        replace(box, mask=Mask.from_array(levels == number)) if number in found else box
        for box, number in zip(boxes, numbers)
    ]


class _LabelFiles:
    """XML files by the image each can be for: beside it, in the usual neighbour folder, or the only one so named."""

    def __init__(self, tree: SourceTree) -> None:
        self.names = [file.name for file in tree.with_extension(".xml")]
        self._by_image: dict[str, str] = {}
        self._by_stem: dict[str, str | None] = {}
        for name in self.names:
            path = PurePosixPath(name)
            self._by_stem[path.stem] = None if path.stem in self._by_stem else name
            self._by_image[str(path.with_suffix(""))] = name
            if path.parent.name == "Annotations":
                for folder in ("JPEGImages", "images"):
                    self._by_image[str(path.parent.parent / folder / path.stem)] = name
        self._image_stems = Counter(file.path.stem for file in _images(tree))

    def of_image(self, path: PurePosixPath) -> str | None:
        """Return the label file of an image; None when there is none or several could be meant."""
        exact = self._by_image.get(str(path.with_suffix("")))
        return exact or (self._by_stem.get(path.stem) if self._image_stems[path.stem] == 1 else None)


def _items(tree: SourceTree, splits: dict[str, Split], problems: Problems) -> Iterator[SourceImage]:
    label_files = _LabelFiles(tree)
    pictures = _object_masks(tree)
    used = set()
    difficult_count: Counter[str] = Counter()
    for file in _images(tree):
        name = label_files.of_image(file.path)
        labels = None
        if name is None:
            problems.add("image_without_labels", file.name, "no XML file of its name; kept as unlabelled")
        else:
            used.add(name)
            labels = _read_labels(
                tree, name, pictures.get(file.path.parent.parent / file.path.stem), difficult_count, problems
            )
        split = splits.get(file.path.stem) or splits.get(file.path.name) or split_of_path(file.path)
        yield SourceImage(file, labels=labels, published_split=split)
    for name in label_files.names:
        if name not in used:
            problems.add("labels_without_image", name, "there is no image of its name; left out")
    if difficult_count.total():
        # PASCAL's own evaluation passes such objects over; ours does not know of them.
        message = f"{difficult_count.total()} objects here and in other files are marked difficult; kept as any other"
        problems.add("difficult_objects", min(+difficult_count), message)


def _read_labels(
    tree: SourceTree, name: str, picture: SourceFile | None, difficult_count: Counter[str], problems: Problems
) -> ImageLabels | None:
    size_wh: tuple[int, int] | None = None
    boxes: list[RawBox] = []
    count = 0
    root: Element | None = None
    try:
        for event, element in xml_events(tree.path(name), name):
            root = element if root is None else root
            if event == "start":
                continue
            if element.tag == "size":
                size_wh = size_of(element.findtext("width"), element.findtext("height"))
            if element.tag == "object":
                count += 1
                box = _box(element, name, f"object {count}", problems)
                boxes += [box] if box else []
                difficult_count[name] += text_of(element, "difficult") == "1"
                element.clear()
    except XML_ERRORS as error:
        problems.add("unreadable_labels", name, f"not well-formed XML ({error}); its image counts as unlabelled")
        return None
    if root is None or root.tag != "annotation":
        found = "nothing" if root is None else f"<{root.tag[:80]}>"
        problems.add("unreadable_labels", name, f"expected <annotation>, found {found}; its image counts as unlabelled")
        return None
    has_faults = len(boxes) < count
    boxes = _with_masks(tree, picture, boxes, count, problems) if picture else boxes
    return ImageLabels(name, tuple(boxes), has_faults=has_faults, size_wh=size_wh)


def _box(element: Element, file: str, item: str, problems: Problems) -> RawBox | None:
    class_name = text_of(element, "name")
    if not class_name:
        problems.add("unknown_class", file, "the object has no <name>; dropped", item)
        return None
    corners = [number_of(element.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = corners
    if left is None or top is None or right is None or bottom is None:
        problems.add("malformed_box", file, "<bndbox> lacks one of xmin, ymin, xmax, ymax; dropped", item)
        return None
    return RawBox(class_name, (left, top, right, bottom), item)


def _published_splits(tree: SourceTree, problems: Problems) -> dict[str, Split]:
    """Return the split of each image name that `ImageSets/Main/*.txt` lists."""
    splits: dict[str, Split] = {}
    for file in tree.with_extension(".txt"):
        split = next((split for split in SPLITS if file.path.stem == split), None)
        if split is None or file.path.parent.parts[-2:] != ("ImageSets", "Main"):
            continue
        lines = tree.path(file.name).read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            image = line.strip()
            if image and splits.setdefault(image, split) != split:
                message = f"{image} is in {splits[image]} too; kept there"
                problems.add("two_published_splits", file.name, message, f"line {number}")
    return splits


FORMAT = SourceFormat(
    kind="images_voc",
    task="detection",
    expected="images (JPEGImages/) with a Pascal VOC XML file of the same name each (Annotations/, or beside them)",
    evidence=evidence,
    read=read,
)
