"""The platform's own training loop for classifiers, on accelerate.

It can be killed at any moment: checkpoints are written at the end of each epoch and every minute within one, and on the
CPU a resumed training ends bit for bit like one that was never interrupted.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from visionyard.data.items import Split
from visionyard.errors import NotANumberError
from visionyard.models import Recipe, TrainingState
from visionyard.training.loading import Batches, Preprocess, make_loader
from visionyard.training.session import Session
from visionyard.transforms import Content

# A kill loses at most this much work.
CHECKPOINT_INTERVAL_S = 60.0
# Share of all steps over which the learning rate rises; a tenth keeps fresh batch statistics from diverging.
_WARMUP_SHARE = 0.1
# Fitness is top-1 accuracy; a small validation split has many ties, which the lower loss decides.
_LOSS_WEIGHT = 1e-3


def learning_rate_factor(step: int, step_count: int) -> float:
    """Return the learning rate at a step over its peak: linear warm-up, then half a cosine to 0.

    Source: I. Loshchilov, F. Hutter, SGDR, 2017, equation 5 without restarts; arXiv:1608.03983.
    """
    warmup = max(1, round(step_count * _WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, step_count - warmup)))


def fit(session: Session, recipe: Recipe) -> None:
    """Train a recipe from the session's resume state, or from the beginning."""
    _Loop(session, recipe).run()


class _Loop:
    def __init__(self, session: Session, recipe: Recipe) -> None:
        from accelerate import Accelerator

        plan = session.plan
        self.session = session
        self.recipe = recipe
        self.accelerator = Accelerator(
            cpu=session.device == "cpu", mixed_precision=None if plan.mixed_precision == "no" else plan.mixed_precision
        )
        self.train_batches = self._batches("train", recipe.augment, is_shuffled=True)
        as_input: Callable[[Content], torch.Tensor] = torch.from_numpy
        if recipe.preprocessing is not None:
            as_input = Preprocess(recipe.preprocessing)
        val_batches = self._batches("val", as_input, is_shuffled=False)
        self.train_loader = make_loader(self.train_batches, workers=session.loader_workers)
        self.val_loader = make_loader(val_batches, workers=session.loader_workers)
        self.batch_count = len(self.train_batches)
        step_count = self.batch_count * plan.epochs
        optimizer = torch.optim.AdamW(recipe.module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(recipe.module, optimizer)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer.optimizer, lambda step: learning_rate_factor(step, step_count)
        )
        self.step = 0
        self.loss_sum = 0.0
        self.saved_at = time.monotonic()

    def _batches(self, split: Split, transform: Callable[[Content], torch.Tensor], *, is_shuffled: bool) -> Batches:
        plan = self.session.plan
        return Batches(
            self.recipe.examples or self.session.dataset,
            split,
            transform,
            batch_size=plan.batch_size,
            seed=plan.seed,
            is_shuffled=is_shuffled,
        )

    def run(self) -> None:
        start_epoch, done = self._restore()
        self.session.restore_random()
        for epoch in range(start_epoch, self.session.plan.epochs + 1):
            self._train_epoch(epoch, done)
            done = 0
            metrics = {"train_loss": self.loss_sum / self.batch_count, **self._validate()}
            metrics["learning_rate"] = float(self.scheduler.get_last_lr()[0])
            self.loss_sum = 0.0
            fitness = metrics["top_1"] - _LOSS_WEIGHT * min(metrics["val_loss"], 100.0)
            self.saved_at = time.monotonic()
            is_enough = self.session.epoch_done(
                metrics=metrics, fitness=fitness, state=partial(self._state, epoch, 0), epoch=epoch
            )
            if is_enough:
                return

    def _train_epoch(self, epoch: int, done: int) -> None:
        self.train_batches.epoch, self.train_batches.done_count = epoch, done
        self.model.train()
        for images, class_ids in self.train_loader:
            loss = self._train_batch(images, class_ids)
            done += 1
            self.step += 1
            self.loss_sum += loss
            if not math.isfinite(loss):
                raise NotANumberError(
                    f"epoch {epoch}, batch {done}: the loss is {loss}; lower training.learning_rate "
                    f"(now {self.session.plan.learning_rate}) or set training.mixed_precision to no"
                )
            self.session.batch_done(epoch, done, self.batch_count)
            if time.monotonic() - self.saved_at > CHECKPOINT_INTERVAL_S and done < self.batch_count:
                self.session.save(self._state(epoch - 1, done))
                self.saved_at = time.monotonic()

    def _train_batch(self, images: torch.Tensor, class_ids: torch.Tensor) -> float:
        device = self.accelerator.device
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            loss = self.recipe.loss(self.model(images.to(device)), class_ids.to(device))
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        self.scheduler.step()
        return float(loss.detach())

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        self.model.eval()
        device = self.accelerator.device
        right_count, loss_sum, count = 0, 0.0, 0
        for images, class_ids in self.val_loader:
            scores = self.model(images.to(device)).float()
            truth = class_ids.to(device)
            loss_sum += float(nn.functional.cross_entropy(scores, truth, reduction="sum"))
            right_count += int((scores.argmax(dim=1) == truth).sum())
            count += len(truth)
        return {"top_1": right_count / count, "val_loss": loss_sum / count}

    def _state(self, finished_epochs: int, done: int) -> TrainingState:
        module = self.accelerator.unwrap_model(self.model)
        scaler = self.accelerator.scaler
        return TrainingState(
            weights=module.state_dict(),
            training={
                "optimizer": self.optimizer.state_dict(),
                "scheduler": {"last_epoch": self.scheduler.last_epoch},
                "scaler": scaler.state_dict() if scaler is not None else {},
                "batches_done": done,
                "loss_sum": self.loss_sum if done else 0.0,
            },
            epoch=finished_epochs,
            step=self.step,
        )

    def _restore(self) -> tuple[int, int]:
        """Return the epoch to go on with, from 1, and how many of its batches are done."""
        resume = self.session.resume
        if resume is None:
            return 1, 0
        saved: dict[str, Any] = resume.training
        self.accelerator.unwrap_model(self.model).load_state_dict(resume.weights)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.last_epoch = saved["scheduler"]["last_epoch"]
        if self.accelerator.scaler is not None and saved["scaler"]:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.step = resume.step
        self.loss_sum = saved["loss_sum"]
        return resume.epoch + 1, saved["batches_done"]
