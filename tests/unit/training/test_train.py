"""The training stage with its three plugins: it learns, its checkpoints survive, it resumes."""

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from visionyard.config import ModelConfig, TrainingConfig
from visionyard.data.dataset import Dataset
from visionyard.data.versions import push
from visionyard.errors import ArtifactError, ConfigError, DataError, ModelError, NotANumberError, StorageError
from visionyard.models import TrainingPlan, TrainingState
from visionyard.training import CheckpointStore, load_checkpoint, load_trained_model, train_model
from visionyard.training import session as session_module
from visionyard.training.checkpoint import CheckpointEntry
from visionyard.training.session import Session

SMALL = {
    "yolo-detection": ("yolo11n", "detection"),
    "yolo-classification": ("yolo11n-cls", "classification"),
    "torchvision-classification": ("mobilenet_v3_small", "classification"),
}


def _train(dataset: Path | str, folder: Path, name: str, *, epochs: int = 2, **settings: object):
    preset, _ = SMALL[name]
    return train_model(
        dataset,
        folder / "model",
        model=ModelConfig(name=name, preset=preset),
        training=TrainingConfig(epochs=epochs, image_size_px=64, batch_size=8, device="cpu", **settings),
        checkpoints_uri=str(folder / "checkpoints"),
    )


class _KilledError(BaseException):
    """Stands for a process that ends without a word."""


def _kill_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    real = session_module.Session.epoch_done

    def epoch_done(self, **values):
        is_enough = real(self, **values)
        if values["epoch"] == epoch:
            raise _KilledError
        return is_enough

    monkeypatch.setattr(session_module.Session, "epoch_done", epoch_done)


@pytest.mark.parametrize("name", SMALL)
def test_each_plugin_trains_and_its_checkpoint_infers(name: str, shapes_dataset: Callable[..., Path], tmp_path: Path):
    dataset = shapes_dataset(SMALL[name][1])
    report = _train(dataset, tmp_path, name)
    assert report.epoch_count == 2
    assert [row["epoch"] for row in report.history] == [1, 2]
    assert all(math.isfinite(value) for row in report.history for value in row.values())
    trained, info = load_trained_model(tmp_path / "model")
    assert info.dataset_digest == Dataset(dataset).digest
    assert info.digest == report.checkpoint_digest
    assert trained.classes == ["square", "disc"]
    tensor, placement = trained.preprocessing.apply(np.zeros((50, 70, 3), np.uint8))
    with torch.inference_mode():
        output = trained.module(torch.from_numpy(tensor[None]))
    assert trained.postprocessing.apply([output.numpy()], [placement])


