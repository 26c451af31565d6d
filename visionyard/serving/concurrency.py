"""How many inferences run at once, and with how many threads each."""

import os

from visionyard.config.serving_config import ServedModelConfig


def core_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle_concurrency(model: ServedModelConfig, device: str) -> tuple[int, int]:
    """Return the threads of an inference and the inferences at the same time; what the config leaves open is chosen.

    Args:
        model: `threads` and `instances`, 0 to choose.
        device: Where the model runs.
    """
    if device != "cpu":
        return model.threads, model.instances or 1
    instances = model.instances or 1
    return model.threads or max(1, core_count() // instances), instances
