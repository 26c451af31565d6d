"""Rows as an Arrow IPC stream, and answers as one: what a model server takes and gives beside JSON.

A stream comes from outside. Arrow itself allocates what a compressed buffer says it will unfold to, and believes what
offsets say; so compressed streams are refused before Arrow reads them and every batch is validated in full. Columns may
share their bytes, and rows a long text of a dictionary; so cells are counted by the bytes that came, and texts shared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionyard.data.tables.arrow_messages import is_compressed
from visionyard.errors import DataError
from visionyard.transforms import Row

# A cell takes four bytes or more, but for flags; a small request may hold many of those.
_BYTES_A_CELL, _FEW_CELLS = 4, 1_000_000
_LONGEST_TEXT = 10_000


def rows_of_stream(body: bytes, max_rows: int) -> list[Row]:
    """Return the rows of a stream; of more than `max_rows` one more than that, which tells that there are too many.

    Raises:
        DataError: It is no Arrow IPC stream, damaged, compressed, or has a column of another kind; names the column.
    """
    import pyarrow as pa
    from pyarrow import ipc

    rows: list[Row] = []
    cell_count = 0
    try:
        if is_compressed(body):
            raise DataError("the Arrow stream is compressed, which is not taken; write it without compression")
        with ipc.open_stream(pa.BufferReader(body)) as reader:
            _check_schema(reader.schema)
            names = reader.schema.names
            for batch in reader:
                batch.validate(full=True)
                held = batch.slice(0, max_rows + 1 - len(rows))
                cell_count += held.num_rows * held.num_columns
                if cell_count > max(_FEW_CELLS, len(body) // _BYTES_A_CELL):
                    raise DataError(
                        f"the Arrow stream has {cell_count} cells in {len(body)} bytes; expected its own each"
                    )
                columns = [_values(column, name) for column, name in zip(held.columns, names, strict=True)]
                rows += [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
                if len(rows) > max_rows:
                    break
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"the body is no Arrow IPC stream that can be read: {reason}") from None
    return rows


def stream_of_probabilities(probabilities: Sequence[np.ndarray], classes: Sequence[str]) -> bytes:
    """Return answers as a stream: class, class_id, confidence, and probabilities in the order of the classes.

    Args:
        probabilities: (C,) float32 of each row.
        classes: C names.
    """
    import pyarrow as pa
    from pyarrow import ipc

    scores = np.stack(probabilities).astype(np.float32)
    ids = scores.argmax(axis=1).astype(np.int32)
    table = pa.table(
        {
            "class": pa.array([classes[index] for index in ids.tolist()], pa.string()),
            "class_id": pa.array(ids),
            "confidence": pa.array(scores.max(axis=1)),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), len(classes)),
        }
    )
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _values(column: Any, name: str) -> list[Any]:
    """Return the values of a column; those of a dictionary are one object each, however often they occur."""
    import pyarrow as pa
    from pyarrow import compute as pc

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    if pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type):
        longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
        if longest > _LONGEST_TEXT:
            raise DataError(f"column {name[:40]!r}: a category of {longest} bytes; at most {_LONGEST_TEXT} are taken")
    known = column.dictionary.to_pylist()
    return [None if index is None else known[index] for index in column.indices.to_pylist()]


def _check_schema(schema: Any) -> None:
    import pyarrow as pa

    if not schema.names or len(set(schema.names)) < len(schema.names):
        raise DataError("the Arrow stream has no column, or one twice; expected each of the model's once")
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (is_text or is_number or pa.types.is_boolean(kind)):
            raise DataError(
                f"column {field.name[:40]!r} of the Arrow stream: expected numbers, texts or booleans, got {field.type}"
            )
