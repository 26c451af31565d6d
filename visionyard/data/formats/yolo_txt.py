"""YOLO txt: a text file for each image, `class cx cy w h` a line as shares of width and height; class names in a YAML.

Layouts: `{train,valid,test}/images` beside `labels`, `images/{train,val}` beside `labels/{train,val}`, and image and
text side by side. The names come from the YAML's `names` (a list, or numbers to names), else from `classes.txt` or
`obj.names`. Its `train`, `val` and `test` paths are looked for in the source itself: exports often write
`../train/images`, which leads nowhere. A line of a class and a polygon counts as the box around it.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from visionyard.data.formats.reading import ImageLabels, RawBox, Reading, SourceFormat, SourceImage, split_of_path
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.formats.xml_reading import number_of
from visionyard.data.items import Problems, Split
from visionyard.errors import DataError

_MAX_YAML_BYTES = 1 << 20
_NAME_LISTS = {"classes.txt", "obj.names"}
_SPLIT_KEYS: tuple[tuple[str, Split], ...] = (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test"))


def evidence(tree: SourceTree) -> str:
    """Return what shows a YOLO source: class names and text files in a `labels` folder or beside images."""
    settings = _settings_file(tree)
    labels = _label_files(tree)
    if not labels or not tree.images():
        return ""
    return f"{len(labels)} label files such as {labels[0]}, {len(tree.images())} images, " + (
        f"names in {settings}" if settings else "no file with class names"
    )


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a YOLO source.

    Raises:
        DataError: There are no class names, or they are not usable.
    """
    name = _settings_file(tree)
    if name is None:
        raise DataError(
            f"{tree.label}: no data.yaml with class names found; add one with a line such as names: [cone, cube], in "
            "the order of the class numbers"
        )
    settings = _load_settings(tree, name)
    classes = _class_names(settings, name)
    if isinstance(settings.get("nc"), int) and settings["nc"] != len(classes):
        problems.add("class_count_differs", name, f"nc is {settings['nc']}, names has {len(classes)}; names is taken")
    folders = _split_folders(tree, settings, name, problems)
    return Reading(len(tree.images()), images=_items(tree, classes, folders, problems), classes=classes)


def _settings_file(tree: SourceTree) -> str | None:
    """Return the file with the class names: the one nearest to the top, `data.yaml` before others."""
    names = [file.name for file in tree.files if file.path.name in _NAME_LISTS]
    yamls = [file.name for file in tree.with_extension(".yaml", ".yml") if file.size <= _MAX_YAML_BYTES]
    with_names = [name for name in yamls if _has_names(tree, name)]
    order = [(_depth(name), not name.endswith(("data.yaml", "data.yml")), name) for name in with_names]
    if order:
        return min(order)[2]
    return min(((_depth(name), name) for name in names), default=(0, None))[1]


def _depth(name: str) -> int:
    return name.count("/")


def _has_names(tree: SourceTree, name: str) -> bool:
    try:
        return "names" in _load_settings(tree, name)
    except DataError:
        return PurePosixPath(name).name in {"data.yaml", "data.yml"}  # meant to be one: its fault is to be told


