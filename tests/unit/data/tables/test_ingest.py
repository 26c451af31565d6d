"""From a CSV or Parquet file to a typed table."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.tables import TableIngestReport, ingest_table
from visionyard.errors import ConfigError, DataError

ROWS = [("1.5", "red", "yes", "a"), ("-2", "blue", "no", "b"), ("NA", "red", "yes", "a"), ("3e2", "", "no", "b")] * 6
HEADER = ("length", "colour", "wet", "kind")


def text(rows: Any = ROWS, header: Any = HEADER, delimiter: str = ",") -> str:
    return "\n".join(delimiter.join(row) for row in (header, *rows)) + "\n"


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def bring(tmp_path: Path, files: Mapping[str, str | bytes], target: str = "kind") -> TableIngestReport:
    return ingest_table(write(tmp_path / "in", files), tmp_path / "out", target_column=target)


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.ParquetFile(tmp_path / "out" / "table.parquet").read().to_pylist()
    return found


def noted(tmp_path: Path) -> dict[str, str]:
    return {problem.code: problem.item for problem in read_problems(tmp_path / "out")}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(text(), id="plain"),
        pytest.param(text(delimiter=";"), id="semicolons"),
        pytest.param(text(delimiter="\t"), id="tabs"),
        pytest.param("\ufeff" + text().replace("\n", "\r\n"), id="BOM, CRLF"),
        pytest.param(text().encode("utf-16"), id="UTF-16"),
        pytest.param(text([[f' "{cell}"'.strip() for cell in row] for row in ROWS]), id="quoted"),
        pytest.param(text(header=[f" {name} " for name in HEADER]), id="spaces in the header"),
    ],
)
def test_types_and_values(tmp_path: Path, content: str | bytes) -> None:
    report = bring(tmp_path, {"t.csv": content})
    assert [(column.name, column.type, column.missing_count) for column in report.schema.columns] == [
        ("length", "numeric", 6),
        ("colour", "categorical", 6),
        ("wet", "boolean", 0),
        ("kind", "categorical", 0),
    ]
    assert (report.row_count, report.schema.task, report.classes) == (24, "classification", ("a", "b"))
    assert rows(tmp_path)[:4] == [
        {"length": 1.5, "colour": "red", "wet": True, "kind": "a", "_split": None},
        {"length": -2.0, "colour": "blue", "wet": False, "kind": "b", "_split": None},
        {"length": None, "colour": "red", "wet": True, "kind": "a", "_split": None},
        {"length": 300.0, "colour": None, "wet": False, "kind": "b", "_split": None},
    ]
    manifest = read_manifest(tmp_path / "out", "sources")
    assert (manifest["kind"], manifest["task"], manifest["row_count"]) == ("table", "table", 24)
    assert noted(tmp_path) == {}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    columns = {
        "whole": pa.array([1, 2, None] * 8),
        "code": pa.array(["01", "02", "NA"] * 8).dictionary_encode(),
        "flag": pa.array([True, False, None] * 8),
        "number": pa.array([0.5, float("nan"), 2.0] * 8),
        "day": pa.array([0, 1, 2] * 8, pa.date32()),
        "list": pa.array([[1], [2], [3]] * 8),
    }
    (tmp_path / "in").mkdir()
    parquet.write_table(pa.table(columns), tmp_path / "in" / "t.parquet")
    report = bring(tmp_path, {}, target="whole")
    assert {column.name: column.type for column in report.schema.columns} == {
        "whole": "categorical",  # the target: few whole numbers are classes
        "code": "categorical",
        "flag": "boolean",
        "number": "numeric",
        "day": "categorical",
    }
    assert report.classes == ("1", "2")
    assert rows(tmp_path)[1] == {"whole": "2", "code": "02", "flag": False, "number": None, "day": "1970-01-02"} | {
        "_split": None
    }
    assert noted(tmp_path) == {"column_not_supported": "list", "row_without_target": "whole"}


@pytest.mark.parametrize("type_", [None, "numeric", "categorical", "boolean"])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pa.array([0, 1, None] * 8), id="whole numbers"),
        pytest.param(pa.array([0.0, 1.0, float("inf")] * 8), id="doubles"),
        pytest.param(pa.array([True, False, None] * 8), id="booleans"),
        pytest.param(pa.array(["0", "1.0", "+1"] * 8), id="texts"),
        pytest.param(pa.array([2**60, 2**61, 0] * 8), id="large numbers"),
    ],
)
def test_classes_are_named_as_they_are_stored(tmp_path: Path, values: Any, type_: str | None) -> None:
    given = f"columns: {{x: {{type: {type_}}}}}\n" if type_ else ""
    files = {"schema.yaml": f"{given}task: classification\ntarget: x"}
    write(tmp_path / "in", files)
    parquet.write_table(pa.table({"x": values, "y": pa.array(range(24))}), tmp_path / "in" / "t.parquet")
    report = bring(tmp_path, {}, target="")
    assert {row["x"] for row in rows(tmp_path)} == set(report.classes)
    assert len(report.classes) > 1


def test_texts_that_are_no_texts(tmp_path: Path) -> None:
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pa.py_buffer(b"\x80\x81ok"))
    (tmp_path / "in").mkdir()
    parquet.write_table(pa.table({"kind": texts}), tmp_path / "in" / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read as Parquet: .*UTF8"):
        bring(tmp_path, {})


def column(values: list[str]) -> str:
    return text([(value, "ab"[number % 2]) for number, value in enumerate(values)], ("x", "kind"))


@pytest.mark.parametrize(
    ("values", "expected", "code"),
    [
        pytest.param(["1", "2.5", "?"] * 10, "numeric", None, id="numbers"),
        pytest.param([*map(str, range(0, 90, 3)), "broken"], "numeric", "not_a_number", id="a stray text"),
        pytest.param(["00123", "00045"] * 9, "categorical", None, id="leading zeros"),
        pytest.param(["1,5", "2,25"] * 9, "categorical", "decimal_comma", id="decimal commas"),
        pytest.param(["True", "false"] * 9, "boolean", None, id="booleans"),
        pytest.param(["0", "1"] * 9, "numeric", None, id="0 and 1 are numbers"),
        pytest.param([f"person {number}" for number in range(60)], "text", "text_column", id="names"),
        pytest.param([str(number) for number in range(60)], "numeric", "column_like_an_id", id="counted rows"),
        pytest.param(["same"] * 9, "categorical", "constant_column", id="constant"),
        pytest.param(["NA"] * 9, "text", "constant_column", id="empty"),
        pytest.param(["nan", "inf", "1e5"] * 9, "categorical", None, id="infinity is no number"),
    ],
)
def test_types_follow_the_values(tmp_path: Path, values: list[str], expected: str, code: str | None) -> None:
    # Commas stand within cells: quoted.
    report = bring(tmp_path, {"t.csv": column([f'"{value}"' for value in values])})
    assert report.schema.columns[0].type == expected
    assert code is None or noted(tmp_path)[code] == "x"
    assert report.schema.columns[0].evidence


@pytest.mark.parametrize(
    ("target", "values", "task", "classes"),
    [
        pytest.param("x", ["0", "1"] * 9, "classification", ("0", "1"), id="two whole numbers"),
        pytest.param("x", ["1.0", "2"] * 9, "classification", ("1", "2"), id="1.0 is 1"),
        pytest.param("x", [f"{n}.5" for n in range(9)], "regression", (), id="fractions"),
        pytest.param("x", [str(n) for n in range(50)], "regression", (), id="many whole numbers"),
        pytest.param("x", ["Yes", "No"] * 9, "classification", ("No", "Yes"), id="booleans"),
    ],
)
def test_the_task_follows_the_target(
    tmp_path: Path, target: str, values: list[str], task: str, classes: tuple[str, ...]
) -> None:
    report = bring(tmp_path, {"t.csv": column(values)}, target=target)
    assert (report.schema.task, report.classes) == (task, classes)


@pytest.mark.parametrize(
    "schema", ["", "columns: {x: {type: numeric, min: 0}}\ntask: classification"], ids=["found", "given"]
)
def test_numbers_are_one_class_however_they_are_written(tmp_path: Path, schema: str) -> None:
    files = {"t.csv": column(["0", "1.0", "+1", "0.0"] * 9 + ["unknown"]), "schema.yaml": schema}
    report = bring(tmp_path, files, target="x")
    assert (report.classes, report.row_count) == (("0", "1"), 36)
    assert [row["x"] for row in rows(tmp_path)[:4]] == ["0", "1", "1", "0"]
    assert noted(tmp_path)["row_without_target"] == "x"


def test_more_categories_than_are_counted_are_refused(tmp_path: Path) -> None:
    content = column([f"v{number}" for number in range(10_001)])
    files = {"t.csv": content, "schema.yaml": "columns: {x: {type: categorical}}"}
    with pytest.raises(ConfigError, match=r"columns\.x\.type = 'categorical': it has more than 10000 different values"):
        bring(tmp_path, files)


@pytest.mark.parametrize("is_parquet", [False, True], ids=["CSV", "Parquet"])
def test_infinite_numbers_are_missing_and_told(tmp_path: Path, is_parquet: bool) -> None:
    numbers = ["1.5", "1e999", "-1e999", "2.5"] * 6
    files = {} if is_parquet else {"t.csv": column(numbers)}
    write(tmp_path / "in", {}).mkdir(exist_ok=True)
    if is_parquet:
        values = {"x": pa.array(map(float, numbers)), "kind": pa.array(["a", "b"] * 12)}
        parquet.write_table(pa.table(values), tmp_path / "in" / "t.parquet")
    bring(tmp_path, files)
    assert [row["x"] for row in rows(tmp_path)[:4]] == [1.5, None, None, 2.5]
    (told,) = [each for each in read_problems(tmp_path / "out") if each.code == "infinite_number"]
    assert (told.item, told.message) == ("x", "12 of 24 values are infinite; taken as missing")


def test_texts_that_name_no_split_are_told(tmp_path: Path) -> None:
    content = column(["train", "holdout", "test", "NA"] * 6)
    bring(tmp_path, {"t.csv": content, "schema.yaml": "split: x"})
    assert [row["_split"] for row in rows(tmp_path)[:4]] == ["train", None, "test", None]
    (told,) = [each for each in read_problems(tmp_path / "out") if each.code == "unknown_split"]
    assert told.item == "x"
    assert told.message.startswith("6 rows are of 'holdout', which is none of train, val and test")


SCHEMA = """
target: kind
group: colour
ignore: [wet]
missing: ["NA"]
columns:
  length: {type: numeric, min: 0}
  colour: {type: categorical, values: [red]}
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [("schema.yaml", SCHEMA), ("t.schema.yml", SCHEMA), ("schema.json", '{"target": "kind", "ignore": ["wet"]}')],
)
def test_a_schema_file_is_taken(tmp_path: Path, name: str, content: str) -> None:
    report = bring(tmp_path, {"t.csv": text(), name: content}, target="")
    roles = {column.name: column.role for column in report.schema.columns}
    assert roles == {
        "length": "feature",
        "colour": "group" if content is SCHEMA else "feature",
        "wet": "ignored",
        "kind": "target",
    }
    if content is SCHEMA:
        assert [row["length"] for row in rows(tmp_path)[:4]] == [1.5, None, None, 300.0]
        assert [row["colour"] for row in rows(tmp_path)[:4]] == ["red", None, "red", None]
        found = {(p.code, p.item): p.message for p in read_problems(tmp_path / "out")}
        assert found["value_not_allowed", "length"].startswith("6 values break the schema file's rules")
        assert found["value_not_allowed", "colour"].startswith("12 values")


