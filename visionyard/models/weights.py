"""Read weights that others trained, without running what a pickle may carry, and fit them to an architecture."""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionyard.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Layers and containers only: nothing below these names runs code, opens files or speaks to a network when it is made.
_SAFE_PREFIXES = ("torch.nn.", "torchvision.models.", "torchvision.ops.", "torchvision.transforms.", "ultralytics.nn.")
_LOADING_ERRORS = (
    AttributeError,
    EOFError,
    KeyError,
    ModuleNotFoundError,
    OSError,
    RuntimeError,
    ValueError,
)
_SAFE_NAMES = {
    "builtins.set",
    "collections.OrderedDict",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "types.SimpleNamespace",
    "ultralytics.utils.IterableSimpleNamespace",
    "ultralytics.utils.loss.BboxLoss",
    "ultralytics.utils.loss.v8ClassificationLoss",
    "ultralytics.utils.loss.v8DetectionLoss",
    "ultralytics.utils.tal.TaskAlignedAssigner",
}


@dataclass(frozen=True)
class Transfer:
    """How much of a weights file fitted an architecture.

    Attributes:
        taken_count: Tensors copied.
        total_count: Tensors of the architecture.
        by_order: The names differed and the tensors were matched by their order and shapes.
    """

    taken_count: int
    total_count: int
    by_order: bool


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Read a weights file as a flat state dict, float32 on the CPU.

    Understood: a state dict; one below `state_dict`, `model` or `weights` (our own checkpoints too); an Ultralytics
    checkpoint, whose averaged model is preferred.

    Args:
        path: A `.pt` or `.pth` file.

    Raises:
        ModelError: The file is missing, not a PyTorch file, holds code beyond layers, or no tensors.
    """
    content = _load_safely(path)
    state = _find_state(content)
    if not state:
        raise ModelError(f"{path}: expected a state dict or a checkpoint with one, found no tensors in it")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _load_safely(path: Path) -> Any:
    import torch

    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; give a local path or an s3:// address in model.weights")
    names = _foreign_names(path)
    refused = [name for name in names if name not in _SAFE_NAMES and not name.startswith(_SAFE_PREFIXES)]
    if refused:
        raise ModelError(
            f"{path}: refused, since loading it would run {', '.join(sorted(refused)[:5])}; save it as a state dict of "
            "tensors (torch.save(model.state_dict(), ...)) and give that"
        )
    try:
        with torch.serialization.safe_globals([(_resolve(name), name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(f"{path}: not a PyTorch weights file, or one that holds more than tensors") from None
    except _LOADING_ERRORS as error:
        raise ModelError(f"{path}: not a PyTorch weights file, or damaged: {_first_line(error)}") from None


def _foreign_names(path: Path) -> list[str]:
    """Return what the file's pickle names beyond plain tensors; nothing is loaded."""
    import torch

    if not zipfile.is_zipfile(path):  # the format before torch 1.6; such a file is loaded when it names tensors only
        return []
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except _LOADING_ERRORS as error:
        raise ModelError(f"{path}: not a PyTorch weights file, or damaged: {_first_line(error)}") from None


def _resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _find_state(content: Any) -> "dict[str, Tensor]":
    import torch

    if isinstance(content, torch.nn.Module):
        return dict(content.float().state_dict())
    if not isinstance(content, Mapping):
        return {}
    for key in ("ema", "weights", "state_dict", "model"):
        if isinstance(content.get(key), (Mapping, torch.nn.Module)) and (state := _find_state(content[key])):
            return state
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def transfer_weights(module: "nn.Module", weights: "Mapping[str, Tensor]", *, source: Path) -> Transfer:
    """Copy the tensors that fit into a module, by name and shape, else by order and shape.

    A classifier's last layer rarely fits and is left as it is. Matching by order serves files whose author named the
    layers otherwise: it is done only when every tensor of the file finds one of its shape in the same order.

    Args:
        module: The architecture; changed in place.
        weights: From `read_weights`.
        source: Names the file in messages.

    Raises:
        ModelError: Less than a tenth of the architecture's tensors fit: these are weights of another architecture.
    """
    own = module.state_dict()
    taken = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    by_order = False
    if len(taken) < len(own) // 2 and (ordered := _match_by_order(own, weights)):
        taken, by_order = ordered, True
    if len(taken) < max(1, len(own) // 10):
        raise ModelError(
            f"{source}: these are weights of another architecture: {len(taken)} of the model's {len(own)} tensors fit "
            f"(the file has {len(weights)}, such as {_example(weights.items())}; the model has "
            f"{_example(own.items())}); choose the preset they were trained with in model.preset"
        )
    module.load_state_dict(taken, strict=False)
    return Transfer(taken_count=len(taken), total_count=len(own), by_order=by_order)


def _match_by_order(own: "Mapping[str, Tensor]", weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    matched = {}
    names = iter(own)
    for tensor in weights.values():
        name = next(names, None)
        if name is None or own[name].shape != tensor.shape:
            return {}
        matched[name] = tensor
    return matched


def _example(items: "Iterable[tuple[str, Tensor]]") -> str:
    name, tensor = next(iter(items))
    return f"{name} {tuple(tensor.shape)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
