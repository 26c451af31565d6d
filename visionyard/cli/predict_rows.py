"""`visionyard predict` on rows of a table: a line for each, or JSON lines."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visionyard.errors import ConfigError, DataError

EXTENSIONS = (".csv", ".tsv", ".parquet", ".pq")


def are_rows(bundle: str, paths: Sequence[str]) -> bool:
    """Return whether all paths are files of rows, by their extensions, or folders for a bundle of a table."""
    named = [path for path in paths if not path.lower().endswith(EXTENSIONS)]
    return not named or (_is_of_table(Path(bundle)) and all(Path(path).is_dir() for path in named))


def _is_of_table(bundle: Path) -> bool:
    """Return whether a folder looks like the bundle of a table; whether it is one, opening it tells."""
    try:
        return bool(json.loads((bundle / "model.json").read_bytes())["preprocessing"]["kind"] == "table")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def predict_rows_command(
    bundle: Path, paths: Sequence[Path], *, is_json: bool, model_format: str, console: Console
) -> None:
    """Predict every row of files; one that cannot be read is told and passed over. Columns of no use are told once.

    Raises:
        ConfigError: A path is missing, the bundle is of images, or it lacks the format.
        DataError: A file is no table, lacks a column, or none of the rows could be read.
    """
    from visionyard.inference import Predictor

    if find_spec("pyarrow") is None:
        raise ConfigError(f"{paths[0]}: rows of files need pyarrow; pip install 'visionyard[data]'")
    if missing := [path for path in paths if not path.exists()]:
        raise ConfigError(f"{missing[0]}: no such file or folder")
    shown = Table(box=None, pad_edge=False)
    for heading in ("File", "Row", "Found"):
        shown.add_column(heading, overflow="fold")
    count = read = 0
    with Predictor.from_bundle(bundle, model_format or None) as predictor:
        if predictor.preprocessing.item != "row":
            raise ConfigError(f"{bundle}: a model of images, and {paths[0].name} holds rows; name images or videos")
        for path in paths:
            for record in _records(predictor, path):
                count += 1
                read += "error" not in record
                if is_json:
                    sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
                else:
                    shown.add_row(escape(record["path"]), str(record["row"]), _found(record))
    if not is_json:
        console.print(shown)
    if not read:
        raise DataError(f"none of {count} rows could be read: {', '.join(map(str, paths[:5]))}")


def _records(predictor: Any, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON line of each row of a file, or of a folder's; rows of a file count from 1, as below a header."""
    from visionyard.data.items import Problems
    from visionyard.data.tables.rows import BATCH_ROWS
    from visionyard.data.tables.source import find_tables
    from visionyard.inference.paths import prediction_to_json
    from visionyard.transforms.rows import shown_columns

    columns = [column.name for column in predictor.preprocessing.columns]
    problems = Problems()
    source = find_tables(path, problems, label=str(path))
    lacking = [name for name in columns if name not in source.names]
    if lacking:
        raise DataError(f"{path}: it lacks {shown_columns(lacking)}; the model needs {shown_columns(columns)}")
    if unused := [name for name in source.names if name not in columns]:
        _tell(f"{path}: the model does not use {shown_columns(unused)}")
    counts: Counter[str] = Counter()
    for file, batch in source.batches(problems):
        for start in range(0, batch.num_rows, BATCH_ROWS):  # a batch of a text may have a million short rows
            for found in _predictions(predictor, _rows(batch.slice(start, BATCH_ROWS), columns)):
                counts[file.name] += 1
                told = {"error": str(found)} if isinstance(found, DataError) else None
                yield {
                    "path": str(file.path),
                    "row": counts[file.name],
                    **(told or prediction_to_json(found, predictor.classes)),
                }
    for problem in problems.found:
        _tell(f"{path}: {problem.item}: {problem.message}")


def _rows(batch: Any, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a batch; decimals and times of Parquet as they were brought in for the training."""
    import pyarrow as pa

    from visionyard.data.tables.conversion import as_plain

    def values(column: Any) -> list[Any]:
        is_own = pa.types.is_decimal(column.type) or pa.types.is_temporal(column.type)
        plain = as_plain(column, ()) if is_own else None
        return list((column if plain is None else plain).to_pylist())

    return [dict(zip(columns, row, strict=True)) for row in zip(*(values(batch.column(name)) for name in columns))]


def _tell(text: str) -> None:
    Console(stderr=True).print(text, style="yellow", markup=False, soft_wrap=True)


def _predictions(predictor: Any, rows: list[dict[str, Any]]) -> Iterator[Any]:
    """Yield a prediction for each row, or the error of one that cannot be read."""
    try:
        yield from predictor.predict(rows, batch_size=len(rows) or 1)
        return
    except DataError:
        pass  # one of them; which, is told one by one
    for row in rows:
        try:
            yield predictor.predict([row])[0]
        except DataError as error:
            yield DataError(str(error).removeprefix("row 0: "))


def _found(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"[red]{escape(record['error'])}[/red]"
    return f"{escape(record['class'])} {record['confidence']:.2f}"