@pytest.mark.parametrize(
    ("schema", "target", "expected"),
    [
        pytest.param("tagret: kind", "", ["schema.yaml: tagret: unknown key"], id="unknown key"),
        pytest.param(
            "columns: {length: {type: number}, wet: {type: boolean, values: [a]}}",
            "kind",
            ["schema.yaml: columns.length.type = 'number': input should be", "values are for type categorical"],
            id="all mistakes at once",
        ),
        pytest.param(
            "columns: {length: {type: numeric, min: 2, max: 1}}", "kind", ["min 2 is above max 1"], id="bounds"
        ),
        pytest.param("group: kind\ntarget: kind", "", ["kind: a column is either target, group"], id="two roles"),
        pytest.param("group: kind", "kind", ["'kind' is the target, so it is neither"], id="target as group"),
        pytest.param(
            "group: gone\nignore: [away]\ntarget: kind",
            "",
            ["group: there is no column 'gone' in t.csv", "ignore: there is no column 'away'"],
            id="columns that are not there",
        ),
        pytest.param("target: wet", "kind", ["data.target = 'kind': the schema file says 'wet'"], id="two targets"),
        pytest.param(
            "", "", ["data.target: a table needs the column to be learnt; t.csv has length, colour"], id="none"
        ),
        pytest.param("", "knid", ["target: there is no column 'knid' in t.csv"], id="target misspelt"),
        pytest.param(
            "task: regression", "kind", ["'kind' is categorical; expected numbers"], id="regression of classes"
        ),
        pytest.param("- a", "kind", ["schema.yaml: expected sections"], id="a list"),
        pytest.param("a: [", "kind", ["schema.yaml: not valid YAML"], id="no YAML"),
    ],
)
def test_mistakes_in_schema_and_target(tmp_path: Path, schema: str, target: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        bring(tmp_path, {"t.csv": text(), "schema.yaml": schema}, target)
    assert len(error.value.problems) == len(expected)
    assert all(part in problem for part, problem in zip(expected, error.value.problems)), error.value.problems
    assert not (tmp_path / "out").exists()


def test_several_files_are_one_table_with_published_splits(tmp_path: Path) -> None:
    other = text([row[::-1] for row in ROWS[:4]], HEADER[::-1])
    report = bring(tmp_path, {"train.csv": text(), "sub/test.csv": other})
    assert report.row_count == 28
    found = rows(tmp_path)
    assert [row["_split"] for row in found] == ["test"] * 4 + ["train"] * 24
    assert found[0] == {"length": 1.5, "colour": "red", "wet": True, "kind": "a", "_split": "test"}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        pytest.param({"a.txt": "x"}, r"in: expected a table, a CSV, TSV or Parquet file; found none", id="none"),
        pytest.param({"a.csv": "a,b\n1,2", "b.csv": "a,c\n1,2"}, r"a\.csv and b\.csv have different columns", id="two"),
        pytest.param({"a.csv": "a,a\n1,2"}, r"a\.csv: the column 'a' is empty or stands there twice", id="twice"),
        pytest.param({"a.csv": "kind,\n1,2"}, r"a\.csv: the column '' is empty", id="nameless"),
        pytest.param({"a.csv": ""}, r"a\.csv: its first line is empty", id="empty"),
        pytest.param({"a.csv": b"kind\0"}, r"a\.csv: holds zero bytes", id="binary"),
        pytest.param({"a.parquet": b"PAR1 no"}, r"a\.parquet: cannot be read as Parquet", id="no Parquet"),
        pytest.param({"a.csv": "kind,_split\n1,2"}, r"a\.csv: the column name '_split' is Visionyard's own", id="ours"),
        pytest.param(
            {"a.csv": "kind,b\nNA,2\n"}, r"in: no row has a value of the target 'kind'|no type|texts", id="no target"
        ),
    ],
)
def test_refused(tmp_path: Path, files: dict[str, str | bytes], match: str) -> None:
    with pytest.raises((DataError, ConfigError), match=match):
        bring(tmp_path, files)
    assert not (tmp_path / "out").exists()


