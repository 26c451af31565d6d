"""The interface of a model: what a plugin says of itself, and what the platform gives it for training.

A plugin builds an architecture, trains it (by the platform's loop or its own), and says how images or rows of a table
become its input and its output becomes predictions. Checkpoints, resuming, metrics, inference, export, parity and
benchmark are the platform's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import ValidationError

from visionyard.config import Section, describe_problems
from visionyard.data.dataset import DatasetVersion
from visionyard.data.items import LearnedTask, Split
from visionyard.errors import ConfigError, ModelError
from visionyard.transforms import Content, Postprocessing, Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


@dataclass(frozen=True)
class Preset:
    """A variant of a model with the values it trains well with.

    Attributes:
        description: What it is, in a few words.
        image_size_px: Side of its square input; 0 for a model of tables.
        batch_size: Images, or rows, per optimizer step.
        learning_rate: Peak learning rate from scratch.
    """

    description: str
    image_size_px: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class PluginInfo:
    """What a plugin says of itself.

    Attributes:
        name: As in `model.name`.
        task: What it learns.
        description: One sentence.
        licence: SPDX name of the licence its code puts on trained models.
        extra: The extra of visionyard that installs what it needs.
        presets: Variants by name.
        default_preset: Taken when none is named.
        weights: What `model.weights` may be, one sentence.
        takes_weights: Whether a training can start from a checkpoint of another; retraining then starts from the
            champion.
    """

    name: str
    task: LearnedTask
    description: str
    licence: str
    extra: str
    presets: Mapping[str, Preset]
    default_preset: str
    weights: str
    takes_weights: bool = True


@dataclass(frozen=True)
class TrainingPlan:
    """A training with every value settled: no `auto`, no 0 that means the preset's.

    It goes into the checkpoint, so that the model can be built again from it alone.

    Attributes:
        architecture: What `build` and `specs` need beyond the preset's name, such as the content of the user's own
            model file, or what was fitted to the train split.
        weights: Where the training started from, as the user named it; empty from scratch.
    """

    model_name: str
    preset: str
    options: dict[str, Any]
    classes: list[str]
    image_size_px: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int
    mixed_precision: str
    architecture: dict[str, Any] = field(default_factory=dict)
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to infer.

    Attributes:
        module: Takes (B, 3, H, W) float32, or (B, F) of rows, gives one raw output tensor; in eval mode.
        preprocessing: From image, or row, to input.
        postprocessing: From output to predictions.
        classes: Class names in the order of their ids.
    """

    module: "nn.Module"
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    classes: list[str]


class Examples(Protocol):
    """What the platform's loop reads by place: a dataset version, or what a plugin made of it beforehand."""

    def count(self, split: Split) -> int:
        """Return the number of items in a split."""

    def sample(self, split: Split, position: int) -> Any:
        """Return one item of a split; its `class_ids` begin with its class."""

    def content(self, sample: Any) -> Content:
        """Return what `Recipe.augment` and `Recipe.preprocessing` take of it."""


