"""Ultralytics' trainers, driven by a training session: our data, our checkpoints, our progress, its loop and losses."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionyard.errors import NotANumberError
from visionyard.models.plugin import TrainingSession, TrainingState
from visionyard.models.weights import read_weights, transfer_weights
from visionyard.models.yolo.environment import load_ultralytics

# Decoded images are kept in memory when all of them take less than this share of what is free.
_CACHE_MEMORY_SHARE = 0.25


class _SessionMixin:
    """Replaces what of Ultralytics' trainers touches the outside.

    That is: the data set check (it may download), the model's set-up (it reads pickles), saving (it is not atomic and
    writes pickles), resuming (it derives the raw weights from the average), the last validation (ours judges on the
    test split), recovery from NaN (it goes on silently), and all integrations.
    """

    if TYPE_CHECKING:
        # The attributes of Ultralytics' trainers, which have no annotations of their own.
        stop: Any

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self, session: TrainingSession, task: str, data: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> None:
        import torch

        self.session = session
        self._description = dict(data)
        self._batches_done = 0
        # Ultralytics takes one thread less than there are cores, which on two cores is half the speed.
        thread_count = torch.get_num_threads()
        super().__init__(overrides={**overrides, "task": task})  # type: ignore[call-arg]
        torch.set_num_threads(thread_count)

    def get_dataset(self) -> dict[str, Any]:
        return self._description

    def setup_model(self) -> None:
        architecture = copy.deepcopy(self.session.plan.architecture)
        self.model = self.get_model(cfg=architecture, weights=None, verbose=False)
        if self.session.resume is not None:
            self.model.load_state_dict(self.session.resume.training["model"])
        elif self.session.weights is not None:
            weights = read_weights(self.session.weights)
            transfer_weights(self.model, weights, source=self.session.weights)

    def resume_training(self, ckpt: Any) -> None:
        if self.session.resume is None:
            return
        saved = self.session.resume.training
        self._load_checkpoint_state({key: saved[key] for key in ("optimizer", "scaler", "best_fitness")})
        self.ema.ema.load_state_dict(self.session.resume.weights)
        self.ema.updates = saved["updates"]
        self.start_epoch = self.session.resume.epoch
        if getattr(self.model.model[-1], "one2one_cv2", None) is not None:
            # The losses of a head with two branches are weighted by the epoch.
            self.model.criterion = self.model.init_criterion()
            self.model.criterion.updates = self.start_epoch - 1
            self.model.criterion.update()

    def save_model(self) -> bool:
        metrics = {**self.label_loss_items(self.tloss), **self.metrics, **self.lr}
        is_enough = self.session.epoch_done(
            metrics=curve_metrics(metrics),
            fitness=float(self.fitness),
            state=self._state,
            epoch=self.epoch + 1,
        )
        self.stop |= is_enough
        return True

    def _state(self) -> TrainingState:
        return TrainingState(
            weights=self.ema.ema.state_dict(),
            training={
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "updates": self.ema.updates,
                "best_fitness": float(self.best_fitness),
                "loader_generator": self.train_loader.generator.get_state(),
            },
            epoch=self.epoch + 1,
            step=(self.epoch + 1) * len(self.train_loader),
        )

    def final_eval(self) -> None:
        return

    def save_metrics(self, metrics: Any) -> None:
        return

    def _handle_nan_recovery(self, epoch: int) -> bool:
        if self.loss is not None and not self.loss.isfinite():
            raise NotANumberError(
                f"epoch {epoch + 1}: the loss is {float(self.loss)}; lower training.learning_rate "
                f"(now {self.args.lr0}) or set training.mixed_precision to no"
            )
        return False

    def _begin_epoch(self) -> None:
        """Draw on as a training that was never interrupted: after a resume, set the random generators back."""
        self._batches_done = 0
        if self.train_loader.num_workers == 0:
            # A kept iterator has drawn its seed already, one made after a resume has not: make one each epoch.
            self.train_loader.reset()
        if self.session.resume is not None and self.epoch == self.session.resume.epoch:
            self.train_loader.generator.set_state(self.session.resume.training["loader_generator"])
            self.session.restore_random()

    def run_callbacks(self, event: str) -> None:
        if event == "on_train_epoch_start":
            self._begin_epoch()
        elif event == "on_train_batch_end":
            self._batches_done += 1
            self.session.batch_done(self.epoch + 1, self._batches_done, len(self.train_loader))


@cache
def session_trainer(task: str) -> type:
    """Return Ultralytics' trainer class for `detect` or `classify`, driven by a session."""
    names = {"detect": "DetectionTrainer", "classify": "ClassificationTrainer"}
    base = getattr(load_ultralytics(f"ultralytics.models.yolo.{task}"), names[task])
    return type("SessionTrainer", (_SessionMixin, base), {})


def run_training(
    session: TrainingSession, task: str, data: Mapping[str, Any], settings: Mapping[str, Any], folder: Path
) -> None:
    """Train by Ultralytics' loop.

    Args:
        session: Plan, resume state, and where epochs are reported to.
        task: `detect` or `classify`.
        data: From `visionyard.models.yolo.layout`.
        settings: The plugin's own options under Ultralytics' names.
        folder: Scratch space for what it writes.
    """
    plan = session.plan
    trainer = session_trainer(task)(
        session,
        task,
        data,
        {
            "model": "visionyard.yaml",
            "data": "visionyard.yaml",
            "project": str(folder),
            "name": "ultralytics",
            "exist_ok": True,
            "epochs": plan.epochs,
            "batch": plan.batch_size,
            # One optimizer step a batch, as training.batch_size says; the default gathers up to 64 images.
            "nbs": plan.batch_size,
            "imgsz": plan.image_size_px,
            "seed": plan.seed,
            "lr0": plan.learning_rate,
            "weight_decay": plan.weight_decay,
            "device": session.device,
            "workers": session.loader_workers,
            "amp": {"no": False, "bf16": "bf16"}.get(plan.mixed_precision, True),
            "patience": 0,
            "pretrained": True,
            "plots": False,
            "verbose": False,
            **settings,
        },
    )
    trainer.train()


def fits_in_memory(image_count: int, image_size_px: int) -> bool:
    """Return whether the decoded images of a data set can stay in memory between epochs."""
    free_bytes = _available_memory_bytes()
    return image_count * image_size_px * image_size_px * 3 < free_bytes * _CACHE_MEMORY_SHARE


def _available_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def curve_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return Ultralytics' metrics under the field's names: `metrics/mAP50(B)` to `map_50`."""
    names = {
        "metrics/precision(B)": "precision",
        "metrics/recall(B)": "recall",
        "metrics/mAP50(B)": "map_50",
        "metrics/mAP50-95(B)": "map_50_95",
        "metrics/accuracy_top1": "top_1",
        "metrics/accuracy_top5": "top_5",
        "lr/pg0": "learning_rate",
    }
    renamed = {}
    for name, value in metrics.items():
        if name.startswith("lr/") and name != "lr/pg0":
            continue
        renamed[names.get(name, name.replace("/", "_"))] = float(value)
    return renamed
