"""`visionyard predict` on rows of a table, by a bundle or a server: a line for each, or JSON lines."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visionyard.cli.predict import KEY_VARIABLE, Server
from visionyard.errors import ConfigError, DataError, RequestError, VisionyardError

EXTENSIONS = (".csv", ".tsv", ".parquet", ".pq")


def are_rows(bundle: str, paths: Sequence[str]) -> bool:
    """Return whether all paths are of rows: files by their extensions, folders by their bundle.

    Args:
        bundle: The bundle; empty where a server is asked: a folder is then of rows that holds files of rows alone.
        paths: What was named.
    """
    named = [path for path in paths if not path.lower().endswith(EXTENSIONS)]
    if bundle:
        return not named or (_is_of_table(Path(bundle)) and all(Path(path).is_dir() for path in named))
    return all(_holds_rows_alone(Path(path)) for path in named)


def _holds_rows_alone(folder: Path) -> bool:
    from visionyard.data.media import MEDIA_EXTENSIONS

    found = {path.suffix.lower() for path in folder.rglob("*")} if folder.is_dir() else set()
    return bool(found & set(EXTENSIONS)) and not found & set(MEDIA_EXTENSIONS)


def _is_of_table(bundle: Path) -> bool:
    """Return whether a folder looks like the bundle of a table; whether it is one, opening it tells."""
    try:
        return bool(json.loads((bundle / "model.json").read_bytes())["preprocessing"]["kind"] == "table")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def predict_rows_command(
    source: Path | Server, paths: Sequence[Path], *, is_json: bool, model_format: str, console: Console
) -> None:
    """Predict every row of files; one that cannot be read is told and passed over. Columns of no use are told once.

    Args:
        source: A bundle, or the server to ask.
        paths: Files, or folders of them.
        is_json: Print JSON lines in place of a table.
        model_format: Of a bundle; empty: the fastest one.
        console: Where the table goes.

    Raises:
        ConfigError: A path is missing, the model is of images, or the bundle lacks the format.
        DataError: A file is no table, lacks a column, or none of the rows could be read.
        VisionyardError: The server cannot be reached, or refuses.
    """
    if find_spec("pyarrow") is None:
        raise ConfigError(f"{paths[0]}: rows of files need pyarrow; pip install 'visionyard[data]'")
    if missing := [path for path in paths if not path.exists()]:
        raise ConfigError(f"{missing[0]}: no such file or folder")
    shown = Table(box=None, pad_edge=False)
    for heading in ("File", "Row", "Found"):
        shown.add_column(heading, overflow="fold")
    count = read = 0
    with _opened(source, model_format, paths[0]) as model:
        for path in paths:
            for record in _records(model, path):
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


@dataclass(frozen=True)
class _Model:
    """What answers: its columns, and from rows to what is told of each, or the error of one that cannot be read."""

    columns: list[str]
    answers: Callable[[list[dict[str, Any]]], Iterator[dict[str, Any] | DataError]]


@contextmanager
def _opened(source: Path | Server, model_format: str, first: Path) -> Iterator[_Model]:
    of_images = f"a model of images, and {first.name} holds rows; name images or videos"
    if isinstance(source, Server):
        from visionyard.client import Client

        with Client(source.url, model=source.model, api_key=os.environ.get(KEY_VARIABLE, "")) as client:
            columns = _columns_of(client.model_info())
            if not columns:
                raise ConfigError(f"{source.url}: {of_images}")
            yield _Model(columns, partial(_asked, client))
        return
    from visionyard.inference import Predictor
    from visionyard.transforms import TablePreprocessing

    with Predictor.from_bundle(source, model_format or None) as predictor:
        before = predictor.preprocessing
        if not isinstance(before, TablePreprocessing):
            raise ConfigError(f"{source}: {of_images}")
        yield _Model([column.name for column in before.columns], partial(_predicted, predictor))


def _columns_of(info: Mapping[str, Any]) -> list[str]:
    """Return the columns that a server tells of a model: over REST its manifest's, over gRPC its tensors'."""
    if "manifest" in info:
        before = info["manifest"]["preprocessing"]
        return [column["name"] for column in before["columns"]] if before.get("kind") == "table" else []
    tensors = info["inputs"]
    return [] if any(len(tensor["shape"]) > 1 for tensor in tensors) else [tensor["name"] for tensor in tensors]


def _records(model: _Model, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON line of each row of a file, or of a folder's; rows of a file count from 1, as below a header."""
    from visionyard.data.items import Problems
    from visionyard.data.tables.rows import BATCH_ROWS
    from visionyard.data.tables.source import find_tables
    from visionyard.transforms.rows import shown_columns

    columns = model.columns
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
            for found in model.answers(_rows(batch.slice(start, BATCH_ROWS), columns)):
                counts[file.name] += 1
                told = {"error": str(found)} if isinstance(found, DataError) else found
                yield {"path": str(file.path), "row": counts[file.name], **told}
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


def _predicted(predictor: Any, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any] | DataError]:
    from visionyard.inference.paths import prediction_to_json

    try:
        for found in predictor.predict(rows, batch_size=len(rows) or 1):
            yield prediction_to_json(found, predictor.classes)
        return
    except DataError as error:
        if len(rows) == 1:
            yield _of_one_row(error)
            return
    for part in _halves(rows):
        yield from _predicted(predictor, part)


def _asked(client: Any, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any] | DataError]:
    try:
        for found in client.predict_rows(rows):
            yield found.to_json()
        return
    except RequestError as error:
        if type(error) is not RequestError:  # of the key, or of the model's name
            raise
        if len(rows) == 1:
            yield _of_one_row(error)
            return
    for part in _halves(rows):
        yield from _asked(client, part)


def _halves(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Divide rows of which one or more cannot be read, until each of these is alone."""
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def _of_one_row(error: VisionyardError) -> DataError:
    before, found, after = str(error).partition("row 0: ")
    return DataError(after if found else before)


def _found(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"[red]{escape(record['error'])}[/red]"
    return f"{escape(record['class'])} {record['confidence']:.2f}"
