"""How many inferences at once, with how many threads and images; and the backend that changes with the load."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from visionyard.config.serving_config import ServedModelConfig
from visionyard.inference import Bundle
from visionyard.serving.concurrency import Concurrency, ElasticBackend, settle_batch, settle_concurrency

WAIT_S = 10.0


@pytest.mark.parametrize(
    ("values", "format_name", "device", "cores", "settled"),
    [
        pytest.param({}, "onnx", "cpu", 2, Concurrency(2, 2, 1), id="two cores"),
        pytest.param({}, "onnx-int8", "cpu", 8, Concurrency(8, 8, 1), id="eight cores"),
        pytest.param({}, "onnx", "cpu", 1, Concurrency(1, 1, 1), id="one core"),
        pytest.param({}, "onnx", "cpu", 64, Concurrency(16, 64, 4), id="many cores"),
        pytest.param({"instances": 2}, "onnx", "cpu", 8, Concurrency(2, 8, 4), id="instances given"),
        pytest.param({"instances": 4}, "onnx", "cpu", 2, Concurrency(4, 2, 1), id="more instances than cores"),
        pytest.param({"threads": 2}, "onnx", "cpu", 8, Concurrency(4, 2, 2), id="threads given"),
        pytest.param({"threads": 4}, "onnx", "cpu", 2, Concurrency(1, 4, 4), id="more threads than cores"),
        pytest.param({"threads": 1, "instances": 3}, "onnx", "cpu", 8, Concurrency(3, 1, 1), id="both given"),
        pytest.param({}, "torchscript", "cpu", 8, Concurrency(1, 0, 0), id="torch"),
        pytest.param({}, "openvino", "cpu", 8, Concurrency(1, 0, 0), id="OpenVINO"),
        pytest.param({}, "onnx", "cuda", 8, Concurrency(1, 0, 0), id="GPU"),
        pytest.param({"instances": 2}, "onnx", "cuda", 8, Concurrency(2, 0, 0), id="GPU, instances given"),
    ],
)
def test_what_is_left_open_is_chosen(
    values: dict, format_name: str, device: str, cores: int, settled: Concurrency
) -> None:
    model = ServedModelConfig(path="bundle", **values)
    assert settle_concurrency(model, format=format_name, device=device, cores=cores) == settled


@pytest.mark.parametrize(
    ("wanted", "device", "size_hw", "count"),
    [
        (0, "cpu", (640, 640), 1),
        (0, "cpu", (224, 224), 2),
        (0, "cpu", (192, 192), 4),
        (0, "cpu", (128, 128), 8),
        (0, "cpu", (16, 16), 8),
        (0, "cpu", (4000, 3000), 1),
        (0, "cuda", (640, 640), 8),
        (5, "cpu", (640, 640), 5),
        (32, "cuda", (640, 640), 32),
    ],
)
def test_images_of_an_inference(wanted: int, device: str, size_hw: tuple[int, int], count: int) -> None:
    assert settle_batch(wanted, device=device, size_hw=size_hw) == count


class Copy:
    name = "onnx"

    def __init__(self) -> None:
        self.calls = 0
        self.is_closed = False

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        self.calls += 1
        return [batch * 2]

    def close(self) -> None:
        self.is_closed = True


def test_alone_one_copy_runs_and_beside_others_the_other() -> None:
    alone, crowd = Copy(), Copy()
    backend = ElasticBackend(alone, crowd)  # type: ignore[arg-type]
    in_work = 1
    backend.in_work = lambda: in_work

    assert backend.run_all(np.ones(1))[0].tolist() == [2.0]
    in_work = 2  # one more image, decoded or run at this moment
    backend.run_all(np.ones(1))
    assert (alone.calls, crowd.calls) == (1, 1)
    backend.run_all(np.ones(2))  # both of them are in this batch
    assert (alone.calls, crowd.calls) == (2, 1)
    backend.close()
    assert alone.is_closed
    assert crowd.is_closed


def test_both_copies_answer_alike(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> None:
    bundle = Bundle.open(tiny_bundle("detection")[0])
    alone, crowd = bundle.backend("onnx", threads=2), bundle.backend("onnx", threads=1)
    batch = np.random.default_rng(0).random((3, 3, 96, 96), np.float32)
    assert np.allclose(alone.run_all(batch), crowd.run_all(batch), atol=1e-4)
    alone.close()
    crowd.close()
