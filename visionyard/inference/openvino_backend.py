"""ONNX files by OpenVINO, which is often the quickest on an Intel CPU.

`import openvino` of the package from PyPI sends usage data and writes `~/intel` unless that is switched off: it imports
openvino-telemetry, and consent counts as given when no file says otherwise (seen with openvino 2026.4.1). Here that
package is hidden before the first import, whereupon OpenVINO takes its own stub.
"""

import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from visionyard.errors import ArtifactError, ConfigError
from visionyard.inference.backend_support import in_fixed_batches, last_line, run_error

_TELEMETRY = "openvino_telemetry"


class OpenVinoBackend:
    """Runs an ONNX file on the CPU in float32; may be called from several threads at once."""

    name = "openvino"

    def __init__(self, path: Path, threads: int = 0, *, outputs: Sequence[str] | None = None) -> None:
        """Load the file.

        Args:
            path: An ONNX model with one input.
            threads: Threads of one inference; 0 leaves OpenVINO's own choice.
            outputs: Names of the outputs, in the order they are wanted; None takes all, in the file's order.

        Raises:
            ConfigError: OpenVINO is not installed.
            ArtifactError: The file cannot be loaded, or lacks an output.
        """
        openvino = load_openvino()
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # On CPUs that have it, OpenVINO takes bfloat16 by itself, which no certificate covers.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = openvino.Core().read_model(str(path))
            self._compiled: Any = openvino.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ArtifactError(f"{path}: OpenVINO cannot load it: {last_line(error)}; use onnx") from None
        known = {name: port for port in self._compiled.outputs for name in port.get_names()}
        if missing := [one for one in outputs or () if one not in known]:
            raise ArtifactError(f"{path}: it has no output {missing[0]!r}; it has {', '.join(known)}")
        self._ports = [known[one] for one in outputs] if outputs else list(self._compiled.outputs)
        first_axis = self._compiled.inputs[0].get_partial_shape()[0]
        self._batch_size = first_axis.get_length() if first_axis.is_static else None
        self._requests = threading.local()  # a request of OpenVINO's holds the tensors of one call

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        try:
            return in_fixed_batches(self._run, batch, self._batch_size)
        except RuntimeError as error:
            raise run_error(self.name, batch, error) from None

    def close(self) -> None:
        """Let go of the model."""
        self._compiled = None
        self._ports = []
        self._requests = threading.local()

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        found = request.infer([batch], share_inputs=True)
        # Copies: the request reuses its own memory for the next call.
        return [np.array(found[port], np.float32) for port in self._ports]


def load_openvino() -> ModuleType:
    """Import OpenVINO with its telemetry switched off.

    Raises:
        ConfigError: It is not installed.
    """
    if "openvino" not in sys.modules:
        # None makes the import fail, which OpenVINO takes as "not installed".
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"format 'openvino': {error.name} is not installed; pip install 'visionyard[openvino]', or take onnx"
        ) from None