@dataclass(frozen=True)
class Recipe:
    """What the platform's own training loop needs of a plugin.

    Attributes:
        module: The model to train, on the CPU.
        loss: From module output and (B,) int64 class ids to a scalar.
        augment: From a (H, W, 3) uint8 RGB image to a (3, h, w) float32 training input; draws from torch's global
            random state, which the loop seeds for each sample.
        preprocessing: From image to input when validating; None where `examples` give the input itself.
        examples: What is read, with its splits train and val; None: the session's dataset.
    """

    module: "nn.Module"
    loss: "Callable[[Tensor, Tensor], Tensor]"
    augment: "Callable[[np.ndarray], Tensor]"
    preprocessing: Preprocessing | None
    examples: Examples | None = None


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint keeps of a training, beside the random states that the session adds.

    Attributes:
        weights: State dict of the model as it infers (the average, where one is kept).
        training: Whatever the trainer needs to go on: optimizer, scheduler, scaler, raw weights. Tensors and plain
            values only, since it is loaded with `weights_only=True`.
        epoch: Epochs finished.
        step: Optimizer steps done.
    """

    weights: dict[str, Any]
    training: dict[str, Any]
    epoch: int
    step: int = 0


class TrainingSession(Protocol):
    """What the platform gives a plugin's `train`.

    Attributes:
        plan: The settled values.
        dataset: Where to read train and val from.
        scratch: An empty local folder that is removed after the training.
        device: `cpu`, `cuda:0`.
        loader_workers: Processes that prepare batches.
        resume: The newest checkpoint's state, None at a fresh start.
        weights: A local weights file or a name the plugin knows; None: from scratch.
    """

    plan: TrainingPlan
    dataset: DatasetVersion
    scratch: Path
    device: str
    loader_workers: int
    resume: TrainingState | None
    weights: Path | None

    def restore_random(self) -> None:
        """Set the random generators as they were at the checkpoint; call it last before the first batch."""

    def batch_done(self, epoch: int, done: int, total: int) -> None:
        """Tell that `done` of `total` batches of an epoch (from 1) are finished; drives the progress bar."""

    def epoch_done(
        self, *, metrics: Mapping[str, float], fitness: float, state: Callable[[], TrainingState], epoch: int
    ) -> bool:
        """Tell that an epoch (from 1) ended; writes the checkpoint.

        Args:
            metrics: For the curves: losses, learning rate, validation metrics; names as the field writes them.
            fitness: The larger the better; decides which checkpoint is the best.
            state: Called when the checkpoint is written.
            epoch: The epoch that ended.

        Returns:
            True when training should stop early.

        Raises:
            NotANumberError: The fitness or a loss is not a number.
        """

    def fit(self, recipe: Recipe) -> None:
        """Train a recipe by the platform's own loop, from `resume` where there is one."""


class ModelPlugin(ABC):
    """A model that the platform can train and ship."""

    info: ClassVar[PluginInfo]
    options_model: ClassVar[type[Section]]

    def preset(self, name: str) -> tuple[str, Preset]:
        """Return the name and values of a preset; an empty name takes the default.

        Raises:
            ConfigError: There is no such preset; lists those there are.
        """
        chosen = name or self.info.default_preset
        if chosen not in self.info.presets:
            raise ConfigError(
                f"model.preset = {name!r}: {self.info.name} has no such preset; known: {', '.join(self.info.presets)}"
            )
        return chosen, self.info.presets[chosen]

    def architecture(self, preset: str) -> dict[str, Any]:
        """Return what `build` needs beyond the preset's name, as plain values."""
        return {}

    def fitted(self, dataset: DatasetVersion) -> dict[str, Any]:
        """Return what `build` and `specs` need of the training data, as plain values; it joins `architecture`."""
        return {}

    def check_plan(self, plan: TrainingPlan) -> list[str]:
        """Return what in a plan does not fit this model, one sentence each; none when all is well."""
        return []

    def parse_options(self, options: Mapping[str, Any]) -> Section:
        """Check `model.options`.

        Raises:
            ConfigError: An option is unknown or wrong; lists all mistakes.
        """
        try:
            return self.options_model.model_validate(dict(options))
        except ValidationError as error:
            problems = describe_problems(error, self.options_model)
            raise ConfigError([f"model.options.{problem}" for problem in problems]) from None

    def check_weights_name(self, name: str) -> bool:
        """Return whether `name` is a weights name the plugin itself can fetch, rather than a path or address."""
        return False

    @abstractmethod
    def train(self, session: TrainingSession) -> None:
        """Train from `session.resume`, else from `session.weights`, else from scratch; report each epoch."""

    @abstractmethod
    def build(self, plan: TrainingPlan) -> "nn.Module":
        """Return the architecture with random weights, on the CPU."""

    @abstractmethod
    def specs(self, plan: TrainingPlan, module: "nn.Module") -> tuple[Preprocessing, Postprocessing]:
        """Return how images, or rows, become the module's input and its output predictions."""

    def inference_module(self, module: "nn.Module") -> "nn.Module":
        """Return a module in eval mode with one input and one output tensor, fit for tracing."""
        return module.eval()

    def load(self, plan: TrainingPlan, weights: Mapping[str, Any]) -> TrainedModel:
        """Return the trained model of a checkpoint.

        Raises:
            ModelError: The weights do not fit the architecture.
        """
        module = self.build(plan)
        try:
            module.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise ModelError(
                f"the checkpoint does not fit {plan.model_name} {plan.preset}: {str(error).splitlines()[-1].strip()}"
            ) from None
        preprocessing, postprocessing = self.specs(plan, module)
        return TrainedModel(self.inference_module(module), preprocessing, postprocessing, list(plan.classes))
