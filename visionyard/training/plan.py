"""From what the user set to what is trained: every value settled, every mistake told at once."""

from visionyard.config import ModelConfig, TrainingConfig
from visionyard.data.items import LearnedTask
from visionyard.errors import ConfigError
from visionyard.models import TrainingPlan, get_plugin, plugin_names
from visionyard.models.registry import ENTRY_POINT_GROUP
from visionyard.stage_resources import held_resources


def make_plan(
    model: ModelConfig, training: TrainingConfig, *, task: LearnedTask | None, classes: list[str]
) -> TrainingPlan:
    """Return the settled plan of a training.

    Args:
        model: Which model, from what.
        training: How.
        task: The dataset's; None when it is not known yet (`visionyard check`).
        classes: The dataset's class names.

    Raises:
        ConfigError: A value does not fit the plugin; lists all mistakes.
    """
    plugin = get_plugin(model.name)
    problems: list[str] = []
    if task is not None and task != plugin.info.task:
        problems.append(
            f"model.name = {model.name!r}: it learns {plugin.info.task}, but the data is labelled for {task}; "
            + _way_out(task)
        )
    options = {}
    try:
        options = plugin.parse_options(model.options).model_dump(mode="json")
    except ConfigError as error:
        problems += error.problems
    try:
        preset_name, preset = plugin.preset(model.preset)
    except ConfigError as error:
        raise ConfigError(problems + error.problems) from None
    plan = TrainingPlan(
        model_name=model.name,
        preset=preset_name,
        options=options,
        classes=list(classes),
        image_size_px=training.image_size_px or preset.image_size_px,
        epochs=training.epochs,
        batch_size=training.batch_size or preset.batch_size,
        learning_rate=training.learning_rate or preset.learning_rate,
        weight_decay=training.weight_decay,
        patience=training.patience,
        seed=training.seed,
        mixed_precision=training.mixed_precision,
        architecture=plugin.architecture(preset_name),
        weights=model.weights,
    )
    problems += plugin.check_plan(plan)
    if problems:
        raise ConfigError(problems)
    return plan


def _way_out(task: LearnedTask) -> str:
    names = [name for name in plugin_names() if get_plugin(name).info.task == task]
    if names:
        return f"choose {' or '.join(names)}"
    if task == "table_regression":
        return (
            "no plugin learns numbers of a table: make classes of the target (task: classification in the schema "
            f"file), or install a plugin that does (entry point {ENTRY_POINT_GROUP})"
        )
    return (
        f"no plugin learns {task}: label boxes or classes instead, or install a plugin that does (entry point "
        f"{ENTRY_POINT_GROUP})"
    )


def choose_device(wanted: str) -> str:
    """Return `cpu` or `cuda:N` for `training.device`.

    Raises:
        ConfigError: The device is not there, or the name is not known.
    """
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return "cpu"
    name, _, index = wanted.partition(":")
    if name != "cuda" or (index and not index.isdecimal()):
        raise ConfigError(f"training.device = {wanted!r}: expected auto, cpu, cuda or cuda:N")
    if int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device = {wanted!r}: this machine has {torch.cuda.device_count()} CUDA devices; set auto or cpu"
        )
    return f"cuda:{index or 0}"


def choose_loader_workers(wanted: int, device: str) -> int:
    """Return the number of loader processes: none on a CPU, where they would take the cores that train."""
    if wanted >= 0:
        return wanted
    return 0 if device == "cpu" else max(1, min(8, int(held_resources().cpu_count) - 1))
