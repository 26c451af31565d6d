"""Class names in a text file beside data that only has their numbers."""

import re
from collections import Counter
from collections.abc import Iterable

from visionyard.data.formats.source_tree import SourceTree
from visionyard.errors import DataError

_MAX_NAMES_BYTES = 4 << 20
_NUMBERED = re.compile(r"^(\d+)\s*:\s*(.+)$")
_LABEL_MAP_ITEM = re.compile(r"item\s*\{([^{}]*)\}")
_LABEL_MAP_FIELD = re.compile(r"""(?m)\b(id|name|display_name)\s*:\s*(?:(\d+)|"([^"\n]*)"|'([^'\n]*)')""")


def find_class_names(tree: SourceTree, pattern: re.Pattern[str]) -> tuple[str, dict[int, str]] | None:
    """Return the file of class names nearest to the top of a source, and its names by their numbers.

    Args:
        tree: The source.
        pattern: Which file names (without folder) hold class names.

    Raises:
        DataError: The file is not usable; names file and line.
    """
    found = [file for file in tree.files if pattern.search(file.path.name)]
    if not found:
        return None
    file = min(found, key=lambda each: (each.name.count("/"), each.name))
    if file.size > _MAX_NAMES_BYTES:
        raise DataError(f"{file.name}: {file.size} bytes, expected class names in at most {_MAX_NAMES_BYTES}")
    try:
        text = tree.path(file.name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name}: not UTF-8 text ({error}); expected a class name a line") from None
    names = _label_map(text, file.name) if file.path.suffix == ".pbtxt" else _lines(text)
    if not names:
        raise DataError(f"{file.name}: holds no class names; expected one a line, or delete the file")
    check_names(names.values(), file.name)
    return file.name, names


def _lines(text: str) -> dict[int, str]:
    """Return the names of a file with one a line, or with `0:daisy` lines."""
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.match(line) for line in lines]
    if lines and all(numbered):
        return {int(match[1]): match[2].strip() for match in numbered if match}
    return dict(enumerate(lines))


def _label_map(text: str, file: str) -> dict[int, str]:
    """Return the names of a label map: `item { id: 1 name: 'cat' }`; `display_name` wins, as in TensorFlow's tools.

    Source: object_detection/protos/string_int_label_map.proto of tensorflow/models.
    """
    without_comments = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    names: dict[int, str] = {}
    for number, item in enumerate(_LABEL_MAP_ITEM.finditer(without_comments), start=1):
        fields = {found[1]: found[2] or found[3] or found[4] or "" for found in _LABEL_MAP_FIELD.finditer(item[1])}
        name = fields.get("display_name") or fields.get("name")
        if not name or not fields.get("id", "").isdigit():
            raise DataError(f"{file}: item {number} lacks a name or a number; expected item {{ id: 1 name: 'cat' }}")
        if int(fields["id"]) in names:
            raise DataError(f"{file}: item {number} has the id {fields['id']} of another item; give each its own")
        names[int(fields["id"])] = name
    return names


def check_names(names: Iterable[str], file: str) -> None:
    """Refuse class names of which one is empty or stands there twice.

    Raises:
        DataError: One does; names it and the file.
    """
    repeated = sorted(text for text, count in Counter(names).items() if not text or count > 1)
    if repeated:
        raise DataError(f"{file}: the class name {repeated[0]!r} is empty or stands there twice; give each its own")
