"""What a YOLO source says of itself: its class names, splits and kinds of labels, from a YAML or Darknet's files.

The names come from the YAML's `names` (a list, or numbers to names), else from `classes.txt` or `obj.names`. `train`,
`val` and `test` name folders, or text files that list images; they are looked for in the source itself, since exports
often write `../train/images`, which leads nowhere. CVAT and Darknet write them into `obj.data` beside `obj.names`.

Source: Ultralytics documentation, dataset formats detect, segment, obb and pose; Darknet, `obj.data`.
"""

import re
import reprlib
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any

import yaml

from visionyard.data.formats.class_names import check_names
from visionyard.data.formats.image_lookup import ImageLookup, NotFound
from visionyard.data.formats.reading import split_of_path
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems, Split
from visionyard.errors import DataError

NAME_LISTS = {"classes.txt", "obj.names"}
# 10,000 names; the time to read what is no such list grows with it.
MAX_SETTINGS_BYTES = 256 << 10
# Of a path, beyond what any system takes; each beginning is tried.
_MOST_FOLDERS = 100
_SPLIT_KEYS: tuple[tuple[str, Split], ...] = (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test"))
_BRACKETS = re.compile(r"[\[\]{}]")
_MOST_NESTED = 50


class _TextLoader(yaml.SafeLoader):
    """Takes every value as the text it is: a class named `no` or `1.0` is no bool and no number."""


_TextLoader.yaml_implicit_resolvers = {}


@dataclass
class PublishedSplits:
    """The split that the settings give to folders and to single images."""

    folders: dict[str, Split] = field(default_factory=dict)
    images: dict[str, Split] = field(default_factory=dict)

    def of(self, path: PurePosixPath) -> Split | None:
        """Return an image's split, by itself, else by the nearest folder named, else by its folder's own name."""
        named = (self.folders.get(str(parent)) for parent in path.parents)
        by_folder = next((split for split in named if split is not None), None)
        return self.images.get(str(path)) or by_folder or split_of_path(path)


@dataclass(frozen=True)
class YoloSettings:
    """The settings of a source.

    Attributes:
        file: Where they stand.
        classes: Names in the order of the class numbers.
        keypoint_values: Numbers behind the box of each line; 0 where there are no key points.
        is_oriented: Whether eight numbers are an oriented box rather than an outline of four points.
    """

    file: str
    classes: list[str]
    keypoint_values: int
    is_oriented: bool


def settings_file(tree: SourceTree) -> str | None:
    """Return the file with the class names: the one nearest to the top, `data.yaml` before others."""
    names = [file.name for file in tree.files if file.path.name in NAME_LISTS]
    yamls = [file.name for file in tree.with_extension(".yaml", ".yml") if file.size <= MAX_SETTINGS_BYTES]
    with_names = [name for name in yamls if _has_names(tree, name)]
    order = [(name.count("/"), not name.endswith(("data.yaml", "data.yml")), name) for name in with_names]
    if order:
        return min(order)[2]
    return min(((name.count("/"), name) for name in names), default=(0, None))[1]


def read_settings(tree: SourceTree, name: str, problems: Problems) -> tuple[YoloSettings, PublishedSplits]:
    """Read the settings.

    Raises:
        DataError: There are no usable class names, or another value is not what it must be.
    """
    values = _load(tree, name)
    classes = _class_names(values, name)
    if str(values.get("nc", "")).isdecimal() and str(values["nc"]) != str(len(classes)):
        message = f"nc is {str(values['nc'])[:20]}, names has {len(classes)}; names is taken"
        problems.add("class_count_differs", name, message)
    settings = YoloSettings(name, classes, _keypoint_values(values, name), values.get("task") == "obb")
    return settings, _published_splits(tree, values, name, problems)


def _has_names(tree: SourceTree, name: str) -> bool:
    try:
        # Most YAML files are of something else: seen without parsing them.
        return b"names" in tree.path(name).read_bytes() and "names" in _load(tree, name)
    except DataError:
        return PurePosixPath(name).name in {"data.yaml", "data.yml"}  # meant to be one: its fault is to be told


def _load(tree: SourceTree, name: str) -> dict[str, Any]:
    path = tree.path(name)
    if (size := path.stat().st_size) > MAX_SETTINGS_BYTES:
        raise DataError(f"{name}: it has {size} bytes, expected {MAX_SETTINGS_BYTES} at most for class names")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.name in NAME_LISTS:
            return {**_darknet(tree, name), "names": [line.strip() for line in text.splitlines() if line.strip()]}
        _check_nesting(text)
        values = yaml.load(text, _TextLoader)  # noqa: S506  # it is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: not valid YAML ({reason}); expected a line such as names: [cone, cube]") from None
    return values if isinstance(values, dict) else {}


def _check_nesting(text: str) -> None:
    """Refuse brackets in brackets without end, over which the parser would take seconds before it gives up."""
    depths = accumulate(1 if each in "[{" else -1 for each in _BRACKETS.findall(text))
    if max(depths, default=0) > _MOST_NESTED:
        raise ValueError(f"brackets stand more than {_MOST_NESTED} deep in one another")


def _darknet(tree: SourceTree, name: str) -> dict[str, str]:
    """Return the lines `key = value` of the `.data` file beside a list of names."""
    beside = PurePosixPath(name).with_suffix(".data")
    if str(beside) not in tree:
        return {}
    lines = tree.path(str(beside)).read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _class_names(values: dict[str, Any], name: str) -> list[str]:
    names = values.get("names")
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            found = ", ".join(sorted(map(_shown, names)))[:80]
            raise DataError(f"{name}: names has the numbers {found}, expected 0 to {len(names) - 1}")
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(value, str) for value in names):
        raise DataError(f"{name}: expected names as a list or as numbers to names, got {_shown(names)}")
    texts = [value.strip() for value in names]
    check_names(texts, name)
    return texts


