"""What runs a model's tensors: PyTorch itself, TorchScript, ONNX Runtime, OpenVINO. A batch in, its raw outputs out.

torch is imported only by the two backends that need it, so that an ONNX bundle runs on a machine without torch.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from visionyard.errors import ArtifactError, ConfigError
from visionyard.inference.backend_support import last_line, run_error
from visionyard.inference.onnx_backend import OnnxBackend, OnnxOptions

if TYPE_CHECKING:
    from torch import nn

ONNX_FORMATS = ("onnx", "onnx-fp16", "onnx-int8")
FORMATS = (*ONNX_FORMATS, "openvino", "torchscript")


class Backend(Protocol):
    """Runs batches of one model.

    Attributes:
        name: `pytorch`, or the format.
    """

    name: str

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch.

        Args:
            batch: (B, 3, H, W) float32, contiguous.

        Returns:
            One (B, ...) float32 for each output, in the order of the bundle.

        Raises:
            ShapeError: The model cannot take a batch of this shape.
            MemoryError: There is not enough memory for it.
        """

    def close(self) -> None:
        """Give the model's memory back; `run_all` cannot be called any more."""


class TorchBackend:
    """Runs a PyTorch module as it was trained."""

    name = "pytorch"

    def __init__(self, module: "nn.Module", device: str = "cpu") -> None:
        """Move the module to a device and put it in eval mode.

        Args:
            module: Takes (B, 3, H, W) float32, gives one tensor.
            device: As torch names it: `cpu`, `cuda:0`.
        """
        self._module: Any = module.eval().to(device)
        self._device = device

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        return _run_torch(self.name, self._module, batch, self._device)

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


class TorchScriptBackend:
    """Runs a TorchScript file."""

    name = "torchscript"

    def __init__(self, path: Path, threads: int = 0, device: str = "cpu") -> None:
        """Load the file.

        Args:
            path: What `torch.jit.save` wrote.
            threads: Intra-operator threads; 0 leaves torch's own choice. torch keeps one number for the whole process.
            device: As torch names it: `cpu`, `cuda:0`.

        Raises:
            ConfigError: torch is not installed, or sees no such GPU.
            ArtifactError: The file cannot be loaded.
        """
        try:
            import torch
        except ModuleNotFoundError:
            raise ConfigError(
                "format 'torchscript': torch is not installed; pip install 'visionyard[train]', or take onnx"
            ) from None
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device {device!r}: torch sees no GPU here; use cpu")
        jit: Any = torch.jit  # without annotations of its own
        self._device = device
        if threads:
            torch.set_num_threads(threads)
        try:
            with warnings.catch_warnings():
                # torch 2.15 marks torch.jit as deprecated in favour of torch.export; it stays a bundle format.
                warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
                self._module = jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise ArtifactError(f"{path}: torch cannot load it: {last_line(error)}; export the model again") from None

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        return _run_torch(self.name, self._module, batch, self._device)

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


def load_backend(
    name: str,
    path: Path,
    *,
    threads: int = 0,
    device: str = "cpu",
    outputs: Sequence[str] | None = None,
    options: OnnxOptions | None = None,
) -> Backend:
    """Load the file of a bundle's format.

    Args:
        name: `onnx`, `onnx-fp16`, `onnx-int8`, `openvino` or `torchscript`.
        path: The file.
        threads: Intra-operator threads; 0 leaves the library's own choice.
        device: `cpu`; for ONNX and TorchScript also `cuda`, for ONNX also `tensorrt`.
        outputs: Names of the outputs in the order they are wanted; None takes all. TorchScript's have no names.
        options: For ONNX Runtime; None takes the defaults.

    Raises:
        ConfigError: The format is unknown, or does not run on the device.
        ArtifactError: The file cannot be loaded.
    """
    if name in ONNX_FORMATS:
        return OnnxBackend(path, threads, device, outputs=outputs, options=options, name=name)
    if name == "torchscript":
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise ConfigError(f"device {device!r}: torchscript runs on cpu or cuda; take onnx for {device}")
        return TorchScriptBackend(path, threads, device)
    if name != "openvino":
        raise ConfigError(f"format {name!r}: no backend runs it; known: {', '.join(FORMATS)}")
    if device != "cpu":
        raise ConfigError(f"device {device!r}: openvino runs on cpu; take onnx for a GPU")
    from visionyard.inference.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(path, threads, outputs=outputs)


def _run_torch(name: str, module: Any, batch: np.ndarray, device: str) -> list[np.ndarray]:
    import torch

    try:
        with torch.inference_mode():
            answer = module(torch.from_numpy(batch).to(device))
            outputs = answer if isinstance(answer, tuple | list) else [answer]
            return [np.asarray(output.float().cpu().numpy()) for output in outputs]
    except RuntimeError as error:
        raise run_error(name, batch, error) from None
