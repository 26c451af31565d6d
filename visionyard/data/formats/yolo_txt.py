"""YOLO txt: a text file for each image, a line an object: its class, then shares of the image's width and height.

A line is `class cx cy w h`, or a class and the outline of an object, x y x y ... of three points or more, which
becomes its mask. With `kpt_shape` in the YAML key points follow the box; they are left out. An oriented box, four
corners, looks like an outline of four points and is taken for one, unless the YAML says `task: obb`: then it is the box
around them.

Layouts: `{train,valid,test}/images` beside `labels`, `images/{train,val}` beside `labels/{train,val}`, and image and
text side by side.

Source: Ultralytics documentation, dataset formats detect, segment, obb and pose.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from visionyard.data.formats.reading import ImageLabels, RawBox, Reading, SourceFormat, SourceImage
from visionyard.data.formats.shapes import around_points
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.formats.xml_reading import number_of
from visionyard.data.formats.yolo_settings import (
    MAX_SETTINGS_BYTES,
    NAME_LISTS,
    PublishedSplits,
    YoloSettings,
    read_settings,
    settings_file,
)
from visionyard.data.items import Problems
from visionyard.errors import DataError

# A line of an outline of 1,000 points has 20 kB; more than this is no label file.
_MAX_LABEL_BYTES = 64 << 20
_CORNER_VALUES = 8


def evidence(tree: SourceTree) -> str:
    """Return what shows a YOLO source: class names and text files in a `labels` folder or beside images."""
    labels = _label_files(tree)
    if not labels or not tree.images():
        return ""
    settings = settings_file(tree)
    return f"{len(labels)} label files such as {labels[0]}, {len(tree.images())} images, " + (
        f"names in {settings}" if settings else "no file with class names"
    )


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a YOLO source.

    Raises:
        DataError: There are no class names, or the settings are not usable.
    """
    name = settings_file(tree)
    if name is None:
        raise DataError(
            f"{tree.label}: no data.yaml with class names found, of {MAX_SETTINGS_BYTES} bytes at most; add one with a "
            "line such as names: [cone, cube], in the order of the class numbers"
        )
    settings, splits = read_settings(tree, name, problems)
    return Reading(len(tree.images()), images=_items(tree, settings, splits, problems), classes=settings.classes)


def _label_name(tree: SourceTree, image: SourceFile) -> str | None:
    """Return the label file of an image: under `labels` in place of the last `images` of its path, or beside it."""
    path = image.path.with_suffix(".txt")
    folders = list(path.parts[:-1])
    if "images" in folders:
        at = len(folders) - 1 - folders[::-1].index("images")
        swapped = str(PurePosixPath(*folders[:at], "labels", *folders[at + 1 :], path.name))
        if swapped in tree:
            return swapped
    return str(path) if str(path) in tree else None


def _label_files(tree: SourceTree) -> list[str]:
    stems = {str(file.path.with_suffix("")) for file in tree.images()}
    texts = [file for file in tree.with_extension(".txt") if file.path.name not in NAME_LISTS]
    return [file.name for file in texts if "labels" in file.path.parts or str(file.path.with_suffix("")) in stems]


def _items(
    tree: SourceTree, settings: YoloSettings, splits: PublishedSplits, problems: Problems
) -> Iterator[SourceImage]:
    used = set()
    kinds: Counter[str] = Counter()
    for file in tree.images():
        name = _label_name(tree, file)
        labels = None
        if name is None:
            problems.add("image_without_labels", file.name, "no text file of its name; kept as unlabelled")
        else:
            used.add(name)
            labels = _read_labels(tree, name, settings, kinds, problems)
        yield SourceImage(file, labels=labels, published_split=splits.of(file.path))
    for name in _label_files(tree):
        if name not in used:
            problems.add("labels_without_image", name, "there is no image of its name; left out")
    _tell_kinds(settings, kinds, problems)