def _keypoint_values(values: dict[str, Any], name: str) -> int:
    if "kpt_shape" not in values:
        return 0
    shape = values["kpt_shape"]
    numbers = [int(each) for each in shape if str(each).isdecimal()] if isinstance(shape, list) else []
    if len(numbers) != 2 or numbers[1] not in {2, 3} or not 0 < numbers[0] <= 10_000:
        raise DataError(f"{name}: kpt_shape is {_shown(shape)}, expected how many points and 2 or 3, such as [17, 3]")
    return numbers[0] * numbers[1]


def _published_splits(tree: SourceTree, values: dict[str, Any], name: str, problems: Problems) -> PublishedSplits:
    found = PublishedSplits()
    base = PurePosixPath(name).parent
    root = values["path"] if isinstance(values.get("path"), str) else ""
    lookup: ImageLookup | None = None
    for key, split in _SPLIT_KEYS:
        named = values.get(key)
        for value in named if isinstance(named, list) else [named]:
            if not isinstance(value, str) or not value.strip() or value == "null":
                continue
            place = _find(tree, base, root, value)
            if place is None:
                message = f"{value[:120]} is no folder or list of the source; passed over"
                problems.add("split_not_found", name, message, key)
            elif tree.has_folder(place):
                if found.folders.setdefault(place, split) != split:
                    message = f"{key}: {place} is that of {found.folders[place]}, too; kept there"
                    problems.add("two_published_splits", name, message, key)
            else:
                lookup = lookup or ImageLookup(tree)
                _read_list(tree, place, split, lookup, found, problems)
    return found


def _find(tree: SourceTree, base: PurePosixPath, root: str, value: str) -> str | None:
    """Return the folder or list that a path means: as written, or without what leads astray at its start."""
    parts = [
        part
        for text in (root, value)
        for part in PurePosixPath(text.replace("\\", "/")).parts
        if part not in {"..", ".", "/"}
    ]
    parts = parts[-_MOST_FOLDERS:]
    candidates = (str(root.joinpath(*parts[start:])) for start in range(len(parts)) for root in (base, PurePosixPath()))
    return next((each for each in candidates if tree.has_folder(each) or _is_list(tree, each)), None)


def _is_list(tree: SourceTree, name: str) -> bool:
    return name.lower().endswith(".txt") and name in tree


def _read_list(
    tree: SourceTree, name: str, split: Split, lookup: ImageLookup, found: PublishedSplits, problems: Problems
) -> None:
    """Give a split to the images that a text file lists, a path a line."""
    lines = tree.path(name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    references = {line.strip(): number for number, line in enumerate(lines, start=1) if line.strip()}
    images: list[SourceFile | NotFound] = lookup.resolve(list(references), beside=PurePosixPath(name).parent)
    for number, image in zip(references.values(), images):
        if isinstance(image, NotFound):
            problems.add(image.code, name, f"{image.message}; passed over", f"line {number}")
        elif found.images.setdefault(image.name, split) != split:
            message = f"{image.name} is in {found.images[image.name]} too; kept there"
            problems.add("two_published_splits", name, message, f"line {number}")


def _shown(value: Any) -> str:
    """Return the beginning of a value, however deep what YAML calls it by alias is."""
    return reprlib.repr(value)[:80]
