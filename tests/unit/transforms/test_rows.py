"""Rows of a table become a model's input by one spec, whoever sends them."""

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from visionyard.errors import ConfigError, DataError
from visionyard.transforms import Preprocessing, PreprocessingSpec, TablePreprocessing
from visionyard.transforms.rows import BooleanColumn, CategoryColumn, NumericColumn
from visionyard.transforms.specs import require_images

SPEC = TablePreprocessing(
    columns=[
        NumericColumn(name="size", mean=2.0, scale=2.0, minimum=0.0, maximum=1e6),
        CategoryColumn(name="code", values=["1", "blue"]),
        NumericColumn(name="other", mean=0.0, scale=1.0),
        BooleanColumn(name="is_new"),
    ],
    missing=["NA", "-"],
)
ROW: dict[str, Any] = {"size": 4, "code": "blue", "other": -1.5, "is_new": True}
# As above: two numbers, two missing marks, two ids.
ENCODED = [1.0, -1.5, 0.0, 0.0, 3.0, 3.0]


def test_numbers_are_standardised_and_categories_become_ids() -> None:
    batch, placements = SPEC.apply_all([ROW, dict.fromkeys(ROW)])
    assert (batch.dtype, batch.shape, len(placements)) == (np.float32, (2, *SPEC.input_shape), 2)
    assert batch.tolist() == [ENCODED, [0, 0, 1, 1, 0, 0]]
    np.testing.assert_array_equal(SPEC.apply(ROW)[0], batch[0])
    assert SPEC.apply_all([])[0].shape == (0, 6)


@pytest.mark.parametrize(
    ("column", "value", "place", "expected"),
    [
        ("size", "4", 0, 1.0),
        ("size", " +4.0e0 ", 0, 1.0),
        ("size", "NA", 2, 1.0),
        ("size", "", 2, 1.0),
        ("size", math.nan, 2, 1.0),
        ("size", math.inf, 2, 1.0),
        ("size", 10**400, 2, 1.0),
        ("size", "1e999", 2, 1.0),
        ("size", -0.1, 2, 1.0),
        ("size", 2e6, 2, 1.0),
        ("size", 5e5, 0, 10.0),
        ("other", -1.7e308, 1, -10.0),
        ("other", 5e-324, 1, 0.0),
        ("code", 1, 4, 2.0),
        ("code", 1.0, 4, 2.0),
        ("code", " blue ", 4, 3.0),
        ("code", "green", 4, 1.0),
        ("code", 10**30, 4, 1.0),
        ("code", True, 4, 1.0),
        ("code", "-", 4, 0.0),
        ("code", math.nan, 4, 0.0),
        ("is_new", "YES", 5, 3.0),
        ("is_new", 0, 5, 2.0),
        ("is_new", "f", 5, 2.0),
        ("is_new", "", 5, 0.0),
        ("is_new", 1.0, 5, 3.0),
        ("is_new", math.nan, 5, 0.0),
    ],
    ids=str,
)
def test_values_are_read_as_in_a_file(column: str, value: Any, place: int, expected: float) -> None:
    encoded = SPEC.apply({**ROW, column: value})[0]
    assert encoded[place] == pytest.approx(expected, abs=1e-6)
    assert np.isfinite(encoded).all()
    # Beside other kinds of values it is read as it is alone.
    np.testing.assert_array_equal(SPEC.apply_all([ROW, {**ROW, column: value}])[0][1], encoded)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({**ROW, "size": "four"}, "row 1: column 'size': expected a number, got 'four'"),
        ({**ROW, "size": "1_000"}, "expected a number, got '1_000'"),
        ({**ROW, "size": "٤"}, "expected a number"),
        ({**ROW, "size": True}, "expected a number, got True"),
        ({**ROW, "size": [[1]]}, "expected a number, got a list"),
        ({**ROW, "code": {"a": 1}}, "column 'code': expected a text, got a dict"),
        ({**ROW, "is_new": "maybe"}, "column 'is_new': expected true or false, got 'maybe'"),
        ({**ROW, "is_new": 0.5}, "expected true or false, got 0.5"),
        ({**ROW, "size": "9" * 100 + "x"}, "got '9{39}"),
        ({"size": 1, "code": "1", "is_new": True}, "row 1: the column 'other' is missing; give null"),
        ({**ROW, "colour": 1}, "row 1: there is no column 'colour'; the columns are size, code, other, is_new"),
    ],
    ids=str,
)
def test_rows_that_do_not_fit_are_refused_with_row_column_and_value(row: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        SPEC.apply_all([ROW, row])


def test_a_row_is_sent_as_json() -> None:
    assert SPEC.decode(json.dumps(ROW).encode()) == ROW
    for text, match in ((b"[1]", "got list"), (b"{", "expected a row as JSON")):
        with pytest.raises(DataError, match=match):
            SPEC.decode(text)
    assert SPEC.apply(SPEC.neutral())[0].tolist() == [0, 0, 1, 1, 0, 0]


def test_specs_are_told_apart_and_come_back_as_they_were() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Preprocessing)
    image = PreprocessingSpec(resize="stretch", size_hw=(4, 6), interpolation="bilinear")
    for spec in (SPEC, image):
        assert adapter.validate_json(adapter.dump_json(spec)) == spec
    assert "kind" not in image.model_dump(), "bundles of images are written as before there were tables"
    assert (image.input_shape, image.neutral().shape) == ((3, 4, 6), (4, 6, 3))
    require_images(image)
    with pytest.raises(ConfigError, match=r"rows of a table \(columns size, code, other, is_new"):
        require_images(SPEC)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ([], "at least 1 item"),
        ([{"type": "boolean", "name": "a"}, {"type": "boolean", "name": "a"}], "'a' stands there twice"),
        ([{"type": "categorical", "name": "a", "values": ["b", "b"]}], "listed twice"),
        ([{"type": "numeric", "name": "a", "mean": 0, "scale": 0}], "greater than 0"),
        ([{"type": "numeric", "name": "a", "mean": math.inf, "scale": 1}], "finite"),
        ([{"type": "text", "name": "a"}], "does not match any of the expected tags"),
    ],
    ids=["none", "name twice", "value twice", "scale 0", "infinite", "type"],
)
def test_a_spec_that_cannot_be_honoured_is_refused(columns: list[Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TablePreprocessing.model_validate({"kind": "table", "columns": columns})
