"""Write a trained module as ONNX and as TorchScript: same input name, same output name, only the batch is free."""

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionyard.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

INPUT = "images"
OUTPUT = "output"
# Of a TorchScript file: where each line of Python came from, with absolute paths, and a hash over that.
_TRACE_RECORDS = (".debug_pkl", ".data/serialization_id")
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ExportedFile:
    """One format of a model.

    Attributes:
        format: `onnx` or `torchscript`.
        path: The file.
        details: The format's own, such as the ONNX operator set.
    """

    format: str
    path: Path
    details: dict[str, int | str]


def write_onnx(
    module: "nn.Module", shape: tuple[int, ...], folder: Path, *, opset: int, input_name: str = INPUT
) -> ExportedFile:
    """Write `model.onnx`.

    Args:
        module: Takes (B, *shape) float32, gives one tensor; in eval mode, on the CPU.
        shape: Of its input without the batch, such as (3, H, W); it becomes fixed.
        folder: Where the file goes.
        opset: ONNX operator set.
        input_name: What the input is called.

    Raises:
        ModelError: The module cannot be exported at this operator set.
    """
    import onnx
    import torch

    path = folder / "model.onnx"
    batch = {0: "batch"}
    try:
        with _quiet_export():
            torch.onnx.export(
                module,
                (torch.zeros(1, *shape),),
                str(path),
                input_names=[input_name],
                output_names=[OUTPUT],
                dynamic_axes={input_name: batch, OUTPUT: batch},
                opset_version=opset,
                # The newer exporter needs onnxscript, and its dynamic shapes ask every plugin for more care.
                dynamo=False,
            )
        onnx.checker.check_model(str(path), full_check=True)
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"onnx: the model cannot be exported at opset {opset}: {_first_line(error)}; try another export.opset, or "
            "leave onnx out of export.formats"
        ) from None
    return ExportedFile("onnx", path, {"opset": opset})


def write_torchscript(
    module: "nn.Module", shape: tuple[int, ...], folder: Path, *, opset: int, input_name: str = INPUT
) -> ExportedFile:
    """Write `model.torchscript`, traced and frozen (weights become constants, normalisation folds into convolutions).

    Args:
        module: As for `write_onnx`.
        shape: Of its input without the batch.
        folder: Where the file goes.
        opset: Not used; TorchScript has none.
        input_name: Not used either.

    Raises:
        ModelError: The module cannot be traced.
    """
    import torch
    from torch import nn

    del opset, input_name
    jit: Any = torch.jit  # without annotations of its own
    path = folder / "model.torchscript"
    try:
        with _quiet_export():
            traced = jit.trace(module, torch.zeros(1, *shape), check_trace=False)
            # torch 2.15 also folds normalisation into a linear layer whose output goes elsewhere too, as it does around
            # a residual block, and then that part is wrong.
            has_linear_norm = any(isinstance(layer, nn.BatchNorm1d) for layer in module.modules())
            jit.freeze(traced, optimize_numerics=not has_linear_norm).save(str(path))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"torchscript: the model cannot be traced: {_first_line(error)}; leave torchscript out of export.formats"
        ) from None
    _drop_trace_records(path)
    return ExportedFile("torchscript", path, {"torch": str(torch.__version__).split("+")[0]})


WRITERS: dict[str, Callable[..., ExportedFile]] = {"onnx": write_onnx, "torchscript": write_torchscript}


def _drop_trace_records(path: Path) -> None:
    """Rewrite a TorchScript file without the paths of the machine that traced it: same model, same bytes."""
    work = path.with_name(f".{path.name}.partial")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(work, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(source.namelist()):
            if not name.endswith(_TRACE_RECORDS):
                target.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), source.read(name))
    work.replace(path)


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Silence what torch 2.15 says about its older exporters; the parity certificate tells whether they did well."""
    from torch import jit

    tracer_warning: type[Warning] = getattr(jit, "TracerWarning")  # noqa: B009 (not among its declared exports)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=tracer_warning)
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message="You are using the legacy", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
