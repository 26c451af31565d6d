"""Splits that a person gives in a CSV file (`data.split_file`): a name and a split in each row.

```
name,split
street-1.mp4,train
night/002.jpg,test
```

A name is that of an item (its key in a dataset version), of a clip or image (its path in the source, or as much of the
end of the path as no other has), or of a group. Where several rows hold for one item, the closest wins: its own row
over that of its clip, that over its group's. What no row names is drawn around the rest.

The file is followed to the letter, also where it puts images of one group, or images that show the same, into two
splits: a problem says so, the leak certificate counts it, and training wants `data.allow_leak: true`.
"""

import csv
import difflib
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Protocol

from visionyard import storage
from visionyard.data.dataset import Dataset
from visionyard.data.delimited import read_rows, text_layout
from visionyard.data.formats.reading import split_of_folder
from visionyard.data.items import SPLITS, Problems, Split
from visionyard.digests import sha256_file
from visionyard.errors import ConfigError, DataError, SplitError

_SPLIT_HEADERS = ("split", "subset", "set", "partition")
_NAME_HEADERS = ("name", "item", "key", "clip", "group", "video", "image", "path", "file", "filename", "source", "id")
_LISTED = 5
# What stands between the name of a clip and the number of its scene.
SCENE_MARK = "#scene-"


class Named(Protocol):
    """What a row can name."""

    @property
    def key(self) -> str:
        """Unique in its artifact."""

    @property
    def source(self) -> str:
        """Path of the image or clip within the source."""

    @property
    def group(self) -> str:
        """What it belongs to."""


@dataclass(frozen=True)
class GivenSplits:
    """A file of splits.

    Attributes:
        label: What to call the file.
        sha256: Of its bytes.
        of_name: The split of each name.
        line_of: The line that says so.
    """

    label: str
    sha256: str
    of_name: Mapping[str, Split]
    line_of: Mapping[str, int]


@dataclass(frozen=True)
class Assignment:
    """What a file of splits says of some items.

    Attributes:
        splits: Of each item in order; None where no row names it.
        unused: Names that stand for none of the items.
    """

    splits: tuple[Split | None, ...]
    unused: tuple[str, ...]


def read_given_splits(address: str) -> GivenSplits:
    """Read a file of splits.

    Args:
        address: A path, s3:// or http(s) address of a CSV or TSV file with two columns, or with columns `name` and
            `split` (or words like these) among others.

    Raises:
        ConfigError: There is no such file.
        SplitError: It is no such table, or rows are wrong (no split, two splits for one name); names file and lines.
        StorageError: The store cannot be read.
    """
    label = storage.shown(address)
    with _local(address) as path:
        try:
            rows = list(read_rows(path, text_layout(path)))
        except DataError as error:
            raise SplitError(f"data.split_file = {label!r}: {error}") from None
        name_column, split_column, has_header = _columns(rows, label)
        of_name, line_of = _names(rows[has_header:], name_column, split_column, label)
        return GivenSplits(label, sha256_file(path), of_name, line_of)


@contextmanager
def _local(address: str) -> Iterator[Path]:
    if storage.is_local(address):
        path = storage.local_path(address)
        if not path.is_file():
            raise ConfigError(f"data.split_file = {address!r}: no such file; expected a CSV of names and splits")
        yield path
        return
    with TemporaryDirectory(prefix="visionyard-") as folder:
        yield storage.fetch_file(address, Path(folder, "splits.csv"))


def _columns(rows: Sequence[tuple[int, list[str]]], label: str) -> tuple[int, int, bool]:
    """Return the place of the names, that of the splits, and whether the first row is a header."""
    if not rows:
        raise SplitError(f"data.split_file = {label!r}: it is empty; expected a name and a split in each row")
    first = [cell.lower() for cell in rows[0][1]]
    split_column = next((first.index(word) for word in _SPLIT_HEADERS if word in first), None)
    if split_column is not None:
        others = [place for place in range(len(first)) if place != split_column]
        named = [first.index(word) for word in _NAME_HEADERS if word in first]
        if named or len(others) == 1:
            return (named or others)[0], split_column, True
    elif len(first) == 2 and any(split_of_folder(cell) for cell in first):
        is_split_first = split_of_folder(first[1]) is None
        return int(is_split_first), int(not is_split_first), False
    raise SplitError(
        f"data.split_file = {label!r}: its first row is {', '.join(rows[0][1])}; expected columns name and split, or "
        "two columns, one of which holds train, val or test"
    )


