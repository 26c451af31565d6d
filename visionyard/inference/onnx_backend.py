"""ONNX files by ONNX Runtime: on the CPU, on CUDA, on TensorRT."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visionyard.errors import ArtifactError, ConfigError
from visionyard.inference.backend_support import in_fixed_batches, last_line, run_error
from visionyard.stage_resources import limited_core_count

# For each device the providers in order of preference; what the first cannot run, the next does.
_PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


@dataclass(frozen=True)
class OnnxOptions:
    """How ONNX Runtime works; `benchmarks/onnx_settings.py` measures what each does to the speed.

    Attributes:
        is_spinning: Let idle threads of the pool wait in a loop, not asleep. ONNX Runtime's own default is to; with two
            threads on two busy cores it cost a third of the throughput and more, since a waiting thread takes a core
            from one that works.
        has_arena: Keep the memory of one run for the next, so that the largest batch ever run stays reserved. Without
            it nothing was quicker, and the C library's malloc held 20 to 50 MB more.
        level: How far the graph is rewritten when it is loaded; anything less than `all` was two to three times slower.
    """

    is_spinning: bool = False
    has_arena: bool = True
    level: Literal["none", "basic", "extended", "all"] = "all"


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output as an ONNX file declares it: ONNX Runtime's name of the type, and -1 for a free axis."""

    name: str
    type: str
    shape: list[int]


class OnnxBackend:
    """Runs an ONNX file; may be called from several threads at once."""

    def __init__(
        self,
        path: Path,
        threads: int = 0,
        device: str = "cpu",
        *,
        outputs: Sequence[str] | None = None,
        options: OnnxOptions | None = None,
        name: str = "onnx",
    ) -> None:
        """Load the file.

        Args:
            path: An ONNX model with one input.
            threads: Intra-operator threads; 0 leaves ONNX Runtime's own choice.
            device: `cpu`, `cuda`, `cuda:1`, `tensorrt`.
            outputs: Names of the outputs, in the order they are wanted; None takes all, in the file's order.
            options: None takes the defaults.
            name: Of the format, such as `onnx-int8`.

        Raises:
            ConfigError: `device` is unknown, or the installed ONNX Runtime cannot use it.
            ArtifactError: The file cannot be loaded, or lacks an output.
        """
        import onnxruntime

        self.name = name
        providers = _providers(device)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), _session_options(threads, options or OnnxOptions()), providers=providers
            )
        except _onnx_errors() as error:
            raise ArtifactError(
                f"{path}: ONNX Runtime cannot load it: {last_line(error)}; export the model again"
            ) from None
        wanted = providers[0][0] if isinstance(providers[0], tuple) else providers[0]
        if wanted not in self._session.get_providers():
            # ONNX Runtime only warns and goes on with the CPU.
            raise ConfigError(
                f"device {device!r}: ONNX Runtime has {wanted}, but it does not start here (no GPU, or CUDA libraries "
                "of another version); use cpu, or correct the installation"
            )
        self.inputs = [_tensor(one) for one in self._session.get_inputs()]
        self.outputs = [_tensor(one) for one in self._session.get_outputs()]
        known = [one.name for one in self.outputs]
        if missing := [one for one in outputs or () if one not in known]:
            raise ArtifactError(f"{path}: it has no output {missing[0]!r}; it has {', '.join(known)}")
        self._output_names = list(outputs) if outputs else known
        first_axis = self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else -1
        self._batch_size = first_axis if first_axis > 0 else None

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        try:
            return in_fixed_batches(self._run, batch, self._batch_size)
        except _onnx_errors() as error:
            raise run_error(self.name, batch, error) from None

    def close(self) -> None:
        """Let go of the session."""
        self._session = None

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        found = self._session.run(self._output_names, {self.inputs[0].name: batch})
        return [np.asarray(output, np.float32) for output in found]


def _session_options(threads: int, options: OnnxOptions) -> Any:
    import onnxruntime

    session = onnxruntime.SessionOptions()
    # Its own choice are the node's cores, whatever the container's limit.
    session.intra_op_num_threads = threads or limited_core_count()
    session.enable_cpu_mem_arena = options.has_arena
    session.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[options.level])
    session.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.is_spinning else "0")
    session.log_severity_level = 3
    return session


def _tensor(declared: Any) -> OnnxTensor:
    # A free axis has a name or None in place of a number.
    return OnnxTensor(
        declared.name, declared.type, [size if isinstance(size, int) else -1 for size in declared.shape or []]
    )


def _onnx_errors() -> tuple[type[Exception], ...]:
    # ONNX Runtime's errors have no common base of their own.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException)


def _providers(device: str) -> list[Any]:
    import onnxruntime

    kind, _, number = device.partition(":")
    wanted = _PROVIDERS.get(kind)
    if wanted is None or (number and not number.isdigit()):
        raise ConfigError(f"device {device!r}: ONNX Runtime runs on cpu, cuda or tensorrt")
    present = onnxruntime.get_available_providers()
    if wanted[0] not in present:
        raise ConfigError(
            f"device {device!r}: the installed onnxruntime has no {wanted[0]} (it has {', '.join(present)}); install "
            "onnxruntime-gpu, or use cpu"
        )
    if kind == "cpu":
        return list(wanted)
    if hasattr(onnxruntime, "preload_dlls"):  # finds CUDA and cuDNN where pip put them
        onnxruntime.preload_dlls()
    here = {"device_id": int(number or 0)}
    return [(one, here) if one != "CPUExecutionProvider" else one for one in wanted if one in present]
