"""The plugin of tables: what it builds, learns and refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from visionyard.config import ModelConfig, TrainingConfig
from visionyard.data.tables import TableDataset
from visionyard.errors import ConfigError
from visionyard.evaluation import read_metrics
from visionyard.inference import Predictor
from visionyard.models import TrainingPlan, get_plugin
from visionyard.models.tabular.encoded import EncodedRows
from visionyard.models.tabular.network import TabularResNet
from visionyard.models.tabular.plugin import _HideValues
from visionyard.training import load_checkpoint, load_trained_model, make_plan
from visionyard.training import session as session_module
from visionyard.training.validate import validate_model

NAME = "tabular-classification"


def _plan(dataset: TableDataset, preset: str = "") -> TrainingPlan:
    from dataclasses import replace

    plan = make_plan(
        ModelConfig(name=NAME, preset=preset), TrainingConfig(), task=dataset.learns, classes=dataset.classes
    )
    return replace(plan, architecture=get_plugin(NAME).fitted(dataset))


def test_every_preset_builds_and_infers(table_dataset: Path) -> None:
    dataset, plugin = TableDataset(table_dataset), get_plugin(NAME)
    rows = [sample.row for sample in dataset.samples("test")]
    for preset in plugin.info.presets:
        plan = _plan(dataset, preset)
        trained = plugin.load(plan, plugin.build(plan).state_dict())
        found = Predictor.from_model(trained).predict(rows, batch_size=len(rows))
        assert len(found) == len(rows)
        assert all(one.probabilities.sum() == pytest.approx(1, abs=1e-5) for one in found)


@pytest.mark.parametrize(("numbers", "ids"), [(3, []), (0, [4, 3]), (2, [5])], ids=["numbers", "ids", "both"])
def test_a_table_may_have_numbers_or_categories_alone_and_ids_beyond_are_held(numbers: int, ids: list[int]) -> None:
    torch.manual_seed(0)
    network = TabularResNet(
        number_count=numbers, id_counts=ids, class_count=2, width=8, depth=1, embedding_size=4, dropout=0.1
    ).eval()
    rows = torch.zeros(2, 2 * numbers + len(ids))
    last = torch.tensor([float(count - 1) for count in ids])
    rows[0, 2 * numbers :], rows[1, 2 * numbers :] = last, last + 1000
    with torch.inference_mode():
        scores = network(rows)
    assert scores.shape == (2, 2)
    torch.testing.assert_close(scores[0], scores[1])


def test_hidden_values_look_as_if_missing_or_not_seen(table_dataset: Path) -> None:
    spec = get_plugin(NAME).specs(_plan(TableDataset(table_dataset)), torch.nn.Identity())[0]
    row = {"x": 1.0, "count": 3, "colour": "red", "is_new": True}
    encoded = spec.apply(row)[0]
    torch.manual_seed(0)
    all_hidden = torch.stack([_HideValues(spec, 0.999999)(encoded.copy()) for _ in range(40)])
    assert all_hidden[:, :4].unique(dim=0).tolist() == [[0, 0, 1, 1]]
    assert sorted(all_hidden[:, 4].unique().tolist()) == [0, 1]
    np.testing.assert_array_equal(_HideValues(spec, 0.0)(encoded.copy()).numpy(), encoded)
    some = torch.stack([_HideValues(spec, 0.25)(encoded.copy()) for _ in range(400)])
    assert 0.15 < float(some[:, 2].mean()) < 0.35


def test_rows_are_encoded_once_as_the_spec_says(table_dataset: Path, tmp_path: Path) -> None:
    dataset = TableDataset(table_dataset)
    spec = get_plugin(NAME).specs(_plan(dataset), torch.nn.Identity())[0]
    rows = EncodedRows(dataset, spec, tmp_path)
    for split in ("train", "val"):
        assert rows.count(split) == dataset.count(split)
        for position, sample in enumerate(dataset.samples(split)):
            encoded = rows.sample(split, position)
            np.testing.assert_array_equal(rows.content(encoded), spec.apply(sample.row)[0])
            assert encoded.class_ids.tolist() == sample.class_ids.tolist()


def test_what_is_of_images_is_refused() -> None:
    model = ModelConfig(name=NAME, weights="old.pt", options={"flip_horizontal": 0.5})
    with pytest.raises(ConfigError) as caught:
        make_plan(model, TrainingConfig(image_size_px=64), task="classification", classes=["a", "b"])
    told = "\n".join(caught.value.problems)
    for words in (
        "it learns table_classification, but the data is labelled for classification; choose torchvision",
        "model.options.flip_horizontal: unknown key",
        "training.image_size_px = 64: rows have no pixels",
        "model.weights = 'old.pt': tabular-classification takes none: columns",
    ):
        assert words in told
    with pytest.raises(ConfigError, match="no plugin learns numbers of a table: make classes of the target"):
        make_plan(ModelConfig(name=NAME), TrainingConfig(), task="table_regression", classes=[])


def test_it_learns_the_table(table_checkpoint: Path, table_dataset: Path, tmp_path: Path) -> None:
    trained, info = load_trained_model(table_checkpoint)
    assert (info.plan.preset, info.plan.image_size_px, trained.classes) == ("small", 0, ["high", "low"])
    report = validate_model(
        table_checkpoint, table_dataset, tmp_path / "evaluation", confidence_threshold=0.25, iou_threshold=0.5
    )
    dataset = TableDataset(table_dataset)
    assert report.image_count == dataset.count("test")
    frequent = max(np.bincount([sample.class_ids[0] for sample in dataset.samples("test")])) / report.image_count
    assert report.metric_value > frequent + 0.15
    assert read_metrics(tmp_path / "evaluation")["task"] == "classification"


class _KilledError(BaseException):
    """Stands for a process that ends without a word."""


def test_a_killed_training_goes_on_and_ends_bit_for_bit_the_same(
    table_dataset: Path, train_table: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_table(table_dataset, tmp_path / "whole", epochs=4)
    real = session_module.Session.epoch_done

    def epoch_done(self: session_module.Session, **values: object) -> bool:
        is_enough = real(self, **values)  # type: ignore[arg-type]
        if values["epoch"] == 2:
            raise _KilledError
        return is_enough

    with monkeypatch.context() as patch:
        patch.setattr(session_module.Session, "epoch_done", epoch_done)
        with pytest.raises(_KilledError):
            train_table(table_dataset, tmp_path / "killed", epochs=4)
    resumed = train_table(table_dataset, tmp_path / "killed", epochs=4)
    first, second = (
        load_checkpoint((folder / "checkpoint.pt").read_bytes(), name="")["weights"] for folder in (whole, resumed)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    histories = [json.loads((folder / "training.json").read_text())["history"] for folder in (whole, resumed)]
    assert histories[0] == histories[1]
