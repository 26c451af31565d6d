"""Tables in a source: CSV, TSV and Parquet files of the same columns, read in batches."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from visionyard.data.delimited import EXTENSIONS, TextLayout, text_layout
from visionyard.data.formats.source_tree import SourceTree
from visionyard.data.formats.split_names import split_of_file
from visionyard.data.items import Problems, Split
from visionyard.data.tables.rows import BATCH_ROWS
from visionyard.errors import ConfigError, DataError

PARQUET_EXTENSIONS = (".parquet", ".pq")
SCHEMA_NAMES = ("schema.yaml", "schema.yml", "schema.json")
# Rows of 100 columns take some 10 MB: several batches are in memory at once, of strings and of what becomes of them.
_BATCH_BYTES = 4 << 20
_SHOWN_ROWS = 20


@dataclass(frozen=True)
class TableFile:
    """One file of a table.

    Attributes:
        path: Where it lies.
        name: Path within the source.
        names: Its columns, stripped.
        split: The split that its name or folder gives.
        layout: Of a text; None for Parquet.
    """

    path: Path
    name: str
    names: tuple[str, ...]
    split: Split | None
    layout: TextLayout | None


@dataclass
class TableSource:
    """The files that together are one table.

    Attributes:
        files: In the order of their names, all with the same columns.
        schema_file: The schema file beside them; None when there is none.
    """

    files: list[TableFile]
    schema_file: Path | None
    _told: set[str] = field(default_factory=set)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns, in the first file's order."""
        return self.files[0].names

    def batches(self, problems: Problems) -> Iterator[tuple[TableFile, Any]]:
        """Yield file and record batch, columns by their stripped names; all columns of a text are strings.

        Rows that have another number of cells are left out and noted, once however often the table is read.

        Raises:
            DataError: A file is damaged; names it.
        """
        for file in self.files:
            rows = _parquet_batches(file) if file.layout is None else self._text_batches(file, file.layout, problems)
            for batch in rows:
                yield file, batch.select(self.names)
            self._told.add(file.name)

    def _text_batches(self, file: TableFile, layout: TextLayout, problems: Problems) -> Iterator[Any]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        malformed: list[int | None] = []

        def leave_out(row: Any) -> str:
            if file.name not in self._told and len(malformed) < _SHOWN_ROWS:
                message = f"{row.actual_columns} cells, expected {row.expected_columns} as in the header; left out"
                problems.add("malformed_line", file.name, message, f"line {row.number}")
            malformed.append(row.number)
            return "skip"

        raw_names = _header(file.path, layout)
        try:
            reader = arrow_csv.open_csv(
                file.path,
                # One thread: else the rows that are left out have no number.
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=_BATCH_BYTES, encoding=layout.encoding.removesuffix("-sig")
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=leave_out
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(raw_names, pa.string()), strings_can_be_null=False
                ),
            )
            with reader:
                for batch in reader:
                    yield batch.rename_columns(file.names)
        except (pa.ArrowException, UnicodeError) as error:
            raise DataError(f"{file.name}: cannot be read as CSV: {_reason(error)}; expected one row a line") from None
        if len(malformed) > _SHOWN_ROWS and file.name not in self._told:
            message = f"{len(malformed) - _SHOWN_ROWS} more rows with another number of cells; left out"
            problems.add("malformed_line", file.name, message)


def find_tables(root: Path, problems: Problems, *, label: str) -> TableSource:
    """Return the table of a source: a file, or a folder with files of the same columns.

    Args:
        root: A file or a folder.
        problems: Where to note what is left out, such as links that lead outside.
        label: What messages call it.

    Raises:
        DataError: There is no table, or several different ones; or a header is not usable. Names the file.
        ConfigError: There are several schema files.
    """
    tree = SourceTree.scan(root, problems, label=label)
    names = [file.name for file in tree.with_extension(*EXTENSIONS, *PARQUET_EXTENSIONS)]
    if not names:
        raise DataError(f"{label}: expected a table, a CSV, TSV or Parquet file; found none")
    tables = [_table_file(tree.path(name), name) for name in names]
    first = tables[0]
    for table in tables[1:]:
        if sorted(table.names) != sorted(first.names):
            raise DataError(
                f"{label}: {first.name} and {table.name} have different columns, so they are not one table; set "
                f"data.source to the file that is meant"
            )
    return TableSource(tables, _schema_file(tree.root, [table.path for table in tables], label))


def _schema_file(base: Path, tables: list[Path], label: str) -> Path | None:
    beside = [table.with_name(f"{table.stem}.{name}") for table in tables for name in SCHEMA_NAMES]
    candidates = {*beside, *(base / name for name in SCHEMA_NAMES)}
    found = sorted(path for path in candidates if path.is_file() and path.resolve().is_relative_to(base))
    if len(found) > 1:
        raise ConfigError(f"{label}: {', '.join(path.name for path in found)} are schema files; leave one")
    return found[0] if found else None


def _table_file(path: Path, name: str) -> TableFile:
    try:
        layout = None if path.suffix.lower() in PARQUET_EXTENSIONS else text_layout(path)
        raw = _parquet_names(path) if layout is None else _header(path, layout)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    names = tuple(each.strip().removeprefix("\ufeff") for each in raw)
    repeated = sorted({each for each in names if not each or names.count(each) > 1})
    if repeated:
        raise DataError(f"{name}: the column {repeated[0]!r} is empty or stands there twice; give each its own name")
    return TableFile(path, name, names, split_of_file(PurePosixPath(name)), layout)


def _header(path: Path, layout: TextLayout) -> list[str]:
    with path.open(encoding=layout.encoding, newline="") as stream:
        try:
            names = next(csv.reader(stream, delimiter=layout.delimiter), [])
        except csv.Error as error:
            raise DataError(f"its header cannot be read: {error}") from None
    if not names:
        raise DataError("its first line is empty; expected the names of the columns")
    return names


def _parquet_names(path: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as Parquet: {_reason(error)}") from None


def _parquet_batches(file: TableFile) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file.path) as opened:
            for batch in opened.iter_batches(batch_size=BATCH_ROWS):
                # Arrow believes what a page says: without this, altered bytes are met where texts are used.
                batch.validate(full=True)
                yield batch.rename_columns(file.names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: cannot be read as Parquet: {_reason(error)}; write it again") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
