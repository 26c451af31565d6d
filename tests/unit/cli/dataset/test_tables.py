"""Tables by the dataset commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import ConfigError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "plants.csv"
    rows = [f"{'rose' if n % 3 else 'oak'},{'' if n == 5 else 10 + n},{'red' if n % 2 else 'green'}" for n in range(30)]
    path.write_text("kind,height_cm,colour\n" + "\n".join(rows) + "\n")
    return path


def test_a_table_is_told_by_columns_and_classes(dataset_command: Any, table: Path):
    told = dataset_command("inspect", table, "--format", "table", "--target", "kind").stdout
    assert "classification of kind, 30 rows, 3 columns" in told
    assert "green (15), red (15)" in told
    values = json.loads(dataset_command("inspect", table, "--format", "table", "--target", "kind", "--json").stdout)
    assert values["rows"] == {"none": 30}
    assert values["classes"] == {"oak": {"none": 10}, "rose": {"none": 20}}
    height = values["columns"][1]
    assert (height["missing_count"], height["lowest"], height["highest"]) == (1, 10.0, 39.0)
    assert height["mean"] == pytest.approx((sum(range(10, 40)) - 15) / 29)


def test_a_table_is_checked(dataset_command: Any, table: Path):
    arguments = ("check", table, "--format", "table", "--target", "kind")
    done = dataset_command(*arguments)
    assert done.exit_code == 0
    assert "30 of 30 rows can be used" in done.stdout
    table.write_text(table.read_text() + "oak,11,red\nrose,11,red\n")
    done = dataset_command(*arguments)
    assert done.exit_code == 1
    assert "conflicting_labels" in done.stdout


def test_what_does_not_fit_a_table_is_refused(dataset_command: Any, table: Path, tmp_path: Path):
    options = ("--format", "table", "--target", "kind")
    with pytest.raises(ConfigError, match="needs the column to be learnt"):
        dataset_command("inspect", table, "--format", "table")
    with pytest.raises(ConfigError, match=r"--html .*is a table, which has no pictures"):
        dataset_command("inspect", table, *options, "--html", tmp_path / "page.html")
    with pytest.raises(ConfigError, match=r"--target kind: it is of a table; add --format table"):
        dataset_command("check", table, "--target", "kind")
    with pytest.raises(ConfigError, match="this command takes images"):
        dataset_command("convert", table, "--format", "table", "--to", "csv", "--out", tmp_path / "x")
