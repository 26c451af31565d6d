"""What runs a model's tensors: PyTorch itself, TorchScript, ONNX Runtime. One input batch in, its raw outputs out.

torch is imported only by the two backends that need it, so that an ONNX bundle runs on a machine without torch.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from visionyard.errors import ArtifactError, ConfigError, ShapeError

if TYPE_CHECKING:
    from torch import nn


class Backend(Protocol):
    """Runs batches of one model.

    Attributes:
        name: `pytorch`, `torchscript` or `onnx`.
    """

    name: str

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the first raw output of a batch, (B, ...) float32; otherwise as `run_all`."""

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
        """Give the model's memory back; `run` cannot be called any more."""


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

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the first raw output of a batch; errors as in `Backend.run_all`."""
        return self.run_all(batch)[0]

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        return _run_torch(self.name, self._module, batch, self._device)

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


class TorchScriptBackend:
    """Runs a TorchScript file on the CPU."""

    name = "torchscript"

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load the file.

        Args:
            path: What `torch.jit.save` wrote.
            threads: Intra-operator threads; 0 leaves torch's own choice. torch keeps one number for the whole process.

        Raises:
            ArtifactError: The file cannot be loaded.
        """
        import torch

        jit: Any = torch.jit  # without annotations of its own
        if threads:
            torch.set_num_threads(threads)
        try:
            with warnings.catch_warnings():
                # torch 2.15 marks torch.jit as deprecated in favour of torch.export; it stays a bundle format.
                warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
                self._module = jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise ArtifactError(f"{path}: torch cannot load it: {_last_line(error)}; export the model again") from None

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the first raw output of a batch; errors as in `Backend.run_all`."""
        return self.run_all(batch)[0]

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        return _run_torch(self.name, self._module, batch, "cpu")

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


class OnnxBackend:
    """Runs an ONNX file by ONNX Runtime."""

    name = "onnx"

    def __init__(self, path: Path, threads: int = 0, device: str = "cpu") -> None:
        """Load the file.

        Args:
            path: An ONNX model with one input and one output.
            threads: Intra-operator threads; 0 leaves ONNX Runtime's own choice.
            device: `cpu` or `cuda`.

        Raises:
            ConfigError: `device` is unknown, or the installed ONNX Runtime cannot use it.
            ArtifactError: The file cannot be loaded.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = _providers(device)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except _onnx_errors() as error:
            raise ArtifactError(
                f"{path}: ONNX Runtime cannot load it: {_last_line(error)}; export the model again"
            ) from None
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the first raw output of a batch; errors as in `Backend.run_all`."""
        return self.run_all(batch)[0]

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        try:
            return [np.asarray(output) for output in self._session.run(None, {self._input: batch})]
        except _onnx_errors() as error:
            raise _run_error(self.name, batch, error) from None

    def close(self) -> None:
        """Let go of the session."""
        self._session = None


def _onnx_errors() -> tuple[type[Exception], ...]:
    # ONNX Runtime's errors have no common base of their own.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException)


def _providers(device: str) -> list[str]:
    import onnxruntime

    wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device.split(":")[0])
    if wanted is None:
        raise ConfigError(f"device {device!r}: ONNX Runtime runs on cpu or cuda")
    present = onnxruntime.get_available_providers()
    if wanted not in present:
        raise ConfigError(
            f"device {device!r}: the installed onnxruntime has no {wanted} (it has {', '.join(present)}); install "
            "onnxruntime-gpu, or use cpu"
        )
    return [wanted]


def _run_torch(name: str, module: Any, batch: np.ndarray, device: str) -> list[np.ndarray]:
    import torch

    try:
        with torch.inference_mode():
            answer = module(torch.from_numpy(batch).to(device))
            outputs = answer if isinstance(answer, tuple | list) else [answer]
            return [np.asarray(output.float().cpu().numpy()) for output in outputs]
    except RuntimeError as error:
        raise _run_error(name, batch, error) from None


def _run_error(name: str, batch: np.ndarray, error: Exception) -> Exception:
    # Neither library has an error class of its own for memory on the CPU.
    if "memory" in str(error).lower() or "bad_alloc" in str(error):
        return MemoryError(f"{name}: out of memory on a batch of shape {batch.shape}: {_last_line(error)}")
    return ShapeError(f"{name}: the model cannot take an input of shape {batch.shape}: {_last_line(error)}")


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def load_backend(name: str, path: Path, *, threads: int = 0, device: str = "cpu") -> Backend:
    """Load the file of a bundle's format.

    Args:
        name: `onnx` or `torchscript`.
        path: The file.
        threads: Intra-operator threads; 0 leaves the library's own choice.
        device: `cpu`; for onnx also `cuda`.

    Raises:
        ConfigError: The format is unknown, or does not run on the device.
        ArtifactError: The file cannot be loaded.
    """
    if name == "onnx":
        return OnnxBackend(path, threads, device)
    if name != "torchscript":
        raise ConfigError(f"format {name!r}: no backend runs it; known: onnx, torchscript")
    if device != "cpu":
        raise ConfigError(f"device {device!r}: torchscript runs on cpu, where it was traced; take onnx for a GPU")
    return TorchScriptBackend(path, threads)