def _load_settings(tree: SourceTree, name: str) -> dict[str, Any]:
    path = tree.path(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.name in _NAME_LISTS:
            return {"names": [line.strip() for line in text.splitlines() if line.strip()]}
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: not valid YAML ({reason}); expected a line such as names: [cone, cube]") from None
    return values if isinstance(values, dict) else {}


def _class_names(settings: dict[str, Any], name: str) -> list[str]:
    names = settings.get("names")
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise DataError(f"{name}: names has the numbers {sorted(names, key=str)}, expected 0 to {len(names) - 1}")
        by_number = {int(number): value for number, value in names.items()}
        names = [by_number[number] for number in range(len(by_number))]
    if not isinstance(names, list) or not names or not all(isinstance(value, str | int | float) for value in names):
        raise DataError(f"{name}: expected names as a list or as numbers to names, got {str(names)[:80]!r}")
    texts = [str(value).strip() for value in names]
    repeated = sorted({text for text in texts if texts.count(text) > 1 or not text})
    if repeated:
        raise DataError(f"{name}: the class name {repeated[0]!r} is empty or stands there twice; give each its own")
    return texts


def _split_folders(tree: SourceTree, settings: dict[str, Any], name: str, problems: Problems) -> dict[str, Split]:
    """Return the split of each folder that the YAML names, as far as they are in the source."""
    found: dict[str, Split] = {}
    base = PurePosixPath(name).parent
    for key, split in _SPLIT_KEYS:
        values = settings.get(key)
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or not value.strip():
                continue
            folder = _find_folder(tree, base, value)
            if folder is not None:
                found.setdefault(folder, split)
            else:
                problems.add("split_not_found", name, f"{key}: {value} is no folder of the source; passed over", key)
    return found


def _find_folder(tree: SourceTree, base: PurePosixPath, value: str) -> str | None:
    """Return the folder of the source that a path means: as written, or without what leads astray at its start."""
    parts = [part for part in PurePosixPath(value.replace("\\", "/")).parts if part not in {"..", ".", "/"}]
    candidates = (str(root.joinpath(*parts[start:])) for start in range(len(parts)) for root in (base, PurePosixPath()))
    return next((folder for folder in candidates if tree.has_folder(folder)), None)


def _split_of(path: PurePosixPath, folders: dict[str, Split]) -> Split | None:
    named = (folders.get(str(parent)) for parent in path.parents)
    return next((split for split in named if split is not None), None) or split_of_path(path)


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
    texts = [file for file in tree.with_extension(".txt") if file.path.name not in _NAME_LISTS]
    return [file.name for file in texts if "labels" in file.path.parts or str(file.path.with_suffix("")) in stems]


def _items(
    tree: SourceTree, classes: list[str], folders: dict[str, Split], problems: Problems
) -> Iterator[SourceImage]:
    used = set()
    for file in tree.images():
        name = _label_name(tree, file)
        labels = None
        if name is None:
            problems.add("image_without_labels", file.name, "no text file of its name; kept as unlabelled")
        else:
            used.add(name)
            labels = _read_labels(tree, name, classes, problems)
        yield SourceImage(file, labels=labels, published_split=_split_of(file.path, folders))
    for name in _label_files(tree):
        if name not in used:
            problems.add("labels_without_image", name, "there is no image of its name; left out")


def _read_labels(tree: SourceTree, name: str, classes: list[str], problems: Problems) -> ImageLabels | None:
    try:
        lines = tree.path(name).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.add("unreadable_labels", name, "not UTF-8 text; its image counts as unlabelled")
        return None
    boxes = []
    has_faults = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        box = _parse_line(line, f"line {number}", name, classes, problems)
        has_faults = has_faults or box is None
        boxes += [box] if box else []
    return ImageLabels(name, tuple(boxes), has_faults=has_faults, is_normalized=True)


def _parse_line(line: str, item: str, file: str, classes: list[str], problems: Problems) -> RawBox | None:
    class_text, *rest = line.split()
    numbers = [number_of(text) for text in rest]
    values = [value for value in numbers if value is not None]
    is_polygon = len(values) >= 6 and len(values) % 2 == 0
    if len(values) != len(numbers) or not (len(values) == 4 or is_polygon):
        shown = line.strip()[:60]
        problems.add("malformed_line", file, f"expected 'class cx cy w h', got {shown!r}; dropped", item)
        return None
    class_id = number_of(class_text)
    if class_id is None or not class_id.is_integer() or not 0 <= class_id < len(classes):
        message = f"class {class_text[:20]!r} is none of 0 to {len(classes) - 1}; dropped"
        problems.add("unknown_class", file, message, item)
        return None
    if is_polygon:
        problems.add(
            "polygon_as_box", file, f"a polygon of {len(values) // 2} points; the box around it is taken", item
        )
        xs, ys = values[0::2], values[1::2]
        return RawBox(classes[int(class_id)], (min(xs), min(ys), max(xs), max(ys)), item)
    centre_x, centre_y, width, height = values
    corners = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
    return RawBox(classes[int(class_id)], corners, item)


FORMAT = SourceFormat(
    kind="images_yolo",
    task="detection",
    expected="images with a YOLO text file of the same name each (labels/ beside images/) and a data.yaml with names",
    evidence=evidence,
    read=read,
)
