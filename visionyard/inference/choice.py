"""Which format of a bundle to run, and on which device: what was asked for, or the fastest that is certified."""

import ctypes
import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.errors import ConfigError
from visionyard.inference.backends import FORMATS, ONNX_FORMATS
from visionyard.inference.bundle import Bundle

# The verdict of the benchmark, as the benchmark stage writes it; a bundle may carry it. It stands outside `model.json`
# (a machine's speed is no part of the model), hence can only choose among what is certified anyway.
BENCHMARK = "benchmark.json"
# Without a verdict: whether half precision and eight bits pay on a CPU depends on its instructions (without them the
# values are converted back and forth), so the plain form comes first; a GPU is about twice as fast in half precision.
PREFERENCE = {
    "cpu": ("onnx", "openvino", "torchscript", "onnx-int8", "onnx-fp16"),
    "cuda": ("onnx-fp16", "onnx", "torchscript", "onnx-int8"),
    "tensorrt": ("onnx-fp16", "onnx", "onnx-int8"),
}
_RUNTIMES = {**dict.fromkeys(ONNX_FORMATS, "onnxruntime"), "openvino": "openvino", "torchscript": "torch"}


@dataclass(frozen=True)
class FormatChoice:
    """What to run.

    Attributes:
        format: As in the bundle.
        device: `cpu`, `cuda`, `tensorrt`, or `cuda:1` where that was asked for.
        reason: One clause for people: `onnx on cpu: the only certified format`.
    """

    format: str
    device: str
    reason: str


def choose_format(bundle: Bundle, *, wanted: str = "auto", device: str = "auto") -> FormatChoice:
    """Choose the format and the device to run a bundle with.

    `auto` takes, of the formats that keep the metric and whose library is installed, the fastest by the benchmark in
    the bundle, else the first by `PREFERENCE`. A format that was allowed to lose more than the exact ones is taken when
    it is asked for by name, or when there is no other.

    Args:
        bundle: The bundle.
        wanted: A format, or `auto`.
        device: `cpu`, `cuda`, `cuda:1`, `tensorrt`, or `auto`: a GPU where the installed library can use one.

    Raises:
        ConfigError: The bundle lacks the format, it is not certified, its library is missing, or it does not run on the
            device.
    """
    kind = device.split(":")[0]
    if kind not in (*PREFERENCE, "auto"):
        raise ConfigError(f"device {device!r}: expected auto, {', '.join(PREFERENCE)}")
    if wanted != "auto":
        return _explicit(bundle, wanted, device)
    kinds = (kind,) if kind != "auto" else ("cuda", "cpu")
    for one in kinds:
        present = [name for name in PREFERENCE[one] if name in bundle.formats]
        usable = [name for name in present if _runs_here(name, one, is_asked=kind != "auto")]
        if choice := _best(bundle, usable, device if kind != "auto" else one):
            return choice
    raise ConfigError(
        f"{bundle.folder}: none of its formats ({', '.join(bundle.formats)}) is certified and runs on {device} with "
        f"what is installed; they need {', '.join(sorted({_RUNTIMES.get(name, name) for name in bundle.formats}))}"
    )


def keep_verdict(folder: Path, benchmark: Path) -> Bundle:
    """Put the figures of a benchmark into the bundle they are of, for `auto` on a CPU; its digest stays as it is.

    Args:
        folder: The bundle.
        benchmark: What the benchmark stage wrote.

    Returns:
        The bundle.
    """
    write_atomic(folder / BENCHMARK, (benchmark / BENCHMARK).read_bytes())
    return Bundle.open(folder)


