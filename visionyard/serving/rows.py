"""Rows of a table in requests: from JSON, Arrow or tensors to rows, and from predictions to answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from visionyard.errors import DataError, RequestError, TooLargeError
from visionyard.inference.bundle import BundleManifest
from visionyard.inference.paths import TOP_COUNT, prediction_to_json
from visionyard.serving.kserve_sdk import InferInput
from visionyard.serving.statuses import wrong_encoding
from visionyard.serving.tensors import read_tensor
from visionyard.transforms import Classification, Prediction, Row, TablePreprocessing
from visionyard.transforms.rows import shown_columns

ARROW = "application/vnd.apache.arrow.stream"
FORM = '{"rows": [{"column": value, ...}, ...]}'
_DATATYPES = {"numeric": "FP64", "boolean": "BOOL", "categorical": "BYTES"}


@dataclass(frozen=True)
class RowPayload:
    """Rows of a request, and its parameters as they were sent."""

    rows: Sequence[Row]
    parameters: Mapping[str, object]


@dataclass(frozen=True)
class RowAnswer:
    """What the model says of one row.

    Attributes:
        prediction: Its class.
        top_k: Classes that `to_json` lists.
    """

    prediction: Prediction
    top_k: int = TOP_COUNT

    @property
    def probabilities(self) -> np.ndarray:
        """(C,) float32, summing to 1."""
        assert isinstance(self.prediction, Classification)  # what a model of rows tells
        return self.prediction.probabilities.astype(np.float32)

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return plain values, as `visionyard predict --json`; `classes` in the order of their ids."""
        return prediction_to_json(self.prediction, classes, top_count=self.top_k)


def rows_of(manifest: BundleManifest) -> TablePreprocessing | None:
    """Return how rows become the model's input; None for a model of images."""
    before = manifest.preprocessing
    return before if isinstance(before, TablePreprocessing) else None


def read_json_rows(values: Any, key: str, max_rows: int) -> RowPayload:
    """Read `{key: [row, ...], "parameters": {...}}`, or the list alone.

    Args:
        values: What the JSON holds.
        key: `rows` of /predict, `instances` of v1.
        max_rows: Most of a request.

    Raises:
        RequestError: It is not that.
        TooLargeError: It holds too many rows.
    """
    if isinstance(values, list):
        values = {key: values}
    rows = values.get(key) if isinstance(values, dict) else None
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"expected JSON such as {FORM.replace('rows', key)} with at least one row")
    if unknown := sorted(set(values) - {key, "parameters"}):
        raise RequestError(f"unknown keys {', '.join(unknown)[:80]}; expected {key} and parameters")
    parameters = values.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError(f"parameters: expected an object, got {type(parameters).__name__}")
    _check_count(len(rows), max_rows)
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RequestError(f"{key}[{place}]: expected an object of columns and values, got {type(row).__name__}")
    return RowPayload(rows, parameters or {})


async def read_arrow(body: bytes, max_rows: int) -> RowPayload:
    """Read an Arrow IPC stream.

    Raises:
        RequestError: It is none, or holds values of another kind.
        TooLargeError: It holds too many rows.
        RefusedError: pyarrow is not installed (415).
    """
    _require_arrow()
    from visionyard.data.tables.arrow_rows import rows_of_stream

    try:
        rows = await asyncio.to_thread(rows_of_stream, body, max_rows)
    except DataError as error:
        raise RequestError(str(error)) from None
    if not rows:
        raise RequestError("the Arrow stream holds no row; send at least one")
    _check_count(len(rows), max_rows)
    return RowPayload(rows, {})


async def arrow_answer(answers: Sequence[RowAnswer], classes: Sequence[str]) -> bytes:
    """Return answers as an Arrow IPC stream: class, class_id, confidence, probabilities (a list as long as classes).

    Raises:
        RefusedError: pyarrow is not installed (415).
    """
    _require_arrow()
    from visionyard.data.tables.arrow_rows import stream_of_probabilities

    probabilities = [answer.probabilities for answer in answers]
    return await asyncio.to_thread(stream_of_probabilities, probabilities, list(classes))


def read_columns(inputs: Sequence[InferInput], before: TablePreprocessing, max_rows: int) -> list[Row]:
    """Return the rows that a tensor for each column holds; null in JSON and NaN stand for a missing value.

    Raises:
        RequestError: A column is missing, unknown, or of another length than the first one.
        TooLargeError: They hold too many rows.
    """
    names = [column.name for column in before.columns]
    given = {one.name: one for one in inputs}
    lacking = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if lacking or unknown or len(given) < len(inputs):
        wrong = (
            f"{unknown[0][:64]!r} is no column" if unknown else f"column {lacking[0]!r} is missing" if lacking else ""
        )
        raise RequestError(
            f"inputs: {wrong or 'a column is given twice'}; expected a tensor each for {shown_columns(names)}"
        )
    values = {name: _values(given[name]) for name in names}
    counts = {name: len(column) for name, column in values.items()}
    count = counts[names[0]]
    if odd := [name for name in names if counts[name] != count]:
        raise RequestError(f"input {odd[0]!r} holds {counts[odd[0]]} values, {names[0]!r} {count}; expected as many")
    if not count:
        raise RequestError("the request holds no row; send at least one")
    _check_count(count, max_rows)
    return [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]


def describe_columns(before: TablePreprocessing) -> list[dict[str, Any]]:
    """Return a tensor for each column, as model metadata list inputs."""
    return [{"name": one.name, "datatype": _DATATYPES[one.type], "shape": [-1]} for one in before.columns]


def _values(given: InferInput) -> list[Any]:
    """Return what a tensor of a column holds: numbers, flags or texts."""
    shape = given.shape
    if not isinstance(shape, list) or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise RequestError(f"input {given.name!r}: shape {str(shape)[:80]}: expected [N] or [N, 1]")
    if given._raw_data is None and isinstance(given.data, list):
        values = [each for part in given.data for each in (part if isinstance(part, list) else [part])]
        if len(values) != shape[0]:
            raise RequestError(f"input {given.name!r}: shape {shape} has {shape[0]} elements, got {len(values)}")
    else:
        read = read_tensor(given)
        values = read if isinstance(read, list) else read.ravel().tolist()
    try:
        return [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        raise RequestError(f"input {given.name!r}: BYTES that are no UTF-8; expected texts") from None


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise TooLargeError(f"the request holds {count} rows; at most {most} are taken")


def _require_arrow() -> None:
    if find_spec("pyarrow") is None:
        raise wrong_encoding(
            f"{ARROW}: this server is installed without Arrow; send JSON, or install visionyard[serve,arrow]"
        )
