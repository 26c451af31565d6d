"""The training stage: a dataset version in, a checkpoint and its curves out."""

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.config import ModelConfig, TrainingConfig
from visionyard.data.dataset import DatasetVersion
from visionyard.data.leaks.audit import leak_summary
from visionyard.data.streaming import open_dataset
from visionyard.digests import code_digest, digest_of
from visionyard.errors import DataError, ModelError
from visionyard.models import TrainingPlan, get_plugin
from visionyard.storage import fetch_file
from visionyard.training.checkpoint import CHECKPOINT, CheckpointStore
from visionyard.training.plan import choose_device, choose_loader_workers, make_plan
from visionyard.training.session import Session

TRAINING = "training.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        plan: The settled values.
        epoch_count: Epochs finished, all resumptions together.
        best_epoch: The epoch whose checkpoint is handed on.
        best_metrics: Its metrics on the validation split.
        history: Metrics of every epoch.
        config_digest: Of the plan.
        dataset_digest: Of the dataset version.
        checkpoint_digest: SHA-256 of the checkpoint.
        device: Where it was trained.
    """

    plan: TrainingPlan
    epoch_count: int
    best_epoch: int
    best_metrics: dict[str, float]
    history: list[dict[str, Any]]
    config_digest: str
    dataset_digest: str
    checkpoint_digest: str
    device: str

    def metadata(self) -> dict[str, Any]:
        """Return what the artifact's metadata shows."""
        return {
            "model": self.plan.model_name,
            "preset": self.plan.preset,
            "epoch_count": self.epoch_count,
            "best_epoch": self.best_epoch,
            "config_digest": self.config_digest,
            "dataset_digest": self.dataset_digest,
            "checkpoint_digest": self.checkpoint_digest,
            **{f"val_{name}": value for name, value in self.best_metrics.items() if not name.startswith("val_")},
        }

    def figures(self) -> dict[str, events.Figure]:
        """Return what the run's table shows."""
        name = "map_50" if "map_50" in self.best_metrics else "top_1"
        return {
            f"val_{name}": round(self.best_metrics.get(name, 0.0), 4),
            "best_epoch": self.best_epoch,
            "epochs": self.epoch_count,
        }


def train_model(
    dataset: Path | str,
    target: Path,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    checkpoints_uri: str,
    allow_leak: bool = False,
) -> TrainingReport:
    """Train a model and write its best checkpoint and curves.

    A training that was interrupted goes on from its newest valid checkpoint: it is found by the digests of plan and
    dataset, so that other settings or data never resume it.

    Args:
        dataset: A dataset version: its folder, or its address in a store, from which it is then streamed.
        target: The folder to make: `checkpoint.pt` and `training.json`.
        model: Which model, from what.
        training: How.
        checkpoints_uri: Folder or s3:// prefix for checkpoints while training.
        allow_leak: Train although the split leaks.

    Raises:
        ConfigError: A setting does not fit the model or the data.
        DataError: The split leaks, or has no training or validation items.
        ModelError: The weights to start from do not fit.
        NotANumberError: The loss is no longer a number.
    """
    # Importing torch and building the model take seconds in which a bar has nothing to count.
    events.progress(0, None, unit="", label="loading the data and the model")
    version = open_dataset(dataset)
    _check_dataset(version, allow_leak=allow_leak)
    plan = make_plan(model, training, task=version.learns, classes=version.classes)
    plan = replace(plan, architecture={**plan.architecture, **get_plugin(model.name).fitted(version)})
    device = choose_device(training.device)
    config_digest = digest_of({**plan.to_json(), "code_digest": code_digest()})
    store = CheckpointStore(
        checkpoints_uri,
        config_digest=config_digest,
        dataset_digest=version.digest,
        kept_epochs=training.keep_epochs,
    )
    with tempfile.TemporaryDirectory(prefix="visionyard-train-") as scratch:
        session = Session(
            plan=plan,
            dataset=version,
            scratch=Path(scratch),
            device=device,
            loader_workers=choose_loader_workers(training.loader_workers, device),
            store=store,
            weights=_fetch_weights(model, Path(scratch)),
        )
        if not store.is_finished:
            _seed(plan.seed)
            session.load_resume()
            if session.resume is None or session.resume.epoch < plan.epochs:
                try:
                    get_plugin(model.name).train(session)
                finally:
                    session.finish_writing()
            store.is_finished = True
            store.write_pointer()
    return _write(store, plan, target, device=device)


def _write(store: CheckpointStore, plan: TrainingPlan, target: Path, *, device: str) -> TrainingReport:
    best = store.best
    if best is None:
        raise ModelError(f"{store.uri}: the training ended without a checkpoint; remove the folder and train again")
    report = TrainingReport(
        plan=plan,
        epoch_count=len(store.history),
        best_epoch=best.epoch,
        best_metrics=best.metrics,
        history=store.history,
        config_digest=store.config_digest,
        dataset_digest=store.dataset_digest,
        checkpoint_digest=best.sha256,
        device=device,
    )
    with atomic_folder(target) as work:
        store.fetch(best, work / CHECKPOINT)
        content = {"schema_version": SCHEMA_VERSION, **asdict(report)}
        (work / TRAINING).write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    return report


def _check_dataset(dataset: DatasetVersion, *, allow_leak: bool) -> None:
    for split in ("train", "val"):
        if not dataset.count(split):
            raise DataError(f"{dataset.folder}: the {split} split is empty; prepare the dataset with more data")
    leak = dataset.info.get("leak", {})
    if leak.get("is_leaky") and not allow_leak:
        raise DataError(
            f"the split leaks: {leak_summary(leak)}, so that the test would flatter the model; use data.split_mode "
            "group (and other clips, where all show one place), or train all the same with data.allow_leak true"
        )
    if leak.get("is_leaky"):
        events.warn("training on a split that leaks, as data.allow_leak says; its metrics are too good")


def _fetch_weights(model: ModelConfig, scratch: Path) -> Path | None:
    if not model.weights or get_plugin(model.name).check_weights_name(model.weights):
        return None
    if "://" in model.weights:
        return fetch_file(model.weights, scratch / "weights.pt")
    path = Path(model.weights).expanduser()
    if not path.is_file():
        raise ModelError(
            f"model.weights = {model.weights!r}: no such file; nothing is downloaded by name: fetch the weights "
            "yourself and give a path or an s3:// address"
        )
    return path


def _seed(seed: int) -> None:
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
