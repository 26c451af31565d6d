"""How many inferences run at once, with how many threads each, and how many images of them go together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from visionyard.config.serving_config import ServedModelConfig
from visionyard.inference.backends import Backend

_MAX_INSTANCES = 16
_GPU_BATCH = 8
# Pixels of all images of an inference on a CPU. More images than that cost more processor time each, fewer leave some
# unused. Milliseconds of processor time an image, ONNX Runtime 1.31, one thread, batches of 1, 2, 4, 8,
# on a machine of two cores that others used too:
#      96 px mobilenet_v3_small   0.62  0.48  0.41  0.37
#     128 px yolov8n-cls          1.43  1.33  1.29  1.25
#     192 px yolo11n              7.00  6.26  6.00  5.93
#     224 px mobilenet_v2         5.73  5.68  5.95  6.40
#     640 px yolo11n             60.2  63.1  68.9  70.7
_CPU_BATCH_PIXELS = 150_000
_CPU_MAX_BATCH = 8


@dataclass(frozen=True)
class Concurrency:
    """What was chosen.

    Attributes:
        instances: Inferences at the same time.
        alone_threads: Threads of an inference that has the machine to itself; 0 leaves the library's own choice.
        crowd_threads: Threads of an inference beside others.
    """

    instances: int
    alone_threads: int
    crowd_threads: int


def settle_concurrency(model: ServedModelConfig, *, format: str, device: str, cores: int) -> Concurrency:  # noqa: A002
    """Return how a model runs; what the config leaves open (0) is chosen.

    On a CPU as many inferences run at once as there are cores, each with one thread: that needs the least processor
    time, while an inference that is alone takes all cores: that answers soonest. For mobilenet_v2 at 224 px on two
    cores: 5.7 ms of processor time against 7.7 ms, 4.2 ms until the answer against 5.2 ms. TorchScript and OpenVINO
    have one number of threads for all, so they keep to one inference; so do GPUs, which take batches instead.

    Args:
        model: `threads` and `instances`.
        format: Of the bundle's formats, the one that runs.
        device: Where.
        cores: That this process may use.
    """
    if device != "cpu" or not format.startswith("onnx"):
        return Concurrency(model.instances or 1, model.threads, model.threads)
    if model.threads:
        instances = model.instances or min(_MAX_INSTANCES, max(1, cores // model.threads))
        return Concurrency(instances, model.threads, model.threads)
    instances = model.instances or min(_MAX_INSTANCES, cores)
    return Concurrency(instances, cores, max(1, cores // instances))


def settle_batch(wanted: int, *, device: str, size_hw: tuple[int, int]) -> int:
    """Return the most images of an inference.

    Args:
        wanted: batching.max_size; 0 to choose.
        device: Where the model runs.
        size_hw: Of its input, pixels.
    """
    if wanted:
        return wanted
    if device != "cpu":
        return _GPU_BATCH
    return min(_CPU_MAX_BATCH, max(1, _CPU_BATCH_PIXELS // (size_hw[0] * size_hw[1])))


class ElasticBackend:
    """Two loaded copies of a model: one takes all cores for what is alone in the server, one takes few beside others.

    Attributes:
        in_work: Returns the images that are being worked on, those of the inference among them. An image that is still
            decoded counts: for mobilenet_v3 and 16 clients on two cores, asking for inferences alone cost a tenth of
            the throughput (132 images/s in place of 144).
    """

    def __init__(self, alone: Backend, crowd: Backend) -> None:
        """Take the two.

        Args:
            alone: Used while there is nothing but the inference.
            crowd: Used beside others.
        """
        self.name = alone.name
        self.in_work: Callable[[], int] = lambda: 0
        self._alone = alone
        self._crowd = crowd

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs of a batch; errors as in `Backend.run_all`."""
        return (self._crowd if self.in_work() > len(batch) else self._alone).run_all(batch)

    def close(self) -> None:
        """Let go of both."""
        self._alone.close()
        self._crowd.close()