def test_rows_of_another_width_are_left_out_and_told(tmp_path: Path) -> None:
    report = bring(tmp_path, {"t.csv": text() + "1,2\n" + "1,2,3,4,5\n"})
    assert report.row_count == 24
    found = [(p.code, p.item) for p in read_problems(tmp_path / "out")]
    assert found == [("malformed_line", "line 26"), ("malformed_line", "line 27")]


def test_links_that_lead_outside_are_left_out(tmp_path: Path) -> None:
    secret = write(tmp_path / "outside", {"secret.csv": text(), "schema.yaml": "target: wet"})
    folder = write(tmp_path / "in", {"t.csv": text()})
    (folder / "u.csv").symlink_to(secret / "secret.csv")
    (folder / "schema.yaml").symlink_to(secret / "schema.yaml")
    report = ingest_table(folder, tmp_path / "out", target_column="kind")
    assert (report.row_count, report.schema.target.name) == (24, "kind")
    assert {problem.code for problem in read_problems(tmp_path / "out")} == {"link_left_out"}


def test_same_table_same_digest(tmp_path: Path) -> None:
    first = bring(tmp_path, {"t.csv": text()})
    assert bring(tmp_path, {"t.csv": text()}).digest == first.digest
    assert bring(tmp_path, {"t.csv": text(ROWS[1:])}).digest != first.digest


