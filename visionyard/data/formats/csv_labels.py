"""CSV or TSV with a row an image (path and class), or a row a box (path, class, xmin, ymin, xmax, ymax).

A class may also have a column of its own, with 1 in the rows that are of it.

Columns are found by the header's names, without a header by content (`visionyard.data.formats.csv_columns`). A path is
relative to the CSV or to the source; its extension may be missing. A split stands in a column, in the CSV's name
(`train_labels.csv`) or in the image's folder. Boxes are pixels, unless the numbers of all boxes lie between 0 and 1:
then they are shares of width and height. A row with an image and no box says that nothing is there. Files named as
submissions to a contest are passed over: their labels are placeholders.

Source: TensorFlow Object Detection API, `filename,width,height,class,xmin,ymin,xmax,ymax` of its dataset tools; Open
Images V4, `ImageID,...,LabelName,...,XMin,XMax,YMin,YMax`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from sys import intern

from visionyard.data.delimited import EXTENSIONS, TextLayout, read_rows, text_layout
from visionyard.data.formats.csv_columns import Columns, columns_of_content, columns_of_flags, columns_of_header
from visionyard.data.formats.image_lookup import ImageLookup, NotFound
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
from visionyard.data.formats.split_names import split_of_file
from visionyard.data.formats.xml_reading import number_of
from visionyard.data.items import Problems, Split
from visionyard.data.media import MEDIA_EXTENSIONS
from visionyard.errors import DataError

_LOOKED_AT_ROWS = 200
_SUBMISSION = re.compile(r"(?i)submission")


@dataclass(frozen=True)
class _Table:
    """A file of labels, how to read it, and the split that its name says it is of."""

    file: SourceFile
    layout: TextLayout
    columns: Columns
    split: Split | None


@dataclass
class _Labels:
    """What the rows say of one image.

    Attributes:
        table: The file that named it first.
        line: Where it did.
        split: The published split.
        class_name: Of a classification.
        boxes: Of a detection.
        size_wh: The image size that the rows give.
        has_faults: Whether a row of it could not be read.
        is_contradictory: Whether rows give it different classes.
    """

    table: _Table
    line: int
    split: Split | None
    class_name: str | None = None
    boxes: list[RawBox] = field(default_factory=list)
    size_wh: tuple[int, int] | None = None
    has_faults: bool = False
    is_contradictory: bool = False


def evidence(tree: SourceTree) -> str:
    """Return what shows a source labelled by CSV: a table whose rows name images of the source."""
    if not tree.images():
        return ""
    tables = _tables(tree, Problems())
    named = ", ".join(table.file.name for table in tables[:3]) + (" ..." if len(tables) > 3 else "")
    return f"{len(tables)} CSV files that name images and classes ({named})" if tables else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a source labelled by CSV.

    Raises:
        DataError: No table names images and classes.
    """
    tables = _tables(tree, problems)
    if not tables:
        raise DataError(
            f"{tree.label}: no CSV or TSV names images of the source and their classes; expected a header such as "
            "path,label or filename,class,xmin,ymin,xmax,ymax"
        )
    lookup, completed = ImageLookup(tree), _Completed(tree)
    labels: dict[str, _Labels] = {}
    for table in tables:
        _read_table(tree, table, lookup, completed, labels, problems)
    has_boxes = any(table.columns.box for table in tables)
    images = _images(tree, labels, is_normalized=has_boxes and _are_shares(labels), problems=problems)
    return Reading(len(tree.images()), images=images, task="detection" if has_boxes else "classification")


class _Completed:
    """Completes names that lack their extension, as `image_id` columns do."""

    def __init__(self, tree: SourceTree) -> None:
        self._suffixes: dict[str, set[str]] = defaultdict(set)
        self._names: set[str] = set()
        for file in tree.images():
            self._suffixes[file.path.stem].add(file.path.suffix)
            self._names.add(file.path.name)

    def __call__(self, reference: str) -> str:
        name = PurePosixPath(reference.replace("\\", "/")).name
        suffixes = self._suffixes.get(name, set())
        is_complete = PurePosixPath(name).suffix.lower() in MEDIA_EXTENSIONS or name in self._names
        return reference if is_complete or len(suffixes) != 1 else reference + next(iter(suffixes))

    def is_image(self, cell: str) -> bool:
        """Return whether a cell ends in the name of an image of the source."""
        return PurePosixPath(self(cell).replace("\\", "/")).name in self._names


def _tables(tree: SourceTree, problems: Problems) -> list[_Table]:
    """Return the files of a source that name images and labels; what looks like one and cannot be read is noted."""
    tables, completed = [], _Completed(tree)
    for file in tree.with_extension(*EXTENSIONS):
        if not file.size or _SUBMISSION.search(file.path.name):
            continue
        try:
            layout = text_layout(tree.path(file.name))
            rows = [cells for _, cells in islice(read_rows(tree.path(file.name), layout), _LOOKED_AT_ROWS)]
        except DataError as error:
            problems.add("unreadable_labels", file.name, f"{error}; left out")
            continue
        columns = _columns(rows, completed)
        if columns is None:
            continue
        if layout.is_encoding_guessed:
            problems.add("encoding_guessed", file.name, "not UTF-8; read as Windows-1252: look at the class names")
        tables.append(_Table(file, layout, columns, split_of_file(file.path)))
    return tables


def _columns(rows: list[list[str]], completed: _Completed) -> Columns | None:
    named = (columns_of_header(rows[0]) or columns_of_flags(rows)) if rows else None
    if named is None:
        return columns_of_content(rows, completed.is_image)
    body = [row for row in rows[1:] if len(row) > named.path]
    return named if any(completed.is_image(row[named.path]) for row in body) else None