def _names(
    rows: Sequence[tuple[int, list[str]]], name_column: int, split_column: int, label: str
) -> tuple[dict[str, Split], dict[str, int]]:
    of_name: dict[str, Split] = {}
    line_of: dict[str, int] = {}
    mistakes = []
    for line, cells in rows:
        if len(cells) <= max(name_column, split_column):
            mistakes.append(f"line {line}: {len(cells)} cells, expected a name and a split")
            continue
        name, word = normal_name(cells[name_column]), cells[split_column]
        split = split_of_folder(word)
        if not name:
            mistakes.append(f"line {line}: the name is empty")
        elif split is None:
            mistakes.append(f"line {line}: {name}: split {word!r}, expected train, val or test")
        elif of_name.setdefault(name, split) != split:
            mistakes.append(f"line {line}: {name} is in {split}, by line {line_of[name]} in {of_name[name]}")
        else:
            line_of.setdefault(name, line)
    if mistakes:
        raise SplitError(f"data.split_file = {label!r}: {_listed(mistakes)}; correct these rows")
    if not of_name:
        raise SplitError(f"data.split_file = {label!r}: it has no row but its header; name an item in each row")
    return of_name, line_of


def normal_name(name: str) -> str:
    """Return a name as paths within a source are written: with slashes, and without a leading `./`."""
    return name.replace("\\", "/").removeprefix("./").strip("/")


def assign_given(given: GivenSplits, items: Sequence[Named]) -> Assignment:
    """Return what a file says of items.

    Raises:
        SplitError: A name is the end of several paths, so that nobody can tell which is meant.
    """
    split_of: list[Split | None] = [None] * len(items)
    unused = set(given.of_name)
    # The widest first, so that what is closer to an item overwrites it.
    for names in ([item.group for item in items], [item.source for item in items], [item.key for item in items]):
        for position, name in enumerate(map(normal_name, names)):
            if name in given.of_name:
                split_of[position] = given.of_name[name]
                unused.discard(name)
    ends = _by_path_end(unused, {item.source for item in items}, given)
    unused -= ends.keys()
    # Of two ends of one path the longer one is closer.
    name_of = {source: name for name, source in sorted(ends.items(), key=lambda end: len(end[0]))}
    for position, item in enumerate(items):
        # Its own row, and that of its whole path, are closer.
        if item.source in name_of and not {item.key, normal_name(item.source)} & given.of_name.keys():
            split_of[position] = given.of_name[name_of[item.source]]
    return Assignment(tuple(split_of), tuple(sorted(unused, key=given.line_of.__getitem__)))


def _by_path_end(names: Iterable[str], sources: Iterable[str], given: GivenSplits) -> dict[str, str]:
    """Return the one source whose path ends with each name; names that end none are left out."""
    wanted = set(names)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for source in sorted(sources):
        parts = PurePosixPath(source).parts
        for start in range(1, len(parts)):
            if (end := "/".join(parts[start:])) in wanted:
                found[end].append(source)
    twice = [
        f"line {given.line_of[name]}: {name} may be {_listed(paths, ' or ')}"
        for name, paths in found.items()
        if len(paths) > 1
    ]
    if twice:
        raise SplitError(f"data.split_file = {given.label!r}: {_listed(twice)}; write the path within the source")
    return {name: paths[0] for name, paths in found.items()}