def test_penguins(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("palmerpenguins")
    report = ingest_table(folder / "penguins.csv", tmp_path / "out", target_column="species")
    assert (report.row_count, report.classes, report.problem_count) == (344, ("Adelie", "Chinstrap", "Gentoo"), 0)
    types = {column.name: (column.type, column.missing_count) for column in report.schema.features}
    assert types == {
        "island": ("categorical", 0),
        "bill_length_mm": ("numeric", 2),
        "bill_depth_mm": ("numeric", 2),
        "flipper_length_mm": ("numeric", 2),
        "body_mass_g": ("numeric", 2),
        "sex": ("categorical", 11),
        "year": ("numeric", 0),
    }
    raw = ingest_table(folder / "penguins_raw.csv", tmp_path / "raw", target_column="Species")
    assert {(p.code, p.item) for p in read_problems(tmp_path / "raw")} == {
        ("constant_column", "Region"),
        ("constant_column", "Stage"),
        ("text_column", "Individual ID"),
    }
    assert raw.row_count == 344
    with pytest.raises(DataError, match=r"penguins\.csv and penguins_raw\.csv have different columns"):
        ingest_table(folder, tmp_path / "both", target_column="species")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200), st.one_of(st.binary(max_size=12), st.text(max_size=8).map(str.encode)), st.booleans())
def test_altered_files_are_read_or_refused_by_name(tmp_path: Path, at: int, inserted: bytes, is_parquet: bool) -> None:
    data = text().encode()
    name = "t.parquet" if is_parquet else "t.csv"
    if is_parquet:
        buffer = pa.BufferOutputStream()
        parquet.write_table(pa.table({name: [row[at] for row in ROWS] for at, name in enumerate(HEADER)}), buffer)
        data = buffer.getvalue().to_pybytes()
    altered = data[:at] + inserted + data[at + len(inserted) :]
    try:
        bring(tmp_path, {name: altered})
    except (DataError, ConfigError) as error:
        assert name in str(error) or "kind" in str(error)
    for path in (tmp_path / "in").iterdir():
        path.unlink()


def test_the_report_says_what_the_stage_shows(tmp_path: Path) -> None:
    report = bring(tmp_path, {"t.csv": text()})
    assert list(report.figures())[:2] == ["row_count", "problem_count"]
    assert json.loads(json.dumps(report.metadata()))["classes"] == "a, b"