def gpu_count() -> int:
    """Return how many NVIDIA GPUs the driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    is_up = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if is_up else 0


def _explicit(bundle: Bundle, wanted: str, device: str) -> FormatChoice:
    if wanted not in FORMATS:
        raise ConfigError(f"format {wanted!r}: expected auto, {', '.join(FORMATS)}")
    if wanted not in bundle.formats:
        raise ConfigError(
            f"{bundle.folder}: the bundle has no format {wanted!r}; it has {', '.join(bundle.formats)}; export it "
            f"again with {wanted} among export.formats"
        )
    if not _is_certified(bundle, wanted):
        raise ConfigError(
            f"{bundle.folder}: its format {wanted} is not certified to answer as the trained model does; take "
            f"{', '.join(name for name in bundle.formats if _is_certified(bundle, name)) or 'another bundle'}"
        )
    if not _is_installed(wanted):
        raise ConfigError(
            f"format {wanted!r}: {_RUNTIMES[wanted]} is not installed; install it, or take another format"
        )
    chosen = device
    if device == "auto":
        chosen = "cuda" if wanted in PREFERENCE["cuda"] and _runs_here(wanted, "cuda", is_asked=False) else "cpu"
    elif wanted not in PREFERENCE[device.split(":")[0]]:
        raise ConfigError(f"format {wanted!r} does not run on {device}; take onnx, or device cpu")
    return FormatChoice(wanted, chosen, f"{wanted} on {chosen}: asked for; {_proof(bundle, wanted)}")


def _best(bundle: Bundle, usable: list[str], device: str) -> FormatChoice | None:
    certified = [name for name in usable if _is_certified(bundle, name)]
    if not certified:
        return None
    parity = bundle.manifest.parity
    exact = [name for name in certified if parity is None or parity.keeps_metric(name)]
    candidates = exact or certified
    if device == "cpu" and (verdict := _verdict(bundle, candidates)):
        name, p50_ms = verdict
        why = f"the fastest of {', '.join(candidates)} by the bundle's benchmark ({p50_ms:.1f} ms)"
    else:
        name = candidates[0]
        why = _first_reason(bundle, candidates)
    lossy = [one for one in certified if one not in candidates]
    if lossy:
        why += f"; {', '.join(lossy)} loses more than the exact ones and is taken when asked for"
    return FormatChoice(name, device, f"{name} on {device}: {why}")


def _first_reason(bundle: Bundle, candidates: list[str]) -> str:
    if bundle.manifest.origin == "imported":
        return "imported, not certified"
    if len(candidates) == 1:
        return "the only certified format that runs here" if len(bundle.formats) > 1 else "the only certified format"
    return f"the first in the order of preference of {', '.join(candidates)}, all certified"


def _verdict(bundle: Bundle, candidates: list[str]) -> tuple[str, float] | None:
    """Return the fastest candidate for the smallest batch and its time; None without a benchmark of this bundle."""
    try:
        values: Any = json.loads((bundle.folder / BENCHMARK).read_text(encoding="utf-8"))
        if values["bundle_digest"] != bundle.digest:
            return None
        rows = [
            (int(row["batch_size"]), float(row["p50_ms"]), str(row["format"]))
            for row in values["measurements"]
            if row["format"] in candidates
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no verdict is no mistake: the order of preference stands
    if len(candidates) < 2 or not rows:
        return None
    _, p50_ms, name = min(rows)
    return name, p50_ms


def _is_certified(bundle: Bundle, name: str) -> bool:
    parity = bundle.manifest.parity
    if parity is None:  # imported: there is nothing to compare with
        return True
    proof = parity.formats.get(name)
    return proof is not None and proof.is_passed


def _proof(bundle: Bundle, name: str) -> str:
    parity = bundle.manifest.parity
    if parity is None:
        return "imported, not certified"
    gap = parity.formats[name].metric_gap
    return "certified" if gap is None else f"certified, {parity.metric_name} differs by {gap:.4f}"


def _runs_here(name: str, kind: str, *, is_asked: bool) -> bool:
    if not _is_installed(name) or name not in PREFERENCE[kind]:
        return False
    # A device that was asked for is tried, so that the error names what is missing.
    return kind == "cpu" or is_asked or _has_gpu(_RUNTIMES[name])


def _is_installed(name: str) -> bool:
    return find_spec(_RUNTIMES[name]) is not None


@cache
def _has_gpu(runtime: str) -> bool:
    if not gpu_count():
        return False
    if runtime == "torch":
        import torch

        return torch.cuda.is_available()
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
