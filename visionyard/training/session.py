"""The training session: what a plugin trains with, and where its epochs become checkpoints, curves and events.

A checkpoint is a copy, made between two steps and written while the training goes on. A kill in that time loses the
steps since the one before, as a kill before it would have.
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.data.dataset import DatasetVersion
from visionyard.errors import NotANumberError
from visionyard.models import Recipe, TrainingPlan, TrainingState
from visionyard.training.checkpoint import CheckpointStore, restore_random_states


@dataclass
class Session:
    """Implements `visionyard.models.TrainingSession`; its attributes are described there.

    Attributes:
        store: Where checkpoints go.
        history: Metrics of each finished epoch, for the curves.
    """

    plan: TrainingPlan
    dataset: DatasetVersion
    scratch: Path
    device: str
    loader_workers: int
    store: CheckpointStore
    weights: Path | None = None
    resume: TrainingState | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    _random: dict[str, Any] | None = None
    # Its thread is waited for when the process ends, except by SIGKILL.
    _writer: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1, "checkpoint"))
    _writing: Future[None] | None = None

    def load_resume(self) -> None:
        """Look for the newest valid checkpoint; with one, the training goes on from there."""
        content = self.store.newest()
        if content is None:
            self.history = self.store.history = []
            return
        self.resume = TrainingState(
            weights=content["weights"], training=content["training"], epoch=content["epoch"], step=content["step"]
        )
        self.history = self.store.history = [row for row in self.store.history if row["epoch"] <= content["epoch"]]
        self._random = content["random"]
        events.warn(f"resuming after epoch {content['epoch']} of {self.plan.epochs}, from {self.store.uri}")

    def restore_random(self) -> None:
        """Set the random generators as they were when the checkpoint was taken; at a fresh start leave them."""
        if self._random is not None:
            restore_random_states(self._random)

    def batch_done(self, epoch: int, done: int, total: int) -> None:
        """Tell the progress of the whole training in batches."""
        epochs = self.plan.epochs
        events.progress((epoch - 1) * total + done, epochs * total, unit="batch", label=f"epoch {epoch}/{epochs}")

    def epoch_done(
        self, *, metrics: Mapping[str, float], fitness: float, state: Callable[[], TrainingState], epoch: int
    ) -> bool:
        """Begin to write the checkpoint of an epoch and tell its metrics; return whether to stop early.

        Raises:
            NotANumberError: The fitness or a loss is not a number.
        """
        bad = [name for name, value in {**metrics, "fitness": fitness}.items() if not math.isfinite(value)]
        if bad:
            raise NotANumberError(
                f"epoch {epoch}: {', '.join(bad)} is not a number; lower training.learning_rate "
                f"(now {self.plan.learning_rate}) or set training.mixed_precision to no"
            )
        rounded = {name: round(float(value), 6) for name, value in metrics.items()}
        self.finish_writing()
        self.history.append({"epoch": epoch, **rounded})
        self._write(state(), metrics=rounded, fitness=float(fitness))
        events.epoch(epoch, self.plan.epochs, rounded)
        if not self.plan.patience:
            return False
        self.finish_writing()
        best = self.store.best
        return best is not None and epoch - best.epoch >= self.plan.patience

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint within an epoch."""
        self.finish_writing()
        self._write(state, metrics={}, fitness=None)

    def finish_writing(self) -> None:
        """Wait until the last checkpoint is whole and named by the pointer.

        Raises:
            OSError: The disk is full (ENOSPC).
            StorageError: The store refused or timed out.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, state: TrainingState, *, metrics: Mapping[str, float], fitness: float | None) -> None:
        """Write a checkpoint while the training goes on; one at a time, so that they are whole in their order."""
        snapshot = self.store.snapshot(self.plan, state, metrics=metrics)
        self._writing = self._writer.submit(self.store.write, snapshot, fitness=fitness)

    def fit(self, recipe: Recipe) -> None:
        """Train a recipe by the platform's own loop."""
        from visionyard.training.loop import fit

        fit(self, recipe)