def check_unused(given: GivenSplits, assignment: Assignment, known: Iterable[str], problems: Problems) -> None:
    """Tell of names whose items were left out on the way, and refuse those that nobody knows.

    Args:
        given: The file.
        assignment: What it says of the items that are there.
        known: Every name in the source: paths, groups, keys, also of what could not be used.
        problems: Gets `split_row_unused`.

    Raises:
        SplitError: A name stands for nothing in the source; names the lines and the likest name.
    """
    if not assignment.unused:
        return
    names = {normal_name(name) for name in known}
    ends = {"/".join(PurePosixPath(name).parts[start:]) for name in names for start in range(name.count("/") + 1)}
    unknown = [name for name in assignment.unused if name not in ends]
    if unknown:
        rows = [f"line {given.line_of[name]}: {name}{_likest(name, names)}" for name in unknown[:_LISTED]]
        rows += [""] * (len(unknown) - len(rows))
        raise SplitError(
            f"data.split_file = {given.label!r}: {len(unknown)} names are no item, clip or group of the data: "
            f"{_listed(rows)}; correct or remove these rows"
        )
    problems.add(
        "split_row_unused",
        assignment.unused[0],
        f"{len(assignment.unused)} names in data.split_file, this one first, stand for items that were left out "
        "(unreadable, a copy of another, without a usable label); their rows do nothing",
    )


def _likest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def settled_units(
    given: Sequence[Split | None], groups: Sequence[str], joined: Mapping[str, str], problems: Problems
) -> dict[str, Split]:
    """Return the split of each joined group of which something is given; of several the first of train, val, test.

    Args:
        given: Of each item, None where nothing is.
        groups: Of each item.
        joined: From each group to the one it is joined with.
        problems: Gets `split_file_divides_group` and `split_file_divides_near_duplicates`.
    """
    of_group: defaultdict[str, set[Split]] = defaultdict(set)
    of_unit: defaultdict[str, set[Split]] = defaultdict(set)
    for split, group in zip(given, groups, strict=True):
        if split is not None:
            of_group[group].add(split)
            of_unit[joined.get(group, group)].add(split)
    torn = {group for group, splits in of_group.items() if len(splits) > 1}
    if torn:
        problems.add(
            "split_file_divides_group",
            min(torn),
            f"{len(torn)} groups, this one first, stand in two splits because data.split_file says so; the leak "
            "certificate counts them, and the test is no test of them",
        )
    torn_units = {unit for unit, splits in of_unit.items() if len(splits) > 1}
    torn_units -= {joined.get(group, group) for group in torn}
    if torn_units:
        problems.add(
            "split_file_divides_near_duplicates",
            min(torn_units),
            f"{len(torn_units)} clusters of images that show the same, that of this group first, stand in two splits "
            "because data.split_file says so; the leak certificate counts them",
        )
    return {unit: min(splits, key=SPLITS.index) for unit, splits in of_unit.items()}


def split_rows(dataset: Dataset) -> list[tuple[str, Split]]:
    """Return names and splits that, given in a file, make the splits of a dataset version again.

    A group is named, or each of its images where it stands in two splits, or is a scene: scenes are found anew.

    Args:
        dataset: The version.

    Raises:
        ArtifactError: It is incomplete.
    """
    splits_of: defaultdict[str, set[Split]] = defaultdict(set)
    for split in SPLITS:
        for sample in dataset.samples(split):
            splits_of[sample.group].add(split)
    rows: list[tuple[str, Split]] = []
    for split in SPLITS:
        names = {
            sample.key if len(splits_of[sample.group]) > 1 or SCENE_MARK in sample.group else sample.group
            for sample in dataset.samples(split)
        }
        rows += [(name, split) for name in sorted(names)]
    return rows


def split_text(rows: Iterable[tuple[str, Split]]) -> str:
    """Return rows as the text of a CSV file."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("name", "split"))
    writer.writerows(rows)
    return stream.getvalue()


def _listed(texts: Sequence[str], separator: str = "; ") -> str:
    more = len(texts) - _LISTED
    return separator.join(texts[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
