"""What several backends share: models of a fixed batch size, and what their libraries' errors mean."""

from collections.abc import Callable

import numpy as np

from visionyard.errors import ShapeError


def in_fixed_batches(
    run: Callable[[np.ndarray], list[np.ndarray]], batch: np.ndarray, size: int | None
) -> list[np.ndarray]:
    """Run a batch of any size on a model that takes batches of one size only; the last one is filled with zeros.

    Args:
        run: Takes (size, ...) and gives one (size, ...) for each output.
        batch: (B, ...).
        size: The model's batch size; None when it takes any.

    Returns:
        One (B, ...) for each output.
    """
    if size is None or len(batch) == size:
        return run(batch)
    parts = []
    for start in range(0, max(1, len(batch)), size):
        part = batch[start : start + size]
        filled = np.concatenate([part, np.zeros((size - len(part), *batch.shape[1:]), batch.dtype)])
        parts.append([output[: len(part)] for output in run(filled)])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def run_error(name: str, batch: np.ndarray, error: Exception) -> Exception:
    """Return what a library's error on a batch means: out of memory, or a shape that the model cannot take."""
    # Neither torch nor ONNX Runtime has an error class of its own for memory on the CPU.
    if "memory" in str(error).lower() or "bad_alloc" in str(error):
        return MemoryError(f"{name}: out of memory on a batch of shape {batch.shape}: {last_line(error)}")
    return ShapeError(f"{name}: the model cannot take an input of shape {batch.shape}: {last_line(error)}")


def last_line(error: Exception) -> str:
    """Return the last line of an error's message; the lines before are the library's own call stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
