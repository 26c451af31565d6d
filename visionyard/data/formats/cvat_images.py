"""CVAT for images 1.1: XML with boxes, polygons and masks for each image, or tags that say what an image shows.

A file is read twice, an image's shapes at a time: first for the names of the images, and whether anything but tags is
in it, then for the shapes. Images come in the order in which the files list them, then those that none lists. One that
is listed without a shape is one where nothing is. Polylines, points and skeletons have no inside and are left out; of
ellipses and cuboids the box around them is taken. Tags are classes of images where a source has nothing but tags.

Source: CVAT documentation, XML annotation format, version 1.1, annotation mode.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from visionyard.data.formats.cvat_xml import (
    BOXED_SHAPES,
    OTHER_SHAPES,
    Labels,
    first_of_mode,
    mode_of,
    read_shape,
    refuse_mode,
)
from visionyard.data.formats.image_lookup import Claims, ImageLookup, NotFound
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
from visionyard.data.formats.xml_reading import XML_ERRORS, size_of, xml_events
from visionyard.data.items import Problems, Split
from visionyard.errors import DataError


@dataclass
class _File:
    """What the first reading of a file tells.

    Attributes:
        name: Path within the source.
        labels: Those it declares.
        references: Names of its images, in their order.
        subsets: For each the subset that it is of; empty when it is of none.
        tagged_count: Images with tags.
        drawn_count: Images with shapes.
        images: For each of its images the one of the source; None where there is none, or another file labels it.
    """

    name: str
    labels: Labels = field(default_factory=Labels)
    references: list[str] = field(default_factory=list)
    subsets: list[str] = field(default_factory=list)
    tagged_count: int = 0
    drawn_count: int = 0
    images: list[SourceFile | None] = field(default_factory=list)


def evidence(tree: SourceTree) -> str:
    """Return what shows such a source: an XML file of CVAT with images, or with tracks but no clip, and images."""
    images = tree.images()
    if not images:
        return ""
    found = first_of_mode(tree, "images")
    if found:
        return f"{found} with CVAT's <annotations> of images, {len(images)} images"
    found = "" if tree.clips() else first_of_mode(tree, "video")
    return f"{found} with CVAT's <annotations> of tracks, {len(images)} images, no clips" if found else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read images with CVAT XML.

    Raises:
        DataError: There is no XML of CVAT, or a file is CVAT for video.
    """
    files = []
    for source in tree.with_extension(".xml"):
        mode = mode_of(tree, source.name)
        if mode == "video":
            raise refuse_mode(source.name, mode)
        survey = _survey(tree, source.name, problems) if mode else None
        files += [survey] if survey else []
    if not files:
        count = len(tree.with_extension(".xml"))
        raise DataError(f"{tree.label}: none of {count} XML files is CVAT's; expected <annotations> with <image>")
    _resolve(tree, files, problems)
    has_shapes = any(file.drawn_count for file in files)
    is_tagged = not has_shapes and any(file.tagged_count for file in files)
    for file in files:
        if has_shapes and file.tagged_count:
            message = f"the tags of {file.tagged_count} images are left out: the source is read for its shapes"
            problems.add("tag_left_out", file.name, message)
    images = _items(tree, files, problems, is_tagged=is_tagged)
    return Reading(len(tree.images()), images=images, task="classification" if is_tagged else "detection")


def _survey(tree: SourceTree, name: str, problems: Problems) -> _File | None:
    file = _File(name)
    try:
        for element, root in _elements(tree, name):
            if element.tag == "meta":
                file.labels = Labels.of(element)
            if element.tag == "image":
                file.references.append(element.get("name") or "")
                file.subsets.append((element.get("subset") or "").strip())
                tags = {child.tag for child in element}
                file.tagged_count += "tag" in tags
                file.drawn_count += bool(tags & (BOXED_SHAPES | OTHER_SHAPES))
                root.clear()
    except XML_ERRORS as error:
        problems.add("unreadable_labels", name, f"not well-formed XML ({error}); its images count as unlabelled")
        return None
    return file


def _elements(tree: SourceTree, name: str) -> Iterator[tuple[Element, Element]]:
    """Yield each whole element with the outermost one, from which what is done with can be taken out."""
    root: Element | None = None
    for event, element in xml_events(tree.path(name), name):
        root = element if root is None else root
        if event == "end":
            yield element, root


def _resolve(tree: SourceTree, files: list[_File], problems: Problems) -> None:
    lookup, claims = ImageLookup(tree), Claims(problems)
    for file in files:
        beside = PurePosixPath(file.name).parent
        splits = [split_of_folder(subset) for subset in file.subsets]
        found = lookup.resolve(file.references, beside=beside, split=splits)
        # The export of a project puts the images of each subset into a folder of its own.
        in_subsets = [f"{subset}/{name}" for subset, name in zip(file.subsets, file.references)]
        again = lookup.resolve(in_subsets, beside=beside, split=splits)
        for number, (plain, in_subset) in enumerate(zip(found, again), start=1):
            image = plain if isinstance(in_subset, NotFound) else in_subset
            file.images.append(claims.take(image, file.name, f"image {number}"))


def _items(tree: SourceTree, files: list[_File], problems: Problems, *, is_tagged: bool) -> Iterator[SourceImage]:
    seen = set()
    for file in files:
        number = 0
        for element, root in _elements(tree, file.name):
            if element.tag != "image":
                continue
            image, subset = file.images[number], file.subsets[number]
            number += 1
            if image is not None:
                seen.add(image.name)
                split = split_of_folder(subset) or split_of_path(image.path)
                yield _image(element, image, split, file, problems, is_tagged=is_tagged)
            root.clear()
    for image in tree.images():
        if image.name not in seen:
            yield unlabelled(image, "no CVAT file lists it", problems)


def _image(
    element: Element, image: SourceFile, split: Split | None, file: _File, problems: Problems, *, is_tagged: bool
) -> SourceImage:
    if is_tagged:
        return SourceImage(image, class_name=_tag(element, image, file, problems), published_split=split)
    size_wh = size_of(element.get("width"), element.get("height"))
    boxes: list[RawBox] = []
    shapes = [child for child in element if child.tag in BOXED_SHAPES | OTHER_SHAPES]
    for number, shape in enumerate(shapes, start=1):
        item = f"{image.path.name}, shape {number}"
        if shape.tag in OTHER_SHAPES:
            problems.add("shape_not_supported", file.name, f"<{shape.tag}> has no inside; dropped", item)
            continue
        class_name = file.labels.checked(shape, item, file.name, problems)
        box = read_shape(shape, class_name, item, file.name, size_wh, problems) if class_name else None
        boxes += [box] if box else []
    labels = ImageLabels(file.name, tuple(boxes), has_faults=len(boxes) < len(shapes), size_wh=size_wh)
    return SourceImage(image, labels=labels, published_split=split)


def _tag(element: Element, image: SourceFile, file: _File, problems: Problems) -> str | None:
    tags = [file.labels.checked(tag, image.path.name, file.name, problems) for tag in element.iter("tag")]
    names = sorted({tag for tag in tags if tag})
    if len(names) > 1:
        message = f"it has the tags {', '.join(names[:5])}, expected one; kept as unlabelled"
        problems.add("several_classes", file.name, message, image.path.name)
    return names[0] if len(names) == 1 else None


FORMAT = SourceFormat(
    kind="images_cvat",
    task="detection",
    expected="images with a CVAT-for-images 1.1 XML file (annotations.xml)",
    evidence=evidence,
    read=read,
)
