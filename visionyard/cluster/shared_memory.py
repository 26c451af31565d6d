"""How much shared memory the loader processes of a training need."""

from collections.abc import Mapping
from typing import Any

# The pipeline parameters that are read here.
SHAPING_PARAMETERS = frozenset(
    {"model_name", "model_preset", "training_batch_size", "training_image_size_px", "training_loader_workers"}
)
# What torch's loaders hold ready per process, and the most processes that training.loader_workers -1 starts on a GPU.
_PREFETCHED_BATCHES = 2
_MOST_WORKERS = 8
_CHANNEL_BYTES = 3 * 4
_STEP_BYTES = 256 << 20


def shared_memory_bytes(parameters: Mapping[str, Any], *, has_accelerator: bool) -> tuple[int, str]:
    """Return the size that /dev/shm should have, and what it was computed from.

    Loader processes hand whole batches over in shared memory: float32 tensors of three channels, two batches a
    process. A quarter is added for labels and for what is being freed, and the sum rounded up to 256 MiB.

    Args:
        parameters: Pipeline parameters; `training_*` and `model_*` are read, with the pipeline's defaults where one is
            missing.
        has_accelerator: Whether the stage has one; without it no loader processes are started unless asked for.
    """
    workers = int(parameters.get("training_loader_workers", -1))
    if workers < 0:
        workers = _MOST_WORKERS if has_accelerator else 0
    batch_size = int(parameters.get("training_batch_size", 0))
    side_px = int(parameters.get("training_image_size_px", 0))
    if not batch_size or not side_px:
        from visionyard.models import get_plugin

        plugin = get_plugin(str(parameters.get("model_name", "yolo-detection")))
        _, preset = plugin.preset(str(parameters.get("model_preset", "")))
        batch_size, side_px = batch_size or preset.batch_size, side_px or preset.image_size_px
    batch_bytes = batch_size * side_px**2 * _CHANNEL_BYTES
    needed = workers * _PREFETCHED_BATCHES * batch_bytes * 5 // 4
    reason = f"{workers} loader workers with batches of {batch_size} images of {side_px} px"
    return max(1, -(-needed // _STEP_BYTES)) * _STEP_BYTES, reason
