"""A table's dataset version as training reads it, and what is fitted on its train split."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.tiny_tables import COLUMNS, prepare_text, table_text
from visionyard.data.opening import open_folder
from visionyard.data.tables import TableDataset
from visionyard.data.tables.fitting import fit_preprocessing
from visionyard.errors import ArtifactError, DataError
from visionyard.transforms.rows import CategoryColumn, NumericColumn


def test_rows_are_read_in_order_and_by_place(table_dataset: Path) -> None:
    dataset = open_folder(table_dataset)
    assert isinstance(dataset, TableDataset)
    assert (dataset.item, dataset.task, dataset.learns) == ("row", "classification", "table_classification")
    samples = list(dataset.samples("test"))
    assert len(samples) == dataset.count("test")
    for position, sample in enumerate(samples):
        placed = dataset.sample("test", position)
        assert (placed.key, placed.row, placed.group) == (sample.key, sample.row, sample.group)
    assert list(samples[0].row) == COLUMNS, "neither the target nor the note is a feature"
    assert json.loads(dataset.content_bytes(samples[0])) == dataset.content(samples[0])
    truth = dataset.table("test").column("kind").to_pylist()
    assert [dataset.classes[sample.class_ids[0]] for sample in samples] == truth
    assert len({sample.sha256 for sample in samples}) == len({json.dumps(sample.row) for sample in samples})
    with pytest.raises(IndexError, match="rows, asked for position -1"):
        dataset.sample("test", -1)


def test_what_is_fitted_comes_from_the_train_split_alone(table_dataset: Path) -> None:
    dataset = TableDataset(table_dataset)
    spec = fit_preprocessing(dataset)
    assert [column.name for column in spec.columns] == COLUMNS
    train = dataset.table("train").column("x").drop_null().to_numpy()
    x = spec.columns[0]
    assert isinstance(x, NumericColumn)
    assert (x.mean, x.scale) == (pytest.approx(train.mean(), rel=1e-8), pytest.approx(train.std(), rel=1e-8))
    encoded = spec.apply_all([sample.row for sample in dataset.samples("train")])[0]
    present = encoded[encoded[:, 2] == 0, 0]
    assert (present.mean(), present.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    assert spec == fit_preprocessing(dataset)


def test_a_category_that_only_the_test_split_has_counts_as_not_seen(tmp_path: Path) -> None:
    lines = ["size,colour,subset,kind"]
    for number in range(40):
        subset = ("train", "train", "val", "test")[number % 4]
        lines.append(f"{number},{'gold' if subset == 'test' else 'red'},{subset},{'ab'[number // 4 % 2]}")
    schema = "split: subset\nmissing: ['', '-999']\ncolumns:\n  size: {type: numeric, min: 3, max: 30}\n"
    folder = prepare_text(tmp_path, "\n".join(lines) + "\n", schema=schema, mode="published")
    spec = fit_preprocessing(TableDataset(folder))
    size, colour = spec.columns
    assert isinstance(size, NumericColumn)
    assert isinstance(colour, CategoryColumn)
    assert (size.minimum, size.maximum, spec.missing) == (3.0, 30.0, ["", "-999"])
    assert colour.values == ["red"]
    seen, unseen = spec.apply_all([{"size": 10, "colour": "red"}, {"size": "-999", "colour": "gold"}])[0]
    assert (seen[1], seen[2], unseen[1], unseen[2]) == (0, 2, 1, 1)
    assert spec.apply({"size": 31, "colour": None})[0].tolist() == [0, 1, 0], "as the schema file said of such numbers"


def test_columns_without_numbers_or_of_one_value_can_be_scaled(tmp_path: Path) -> None:
    values = ["7", "NA", "1.7e308", "-1.7e308"]
    lines = ["same,none,huge,x,kind"]
    lines += [f"5,{'' if number else '3'},{values[number % 4]},{number},{'ab'[number % 2]}" for number in range(60)]
    dataset = TableDataset(prepare_text(tmp_path, "\n".join(lines) + "\n"))
    spec = fit_preprocessing(dataset)
    rows = [sample.row for split in ("train", "val", "test") for sample in dataset.samples(split)]
    assert np.isfinite(spec.apply_all(rows)[0]).all()
    assert all(np.isfinite([column.mean, column.scale]).all() for column in spec.numeric)


def test_a_table_without_a_feature_is_refused(tmp_path: Path) -> None:
    splits = ("train", "val", "test")
    lines = [f"this is the {number}th note,{splits[number % 3]},{'ab'[number % 2]}" for number in range(40)]
    text = "\n".join(["note,subset,kind", *lines]) + "\n"
    dataset = TableDataset(prepare_text(tmp_path, text, schema="split: subset\n", mode="published"))
    with pytest.raises(DataError, match="no column of the table is a feature"):
        fit_preprocessing(dataset)


def test_the_digest_of_a_table_of_before_is_the_same(tmp_path: Path) -> None:
    dataset = TableDataset(prepare_text(tmp_path, table_text(60)))
    assert "missing" not in dataset.info["schema"], "the usual marks are not told"
    assert all({"minimum", "maximum"}.isdisjoint(column) for column in dataset.info["schema"]["columns"])


def test_a_folder_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"dataset\.json"):
        open_folder(tmp_path)


def test_a_table_of_many_columns_is_opened_a_few_times_and_not_once_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    opened: list[object] = []

    class Counted(parquet.ParquetFile):  # type: ignore[misc]
        def __init__(self, *given: object, **named: object) -> None:
            opened.append(given)
            super().__init__(*given, **named)

    monkeypatch.setattr(parquet, "ParquetFile", Counted)
    names = [f"x{number}" for number in range(60)]
    rows = [[f"{(place * 7 + number) % 11}.5" for number in range(60)] + [["high", "low"][place % 2]]
            for place in range(40)]  # fmt: skip
    text = "\n".join(",".join(row) for row in [[*names, "kind"], *rows]) + "\n"
    spec = fit_preprocessing(TableDataset(prepare_text(tmp_path, text)))
    assert [column.name for column in spec.columns] == names
    assert len(opened) < len(names) / 4