def _read_table(
    tree: SourceTree,
    table: _Table,
    lookup: ImageLookup,
    completed: _Completed,
    labels: dict[str, _Labels],
    problems: Problems,
) -> None:
    """Add what a table says to `labels`, from image names to labels; it is read twice, a row at a time."""
    path_at = table.columns.path
    named = dict.fromkeys(cells[path_at] for _, cells in _rows(tree, table, Problems()))
    names = {cell: completed(cell) for cell in named}
    references = list(dict.fromkeys(names.values()))
    found = dict(zip(references, lookup.resolve(references, beside=table.file.path.parent, split=table.split)))
    for line, cells in _rows(tree, table, problems):
        image = found[names[cells[path_at]]]
        if isinstance(image, NotFound):
            problems.add(image.code, table.file.name, f"{image.message}; left out", f"line {line}")
        else:
            _add_row(table, line, cells, image, labels, problems)


def _rows(tree: SourceTree, table: _Table, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of the rows below the header; those of another width are noted."""
    width = 0
    try:
        for line, cells in read_rows(tree.path(table.file.name), table.layout):
            is_header = not width and table.columns.has_header
            width = width or len(cells)
            if len(cells) != width:
                message = f"{len(cells)} cells, expected {width} as in the first row; left out"
                problems.add("malformed_line", table.file.name, message, f"line {line}")
            elif not is_header:
                yield line, cells
    except DataError as error:
        problems.add("unreadable_labels", table.file.name, f"{error}; the rest of the file is left out")


def _add_row(
    table: _Table, line: int, cells: list[str], image: SourceFile, labels: dict[str, _Labels], problems: Problems
) -> None:
    note = partial(problems.add, file=table.file.name, item=f"line {line}")
    known = labels.get(image.name)
    # Without a column for it, the split is that of the image's first row: paths are not taken apart for each box.
    if known is not None and known.table is table and table.columns.split is None:
        split = known.split
    else:
        split = _split(table, cells, image, note)
    entry = labels.setdefault(image.name, _Labels(table, line, split))
    if entry.split != split:
        message = f"{image.name} is of {split or 'no split'} here and of {entry.split or 'none'} in {_place(entry)}"
        note("two_published_splits", message=f"{message}; the first is taken")
    class_name = table.columns.class_of(cells)
    if class_name is None:
        note("several_classes", message=f"{image.name} is of several classes; it counts as unlabelled")
    if table.columns.box:
        _add_box(table, line, cells, class_name or "", entry, note)
    elif known is None:
        entry.class_name = class_name or None
    elif known.class_name == (class_name or None):
        note("image_labelled_twice", message=f"{image.name} stands in {_place(entry)} already, with the same class")
    else:
        entry.is_contradictory = True
        message = f"{image.name} is {class_name!r} here and {known.class_name!r} in {_place(entry)}"
        note("conflicting_labels", message=f"{message}; it counts as unlabelled")


def _place(entry: _Labels) -> str:
    return f"line {entry.line} of {entry.table.file.name}"


def _add_box(table: _Table, line: int, cells: list[str], class_name: str, entry: _Labels, note: partial[None]) -> None:
    texts = [cells[place] for place in table.columns.box]
    sizes = [number_of(cells[place]) for place in table.columns.size]
    if sizes and all(size is not None and size >= 1 and size.is_integer() for size in sizes):
        entry.size_wh = (int(sizes[0] or 0), int(sizes[1] or 0))
    if not any(texts):
        return
    values = [number_of(text) for text in texts]
    if any(value is None for value in values) or not class_name:
        entry.has_faults = True
        said = ", ".join(texts)
        note("malformed_box", message=f"expected a class and four numbers, got {class_name!r} and {said}; dropped")
        return
    left, top, right, bottom = (value for value in values if value is not None)
    entry.boxes.append(RawBox(intern(class_name), (left, top, right, bottom), f"line {line}"))


def _split(table: _Table, cells: list[str], image: SourceFile, note: partial[None]) -> Split | None:
    text = "" if table.columns.split is None else cells[table.columns.split]
    split = split_of_folder(text)
    if text and split is None:
        note("unknown_split", message=f"{text!r} is none of train, val and test; passed over")
    return split or table.split or split_of_path(image.path)


def _are_shares(labels: Mapping[str, _Labels]) -> bool:
    """Return whether boxes are shares of width and height: all numbers from 0 to 1, and not all of them whole."""
    has_fractions = False
    for value in (value for entry in labels.values() for box in entry.boxes for value in box.xyxy):
        if not 0 <= value <= 1:
            return False
        has_fractions = has_fractions or 0 < value < 1
    return has_fractions


def _images(
    tree: SourceTree, labels: Mapping[str, _Labels], *, is_normalized: bool, problems: Problems
) -> Iterator[SourceImage]:
    for file in tree.images():
        entry = labels.get(file.name)
        if entry is None:
            yield unlabelled(file, "no row of a CSV names it", problems)
        elif entry.table.columns.box:
            found = ImageLabels(
                entry.table.file.name, tuple(entry.boxes), entry.has_faults, is_normalized, entry.size_wh
            )
            yield SourceImage(file, labels=found, published_split=entry.split)
        else:
            if entry.class_name is None:
                message = f"its class in {_place(entry)} is empty; kept as unlabelled"
                problems.add("image_without_labels", file.name, message)
            class_name = None if entry.is_contradictory else entry.class_name
            yield SourceImage(file, class_name=class_name, published_split=entry.split)


FORMAT = SourceFormat(
    kind="images_csv",
    task="classification",
    expected="images and a CSV or TSV with a header such as path,label or filename,class,xmin,ymin,xmax,ymax",
    evidence=evidence,
    read=read,
)