def _tell_kinds(settings: YoloSettings, kinds: Counter[str], problems: Problems) -> None:
    """Say once for the source what of its lines was not kept, or may be meant otherwise."""
    if kinds["keypoints"]:
        message = f"the key points of {kinds['keypoints']} objects are left out; their boxes are kept"
        problems.add("shape_not_supported", settings.file, message, "kpt_shape")
    if kinds["oriented"]:
        message = f"{kinds['oriented']} oriented boxes: the upright box around each is taken"
        problems.add("rotated_box", settings.file, message, "task")
    if kinds["corners"] and kinds["corners"] == kinds["outlines"]:
        message = (
            f"all {kinds['corners']} outlines have four points and are taken as such; if they are oriented boxes, add "
            "the line task: obb"
        )
        problems.add("maybe_oriented_boxes", settings.file, message)


def _read_labels(
    tree: SourceTree, name: str, settings: YoloSettings, kinds: Counter[str], problems: Problems
) -> ImageLabels | None:
    path = tree.path(name)
    try:
        if path.stat().st_size > _MAX_LABEL_BYTES:
            raise ValueError(f"longer than {_MAX_LABEL_BYTES} bytes")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.add("unreadable_labels", name, "not UTF-8 text; its image counts as unlabelled")
        return None
    except ValueError as error:
        problems.add("unreadable_labels", name, f"{error}; its image counts as unlabelled")
        return None
    boxes = []
    has_faults = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        box = _parse_line(line, f"line {number}", name, settings, kinds, problems)
        has_faults = has_faults or box is None
        boxes += [box] if box else []
    return ImageLabels(name, tuple(boxes), has_faults=has_faults, is_normalized=True)


def _parse_line(
    line: str, item: str, file: str, settings: YoloSettings, kinds: Counter[str], problems: Problems
) -> RawBox | None:
    class_text, *rest = line.split()
    numbers = [number_of(text) for text in rest]
    values = tuple(value for value in numbers if value is not None)
    kind = _kind(len(values), settings) if len(values) == len(numbers) else ""
    if not kind:
        shown = line.strip()[:60]
        wanted = (
            f"and {settings.keypoint_values} numbers of key points" if settings.keypoint_values else "or an outline"
        )
        message = f"expected 'class cx cy w h' {wanted}, got {len(rest)} values in {shown!r}; dropped"
        problems.add("malformed_line", file, message, item)
        return None
    classes = settings.classes
    class_id = number_of(class_text)
    if class_id is None or not class_id.is_integer() or not 0 <= class_id < len(classes):
        message = f"class {class_text[:20]!r} is none of 0 to {len(classes) - 1}; dropped"
        problems.add("unknown_class", file, message, item)
        return None
    kinds[kind] += 1
    class_name = classes[int(class_id)]
    if kind in {"box", "keypoints"}:
        centre_x, centre_y, width, height = values[:4]
        corners = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
        return RawBox(class_name, corners, item)
    around = around_points(values)
    if around is None:
        problems.add("box_not_a_number", file, "a point of the outline is not a number; dropped", item)
        return None
    kinds["corners"] += len(values) == _CORNER_VALUES
    return RawBox(class_name, around, item, polygons=(values,) if kind == "outlines" else ())


def _kind(value_count: int, settings: YoloSettings) -> str:
    """Return what a line with so many numbers behind its class is; empty when it is nothing."""
    if settings.keypoint_values:
        return {4: "box", 4 + settings.keypoint_values: "keypoints"}.get(value_count, "")
    if settings.is_oriented:
        return {4: "box", _CORNER_VALUES: "oriented"}.get(value_count, "")
    if value_count == 4:
        return "box"
    return "outlines" if value_count >= 6 and value_count % 2 == 0 else ""


FORMAT = SourceFormat(
    kind="images_yolo",
    task="detection",
    expected="images with a YOLO text file of the same name each (labels/ beside images/) and a data.yaml with names",
    evidence=evidence,
    read=read,
)