@pytest.mark.parametrize("name", SMALL)
def test_a_killed_training_goes_on_and_ends_bit_for_bit_the_same(
    name: str, shapes_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = shapes_dataset(SMALL[name][1])
    whole = _train(dataset, tmp_path / "whole", name, epochs=3)
    with monkeypatch.context() as patch:
        _kill_after(patch, 1)
        with pytest.raises(_KilledError):
            _train(dataset, tmp_path / "killed", name, epochs=3)
    resumed = _train(dataset, tmp_path / "killed", name, epochs=3)
    assert resumed.history == whole.history
    first, second = (
        load_checkpoint((tmp_path / run / "model/checkpoint.pt").read_bytes(), name=run)["weights"]
        for run in ("whole", "killed")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_from_the_store_ends_bit_for_bit_like_one_from_the_folder(
    workers: int, shapes_dataset: Callable[..., Path], tmp_path: Path, s3: str
):
    dataset = shapes_dataset("classification")
    push(dataset, f"{s3}/sets", tag="shapes:v1")
    local = _train(dataset, tmp_path / "local", "torchvision-classification", loader_workers=workers)
    streamed = _train(
        f"{s3}/sets@shapes:v1", tmp_path / "streamed", "torchvision-classification", loader_workers=workers
    )
    assert streamed.history == local.history
    assert streamed.checkpoint_digest == local.checkpoint_digest


def test_a_finished_training_is_not_done_again(
    shapes_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = shapes_dataset("classification")
    first = _train(dataset, tmp_path, "torchvision-classification", epochs=1)
    _kill_after(monkeypatch, 1)
    assert _train(dataset, tmp_path, "torchvision-classification", epochs=1) == first


def test_other_settings_do_not_resume(shapes_dataset: Callable[..., Path], tmp_path: Path):
    dataset = shapes_dataset("classification")
    _train(dataset, tmp_path, "torchvision-classification", epochs=1)
    _train(dataset, tmp_path, "torchvision-classification", epochs=1, seed=1)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_damaged_newest_checkpoint_is_skipped(
    shapes_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = shapes_dataset("classification")
    with monkeypatch.context() as patch:
        _kill_after(patch, 2)
        with pytest.raises(_KilledError):
            _train(dataset, tmp_path, "torchvision-classification", epochs=3)
    newest = max((tmp_path / "checkpoints").glob("*/*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    report = _train(dataset, tmp_path, "torchvision-classification", epochs=3)
    assert [row["epoch"] for row in report.history] == [1, 2, 3]


@pytest.mark.parametrize(
    ("is_transient", "expected"), [(True, "raised"), (False, 1)], ids=["the store is away", "the object is gone"]
)
def test_a_store_that_is_away_does_not_cost_the_newest_checkpoint(
    is_transient: bool, expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session = _session(tmp_path)
    for epoch in (1, 2):
        state = TrainingState(weights={}, training={}, epoch=epoch)
        session.epoch_done(metrics={}, fitness=0.5, state=lambda: state, epoch=epoch)  # noqa: B023
    session.finish_writing()
    read = CheckpointStore.read

    def fails(store: CheckpointStore, entry: CheckpointEntry) -> bytes:
        if entry.epoch == 2:
            raise StorageError("nothing was sent", is_transient=is_transient)
        return read(store, entry)

    monkeypatch.setattr(CheckpointStore, "read", fails)
    try:
        content = session.store.newest()
        found: object = content and content["epoch"]
    except StorageError:
        found = "raised"
    assert found == expected


@pytest.mark.parametrize(
    ("kept_epochs", "expected"),
    [([], [2, 4, 5, 6]), ([1], [1, 2, 4, 5, 6]), ([2, 3, 9], [2, 3, 4, 5, 6])],
    ids=["newest three and best", "one asked for", "best and one that never comes"],
)
def test_old_checkpoints_are_removed(kept_epochs: list[int], expected: list[int], tmp_path: Path):
    plan = TrainingPlan("n", "p", {}, ["a"], 64, 9, 1, 0.1, 0.0, 0, 0, "no")
    store = CheckpointStore(str(tmp_path), config_digest="c" * 64, dataset_digest="d" * 64, kept_epochs=kept_epochs)
    for epoch, fitness in enumerate([0.1, 0.9, 0.2, 0.3, 0.4, 0.5], start=1):
        state = TrainingState(weights={"w": torch.ones(1)}, training={}, epoch=epoch, step=epoch)
        store.write(store.snapshot(plan, state, metrics={}), fitness=fitness)
    kept = sorted(path.name for path in Path(store.uri).glob("*.pt"))
    assert [int(name.split("-")[1]) for name in kept] == expected
    again = CheckpointStore(str(tmp_path), config_digest="c" * 64, dataset_digest="d" * 64)
    assert again.best is not None
    assert again.best.epoch == 2
    newest = again.newest()
    assert newest is not None
    assert newest["epoch"] == 6


def test_a_checkpoint_leaves_torch_as_it_was_and_says_when_a_bit_of_it_changed(tmp_path: Path):
    plan = TrainingPlan("n", "p", {}, ["a"], 64, 9, 1, 0.1, 0.0, 0, 0, "no")
    store = CheckpointStore(str(tmp_path), config_digest="c" * 64, dataset_digest="d" * 64)
    state = TrainingState(weights={"w": torch.full((1000,), 0.5)}, training={}, epoch=1, step=1)
    store.write(store.snapshot(plan, state, metrics={}), fitness=0.1)
    assert torch.serialization.get_crc32_options()  # whoever else saves in this process still gets its check sums
    (path,) = Path(store.uri).glob("*.pt")
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((9,), 0.5).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    assert store.best is not None
    with pytest.raises(ArtifactError, match="altered or cut short"):
        store.read(store.best)


def test_patience_ends_a_training_that_no_longer_improves(tmp_path: Path):
    session = _session(tmp_path, patience=2)
    ends = [
        session.epoch_done(metrics={}, fitness=fitness, state=lambda: TrainingState({}, {}, epoch), epoch=epoch)  # noqa: B023
        for epoch, fitness in enumerate([0.1, 0.5, 0.4, 0.3], start=1)
    ]
    assert ends == [False, False, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=["nan", "infinite"])
def test_a_fitness_that_is_no_number_ends_the_training(bad: float, tmp_path: Path):
    session = _session(tmp_path)
    with pytest.raises(NotANumberError, match=r"epoch 1: val_loss.*learning_rate"):
        session.epoch_done(metrics={"val_loss": bad}, fitness=0.5, state=lambda: TrainingState({}, {}, 1), epoch=1)
    assert session.store.entries == []


def test_a_checkpoint_is_written_while_the_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    session, goes_on = _session(tmp_path), threading.Event()
    real = CheckpointStore.write
    monkeypatch.setattr(CheckpointStore, "write", lambda *args, **named: goes_on.wait(30) and real(*args, **named))
    weights = {"w": torch.ones(3)}
    state = TrainingState(weights=weights, training={"optimizer": [{"state": weights["w"]}]}, epoch=1, step=5)
    session.epoch_done(metrics={"loss": 1.0}, fitness=0.5, state=lambda: state, epoch=1)
    assert session.store.entries == []
    random_before = torch.get_rng_state()
    weights["w"] += 1
    torch.rand(1)
    goes_on.set()
    session.finish_writing()
    again = CheckpointStore(str(tmp_path), config_digest="c" * 64, dataset_digest="d" * 64)
    content = again.newest()
    assert content is not None
    assert content["weights"]["w"].tolist() == content["training"]["optimizer"][0]["state"].tolist() == [1, 1, 1]
    assert torch.equal(content["random"]["torch"], random_before)
    assert again.history == [{"epoch": 1, "loss": 1.0}]


@pytest.mark.parametrize("then", ["another epoch", "a save within an epoch", "the end"])
def test_a_checkpoint_that_could_not_be_written_ends_the_training(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session = _session(tmp_path)

    def write(*_: object, **__: object) -> None:
        raise StorageError("the server has no space left")

    monkeypatch.setattr(CheckpointStore, "write", write)
    state = TrainingState(weights={}, training={}, epoch=1)
    session.epoch_done(metrics={}, fitness=0.5, state=lambda: state, epoch=1)
    following = {
        "another epoch": lambda: session.epoch_done(metrics={}, fitness=0.5, state=lambda: state, epoch=2),
        "a save within an epoch": lambda: session.save(state),
        "the end": session.finish_writing,
    }
    with pytest.raises(StorageError, match="no space left"):
        following[then]()


def _session(folder: Path, *, patience: int = 0) -> Session:
    store = CheckpointStore(str(folder), config_digest="c" * 64, dataset_digest="d" * 64)
    session = Session(
        plan=TrainingPlan("n", "p", {}, ["a"], 64, 9, 1, 0.1, 0.0, patience, 0, "no"),
        dataset=None,
        scratch=folder,
        device="cpu",
        loader_workers=0,
        store=store,
    )
    session.load_resume()
    return session


@pytest.mark.parametrize(
    ("settings", "model", "match"),
    [
        (
            {},
            {"name": "yolo-detection"},
            "learns detection, but the data is labelled for classification; choose torchvision-classification or",
        ),
        ({}, {"name": "torchvision-classification", "preset": "resnet19"}, "'resnet19'.*resnet18"),
        ({"device": "cuda:7"}, {"name": "torchvision-classification"}, "'cuda:7'"),
        ({"image_size_px": 70}, {"name": "yolo-classification"}, "image_size_px = 70.*try 64"),
        ({}, {"name": "yolo-classification", "options": {"mosaik": 1}}, "model.options.mosaik: unknown key"),
    ],
    ids=["other task", "unknown preset", "absent device", "size off the stride", "unknown option"],
)
def test_settings_that_do_not_fit_are_refused(settings, model, match, shapes_dataset, tmp_path: Path):
    with pytest.raises(ConfigError, match=match):
        train_model(
            shapes_dataset("classification"),
            tmp_path / "model",
            model=ModelConfig(**model),
            training=TrainingConfig(**{"epochs": 1, "device": "cpu", **settings}),
            checkpoints_uri=str(tmp_path / "checkpoints"),
        )
    assert not (tmp_path / "model").exists()


def test_data_that_no_plugin_learns_are_refused_with_the_way_out(shapes_dataset: Callable[..., Path], tmp_path: Path):
    dataset = shapes_dataset("classification", train=8)
    info = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps({**info, "task": "semantic_segmentation"}))
    with pytest.raises(
        ConfigError, match="labelled for semantic_segmentation; no plugin learns semantic_segmentation: "
    ):
        train_model(
            dataset,
            tmp_path / "model",
            model=ModelConfig(name="yolo-detection"),
            training=TrainingConfig(epochs=1, device="cpu"),
            checkpoints_uri=str(tmp_path / "checkpoints"),
        )
    assert not (tmp_path / "model").exists()


def test_a_leaky_split_is_refused_unless_allowed_by_name(shapes_dataset: Callable[..., Path], tmp_path: Path):
    dataset = shapes_dataset("classification", train=8)
    info = json.loads((dataset / "dataset.json").read_text())
    info["leak"] = {"is_leaky": True, "group_overlap": 3, "identical_images": 0}
    (dataset / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"3 groups.*data.allow_leak"):
        _train(dataset, tmp_path, "torchvision-classification", epochs=1)


def test_missing_weights_are_refused_before_training(shapes_dataset: Callable[..., Path], tmp_path: Path):
    with pytest.raises(ModelError, match=r"'yolo11n\.pt'.*nothing is downloaded"):
        train_model(
            shapes_dataset("detection"),
            tmp_path / "model",
            model=ModelConfig(name="yolo-detection", weights="yolo11n.pt"),
            training=TrainingConfig(epochs=1, image_size_px=64, device="cpu"),
            checkpoints_uri=str(tmp_path / "checkpoints"),
        )
