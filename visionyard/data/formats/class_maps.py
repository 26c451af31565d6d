"""Files that say what the numbers or colours in pictures of labels mean, as they are in real use.

| file | content |
| --- | --- |
| label_colors.txt (CamVid) | `64 128 64  Animal` a line |
| labelmap.txt (CVAT, Datumaro) | `background:0,0,0::` a line, `#` begins a comment |
| class_dict.csv, classes.csv, _classes.csv | a header with name (class, label), and r, g, b or id (index, value) |
| classes.txt, codes.txt | a name a line, in the order of the numbers |
| classes.json, label_classes.json | names; names to numbers or colours or back; or objects with name, id, color |
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from visionyard.data.class_masks import MAX_CLASS_COUNT
from visionyard.data.formats.label_pictures import MAX_LEVEL, Colour, colour_text
from visionyard.errors import DataError

MAX_MAP_BYTES = 1 << 20
_NAME_KEYS = ("name", "class_name", "classname", "class", "label", "title", "label_name", "category")
_NUMBER_KEYS = ("id", "index", "class_id", "label_id", "value", "pixel_value", "pixel", "png_index", "train_id")
_COLOUR_KEYS = ("color", "colour", "rgb", "hex")
_CAMVID_LINE = re.compile(r"^\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*?)\s*$")
_CVAT_LINE = re.compile(r"^([^:]+):\s*(?:(\d+)\s*,\s*(\d+)\s*,\s*(\d+))?\s*:[^:]*:[^:]*$")
_HEX = re.compile(r"^#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?$")


@dataclass(frozen=True)
class MapEntry:
    """A class in a class map file.

    Attributes:
        name: Of the class.
        number: Its grey level or palette index; None when the file does not say.
        colour: Its red, green and blue in [0, 255]; None when the file does not say.
    """

    name: str
    number: int | None = None
    colour: Colour | None = None


def parse_class_map(text: str, file: str) -> list[MapEntry]:
    """Read a class map file of one of the kinds above.

    Raises:
        DataError: It is of none of them, or a name, number or colour is missing, wrong or there twice; names the line.
    """
    extension = file.rpartition(".")[2].lower()
    parse = {"csv": _from_csv, "json": _from_json}.get(extension, _from_lines)
    return _checked(list(parse(text, file)), file)


def _checked(entries: list[MapEntry], file: str) -> list[MapEntry]:
    if not entries:
        raise DataError(f"{file}: holds no class; expected a name and a number or colour for each")
    if any(not entry.name for entry in entries):
        raise DataError(f"{file}: a class has an empty name; name it, or leave it out")
    if len({entry.number is None for entry in entries}) > 1 or len({entry.colour is None for entry in entries}) > 1:
        raise DataError(f"{file}: some classes have a number or colour, others have none; give each its own")
    for what, values in (
        ("number", [str(entry.number) for entry in entries if entry.number is not None]),
        ("colour", [colour_text(entry.colour) for entry in entries if entry.colour is not None]),
    ):
        value, count = Counter(values).most_common(1)[0] if values else ("", 0)
        if count > 1:
            names = ", ".join(repr(entry.name) for entry, each in zip(entries, values, strict=True) if each == value)
            raise DataError(f"{file}: the {what} {value} stands for {names}; give each class its own")
    if len({entry.name for entry in entries}) > MAX_CLASS_COUNT:
        raise DataError(f"{file}: names more than {MAX_CLASS_COUNT} classes, which eight bits a pixel cannot hold")
    return entries


def _from_lines(text: str, file: str) -> Iterable[MapEntry]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    for pattern, order in ((_CAMVID_LINE, (4, 1, 2, 3)), (_CVAT_LINE, (1, 2, 3, 4))):
        found = [pattern.match(line) for _, line in lines]
        if not any(found):
            continue
        for match, (number, line) in zip(found, lines, strict=True):
            if match is None:
                raise DataError(f"{file}: line {number} is {line.strip()[:60]!r}, unlike the others; expected the same")
            name, *channels = (match.group(place) for place in order)
            colour = None if channels[0] is None else _colour(channels, f"{file}: line {number}")
            yield MapEntry(name.strip(), colour=colour)
        return
    yield from (MapEntry(line.strip(), number=place) for place, (_, line) in enumerate(lines))


def _from_csv(text: str, file: str) -> Iterable[MapEntry]:
    try:
        reader = csv.reader(io.StringIO(text))
        rows = [(reader.line_num, cells) for row in reader if any(cells := [cell.strip() for cell in row])]
    except csv.Error as error:
        raise DataError(f"{file}: not valid CSV ({error})") from None
    header = [re.sub(r"\W+", "_", cell.lower()).strip("_") for cell in rows[0][1]] if rows else []
    if not set(header) & {*_NAME_KEYS}:
        raise DataError(f"{file}: line 1 is {','.join(header)[:60]!r}; expected a header such as name,r,g,b or id,name")
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{file}: line {number} has {len(row)} values, the header {len(header)}")
        yield _from_object(dict(zip(header, row, strict=True)), f"{file}: line {number}")


def _from_json(text: str, file: str) -> Iterable[MapEntry]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON ({error})") from None
    if isinstance(values, dict):
        inner = next((values[key] for key in ("classes", "labels", "categories", "names") if key in values), values)
        values = inner if isinstance(inner, dict | list) else values
    if isinstance(values, list):
        for place, value in enumerate(values):
            where = f"{file}: entry {place + 1}"
            yield MapEntry(value.strip(), number=place) if isinstance(value, str) else _from_object(value, where)
    elif isinstance(values, dict):
        yield from (_from_pair(key, value, f"{file}: {key[:40]!r}") for key, value in values.items())
    else:
        raise DataError(f"{file}: expected a list or an object of classes, got {str(values)[:40]!r}")


def _from_pair(key: str, value: Any, where: str) -> MapEntry:
    """Return the class of `"0": "road"`, `"road": 0`, `"road": [0, 0, 0]` or `"0": {"name": "road"}`."""
    if isinstance(value, str) and not _HEX.match(value):
        return MapEntry(value.strip(), number=_number(key, where))
    if isinstance(value, dict):
        numbered = {"id": key, **value} if key.isdecimal() else {"name": key, **value}
        return _from_object(numbered, where)
    if isinstance(value, int) and not isinstance(value, bool):
        return MapEntry(key.strip(), number=_number(value, where))
    return MapEntry(key.strip(), colour=_colour(value, where))


def _from_object(value: Any, where: str) -> MapEntry:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a name or an object with name, id or color, got {str(value)[:40]!r}")
    fields = {str(key).lower(): found for key, found in value.items()}
    name = next((fields[key] for key in _NAME_KEYS if key in fields), None)
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: expected a class name, got {str(name)[:40]!r}")
    number = next((fields[key] for key in _NUMBER_KEYS if key in fields), None)
    channels = next(
        ([fields[key] for key in keys] for keys in (("r", "g", "b"), ("red", "green", "blue")) if {*keys} <= {*fields}),
        None,
    )
    colour = channels or next((fields[key] for key in _COLOUR_KEYS if key in fields), None)
    return MapEntry(
        name.strip(),
        None if number is None else _number(number, where),
        None if colour is None else _colour(colour, where),
    )


def _number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,5}", str(value).strip()) or int(value) > MAX_LEVEL:
        raise DataError(f"{where}: expected a number from 0 to {MAX_LEVEL}, got {str(value)[:40]!r}")
    return int(value)


def _colour(value: Any, where: str) -> Colour:
    """Return the colour of three numbers, `#rrggbb` or `r,g,b`."""
    if isinstance(value, str):
        if match := _HEX.match(value.strip()):
            code = int(match.group(1), 16)
            return code >> 16, code >> 8 & 255, code & 255
        value = re.split(r"[\s,]+", value.strip("()[] "))
    channels = [str(channel).strip() for channel in value] if isinstance(value, list | tuple) else []
    if len(channels) not in {3, 4} or not all(re.fullmatch(r"\d{1,3}", each) and int(each) < 256 for each in channels):
        found = str(value)[:40]
        raise DataError(f"{where}: expected a colour as three numbers from 0 to 255 or #rrggbb, got {found!r}")
    red, green, blue = (int(channel) for channel in channels[:3])
    return red, green, blue
