"""What the commands say of tables: check, models, bundle show, predict."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.fixtures.tiny_tables import table_text
from visionyard.cli.app import app
from visionyard.cli.check import find_problems
from visionyard.config import parse_run_config
from visionyard.errors import ConfigError, DataError
from visionyard.inference import Predictor
from visionyard.inference.paths import prediction_to_json


def told(tmp_path: Path, **values: Any) -> list[str]:
    source = tmp_path / "t.csv"
    source.write_text(table_text(20))
    data = {"source": str(source), "kind": "table", "target": "kind", **values.pop("data", {})}
    model = {"name": "tabular-classification", **values.pop("model", {})}
    return find_problems(parse_run_config({"data": data, "model": model, **values}))


def test_a_config_for_a_table_has_no_mistakes(tmp_path: Path) -> None:
    assert told(tmp_path, training={"epochs": 60}) == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"frames": {"rate_hz": 5}}, "frames.rate_hz = 5.0: not for tables: a table has no clips"),
        ({"frames": {"drop_blurred": True}}, "frames.drop_blurred = True: not for tables"),
        ({"frames": {"anonymize": {"model": "faces"}}}, "frames.anonymize.model = 'faces': not for tables: rows show"),
        ({"data": {"group_pattern": "(a)"}}, "data.group_pattern = '(a)': not for tables: name a group column"),
        ({"data": {"classes": ["a", "b"]}}, "data.classes = ['a', 'b']: not for tables: leave rows"),
        ({"data": {"near_duplicates": "report"}}, "data.near_duplicates = 'report': not for tables"),
        ({"training": {"image_size_px": 64}}, "training.image_size_px = 64: rows have no pixels"),
        ({"model": {"name": "torchvision-classification"}}, "'torchvision-classification': it learns from images, and"),
        ({"data": {"kind": "auto"}}, "'tabular-classification': it learns from tables, and data.kind is 'auto'"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:40],
)
def test_what_makes_no_sense_for_tables_is_told(values: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert any(problem in text for text in told(tmp_path, **values))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_plugin_is_listed_and_shown() -> None:
    assert "tabular-classification" in run("models")
    shown = run("models", "show", "tabular-classification")
    assert "hidden_values" in shown
    assert "table_classification" in shown


def test_a_bundle_of_a_table_is_shown_with_its_columns(table_bundle: Path) -> None:
    assert "x (numeric), count (numeric), colour (categorical), is_new (boolean)" in run("bundle", "show", table_bundle)


def test_rows_of_files_are_predicted(table_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    lines = ["colour,x,who,count,is_new", "red,3.5,ann,1,yes", "green,-3,bob,NA,no", "green,many,eve,1,no"]
    path.write_text("\n".join(lines) + "\n")
    records = [json.loads(line) for line in run("predict", table_bundle, path, "--json").splitlines() if line[0] == "{"]
    assert [record["row"] for record in records] == [1, 2, 3]
    assert [record.get("class") for record in records] == ["high", "low", None]
    assert records[2]["error"] == "column 'x': expected a number, got 'many'"
    assert sum(one["confidence"] for one in records[0]["top"]) == pytest.approx(1, abs=1e-4)
    (tmp_path / "parts").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "parts" / name).write_text(path.read_text())
    told = run("predict", table_bundle, tmp_path / "parts", "--json")
    records = [json.loads(line) for line in told.splitlines() if line[0] == "{"]
    places = [(Path(record["path"]).name, record["row"]) for record in records]
    assert places == [(name, row) for name in ("a.csv", "b.csv") for row in (1, 2, 3)]
    shown = run("predict", table_bundle, path)
    assert "high 0.9" in shown or "high 1.0" in shown
    assert "does not use who" in shown


def test_rows_of_parquet_are_read_as_a_training_reads_them(table_bundle: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "x": pa.array([Decimal("3.50"), None], pa.decimal128(8, 2)),
        "count": pa.array([1, 2], pa.int16()),
        "colour": pa.array([date(2024, 1, 1), None], pa.date32()),
        "is_new": pa.array([1.0, float("nan")]),
    }
    path = tmp_path / "new.parquet"
    parquet.write_table(pa.table(columns), path)
    found = [json.loads(line) for line in run("predict", table_bundle, path, "--json").splitlines() if line[0] == "{"]
    with Predictor.from_bundle(table_bundle) as predictor:
        rows = [{"x": 3.5, "count": 1, "colour": "2024-01-01", "is_new": True}]
        rows += [{"x": None, "count": 2, "colour": None, "is_new": None}]
        expected = [prediction_to_json(one, predictor.classes) for one in predictor.predict(rows)]
    assert [one["class"] for one in found] == [one["class"] for one in expected]
    assert [one["confidence"] for one in found] == pytest.approx([one["confidence"] for one in expected])


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("x,colour\n1,red\n", [], "it lacks count, is_new; the model needs x, count, colour, is_new"),
        ("x,count,colour,is_new\nq,1,red,no\n", [], "none of 1 rows could be read"),
        ("x,count,colour,is_new\n1,1,red,no\n", ["--out", "drawn"], "the predictions of rows are printed; leave --out"),
        (None, [], "no such file or folder"),
    ],
    ids=["columns", "no row", "--out", "no file"],
)
def test_files_that_do_not_fit_are_refused(
    text: str | None, options: list[str], match: str, table_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises((ConfigError, DataError), match=match):
        run("predict", table_bundle, path, *options)


def test_rows_for_a_model_of_images_are_refused(tiny_bundle: Any, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match=r"a model of images, and new\.csv holds rows"):
        run("predict", tiny_bundle("classification")[0], tmp_path / "new.csv")
