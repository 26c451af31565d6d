"""A table's model as a bundle: certified on real and odd rows, quick or slow by its own measure, told by its card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.tiny_tables import CLASSES, COLUMNS
from visionyard.benchmark import benchmark_model
from visionyard.data.tables import TableDataset
from visionyard.data.tables.schema import Column, TableSchema
from visionyard.errors import ParityError
from visionyard.export import export_model
from visionyard.export.formats import WRITERS, write_onnx
from visionyard.export.row_cases import odd_rows
from visionyard.inference import Bundle, Predictor
from visionyard.inference.batch import BatchSettings, predict_batch
from visionyard.training import load_trained_model
from visionyard.transforms import TablePreprocessing


def _export(checkpoint: Path, dataset: Path, target: Path, formats: list[str]) -> Any:
    return export_model(
        checkpoint,
        dataset,
        target,
        formats=formats,
        opset=18,
        score_tolerance=0.001,
        metric_tolerance=0.001,
        int8_metric_tolerance=0.1,
        metrics=None,
        name="rows",
    )


def test_the_bundle_answers_as_the_trained_model(
    table_bundle: Path, table_checkpoint: Path, table_dataset: Path
) -> None:
    manifest = Bundle.open(table_bundle).manifest
    assert (manifest.task, manifest.classes, manifest.plugin) == ("classification", CLASSES, "tabular-classification")
    assert (manifest.input.name, manifest.input.shape) == ("rows", [-1, 6])
    before = manifest.preprocessing
    assert isinstance(before, TablePreprocessing)
    assert [column.name for column in before.columns] == COLUMNS
    rows = [sample.row for sample in TableDataset(table_dataset).samples("test")]
    rows += [{"x": "2.5", "count": None, "colour": "never seen", "is_new": "no"}, dict.fromkeys(COLUMNS)]
    trained = Predictor.from_model(load_trained_model(table_checkpoint)[0]).predict(rows)
    for name in manifest.formats:
        with Predictor.from_bundle(table_bundle, name) as predictor:
            for ours, theirs in zip(predictor.predict(rows), trained, strict=True):
                np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)


def test_the_certificate_has_real_and_odd_rows(table_bundle: Path, table_dataset: Path) -> None:
    certificate = json.loads((table_bundle / "parity.json").read_text())
    assert certificate["is_passed"]
    for form in certificate["formats"].values():
        kinds = [row["kind"] for row in form["rows"]]
        assert set(kinds) == {"missing", "unseen", "huge", "negative", "tiny", "text", "real", "batch"}
        assert kinds.count("real") == min(64, TableDataset(table_dataset).count("test"))
    card = (table_bundle / "README.md").read_text()
    for words in (
        "tells the class of a table's row",
        "| `x` | numeric | mean",
        "| `colour` | categorical | blue,",
        "rows.csv",
    ):
        assert words in card
    assert "image" not in card


def test_odd_rows_of_a_table_of_numbers_alone_have_no_categories() -> None:
    schema = TableSchema("classification", (Column("a", "numeric", "feature", ""), Column("k", "text", "target", "")))
    kinds = dict(odd_rows(schema, {"a": 4.0}))
    assert set(kinds) == {"missing", "huge", "negative", "tiny", "text"}
    assert (kinds["text"], kinds["missing"]) == ({"a": "4"}, {"a": None})


def test_without_parity_there_is_no_bundle(
    table_checkpoint: Path, table_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(module: Any, shape: tuple[int, ...], folder: Path, **options: Any) -> Any:
        import torch

        with torch.no_grad():
            module.first.weight *= 1.05
            file = write_onnx(module, shape, folder, **options)
            module.first.weight /= 1.05
        return file

    monkeypatch.setitem(WRITERS, "onnx", wrong)
    with pytest.raises(ParityError, match=r"onnx: differs on \d+ of \d+ rows\n(.*\n)*.*test-0000"):
        _export(table_checkpoint, table_dataset, tmp_path / "bundle", ["torchscript", "onnx"])
    assert not (tmp_path / "bundle").exists()


def test_quicker_forms_are_certified_too(table_checkpoint: Path, table_dataset: Path, tmp_path: Path) -> None:
    report = _export(table_checkpoint, table_dataset, tmp_path / "bundle", ["onnx", "onnx-fp16", "onnx-int8"])
    assert set(report.formats) == {"onnx", "onnx-fp16", "onnx-int8"}
    assert report.certificate.is_passed


def test_speed_is_measured_on_rows(table_bundle: Path, table_dataset: Path, tmp_path: Path) -> None:
    report = benchmark_model(
        table_bundle, table_dataset, tmp_path / "speed", batch_sizes=[1, 4], threads=[1], repeat_count=5, warmup_count=1
    )
    assert {(one.format, one.batch_size) for one in report.measurements} == {
        (name, size) for name in ("onnx", "torchscript") for size in (1, 4)
    }
    table = (tmp_path / "speed" / "benchmark.md").read_text()
    assert "rows/s" in table
    assert "image" not in table


def test_what_is_for_images_refuses_it(table_bundle: Path, tmp_path: Path) -> None:
    from visionyard.errors import ConfigError
    from visionyard.inference.paths import predict_paths

    match = "looks at rows of a table"
    with Predictor.from_bundle(table_bundle, "onnx") as predictor, pytest.raises(ConfigError, match=match):
        list(predict_paths(predictor, [tmp_path / "a.png"]))
    with pytest.raises(ConfigError, match=match):
        predict_batch(table_bundle, [str(tmp_path)], str(tmp_path / "out"), BatchSettings())
    assert not (tmp_path / "out").exists()


def test_the_same_training_makes_the_same_bundle(
    train_table: Callable[..., Path], table_dataset: Path, tmp_path: Path
) -> None:
    digests = []
    for name in ("one", "two"):
        checkpoint = train_table(table_dataset, tmp_path / name, epochs=2)
        digests.append(_export(checkpoint, table_dataset, tmp_path / name / "bundle", ["onnx"]).bundle_digest)
    assert digests[0] == digests[1]
