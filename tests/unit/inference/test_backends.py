"""Every backend gives the numbers of the module itself, and says what is wrong with a file or an input."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.errors import ArtifactError, ConfigError, ShapeError
from visionyard.inference import OnnxBackend, OnnxOptions, TorchBackend, TorchScriptBackend, load_backend


@pytest.fixture
def threads_restored() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _squares() -> np.ndarray:
    batch = np.full((3, 3, 32, 32), -0.1, np.float32)
    batch[1, 0], batch[2, 2] = 0.9, 0.9
    return batch


@pytest.mark.parametrize("name", ["pytorch", "torchscript", "onnx", "openvino"])
def test_all_backends_give_the_hand_calculated_output(
    name: str, tiny_bundle: Callable[..., Any], tiny_model: Callable[..., Any], threads_restored: None
) -> None:
    if name == "openvino" and not find_spec("openvino"):
        pytest.skip("needs the extra openvino")
    folder, _ = tiny_bundle("classification")
    backend = {
        "pytorch": lambda: TorchBackend(tiny_model("classification").module),
        "torchscript": lambda: TorchScriptBackend(folder / "model.torchscript", 1),
        "onnx": lambda: OnnxBackend(folder / "model.onnx", 1),
        "openvino": lambda: load_backend("openvino", folder / "model.onnx", threads=1),
    }[name]()

    (output,) = backend.run_all(_squares())

    # (red - blue - 0.2) or (blue - red - 0.2), cut at 0, times 80; 0.1 more for blue.
    expected = [[0.1, 0.0], [0.1, 64.0], [64.1, 0.0]]
    assert backend.name == name
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    backend.close()


def test_torchscript_takes_the_thread_count(tiny_bundle: Callable[..., Any], threads_restored: None) -> None:
    import torch

    load_backend("torchscript", tiny_bundle("classification")[0] / "model.torchscript", threads=1)

    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
@pytest.mark.parametrize("content", [b"", b"junk", None], ids=["empty", "junk", "missing"])
def test_refuses_a_file_that_is_no_model(name: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ArtifactError, match=r"model\.bin: .* cannot load it"):
        load_backend(name, path)


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("tflite", "cpu", "format 'tflite': no backend runs it"),
        ("torchscript", "tensorrt", "device 'tensorrt': torchscript runs on cpu or cuda"),
        ("openvino", "cuda", "device 'cuda': openvino runs on cpu"),
        ("onnx", "tpu", "device 'tpu': ONNX Runtime runs on cpu, cuda or tensorrt"),
    ],
)
def test_refuses_what_it_cannot_honour(name: str, device: str, message: str, tiny_bundle: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        load_backend(name, tiny_bundle("classification")[0] / "model.onnx", device=device)


def test_says_when_onnx_runtime_has_no_cuda(tiny_bundle: Callable[..., Any]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("needs an onnxruntime without CUDA")
    with pytest.raises(ConfigError, match="has no CUDAExecutionProvider"):
        load_backend("onnx", tiny_bundle("classification")[0] / "model.onnx", device="cuda:0")


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_refuses_an_input_of_another_shape(name: str, tiny_bundle: Callable[..., Any]) -> None:
    backend = load_backend(name, tiny_bundle("classification")[0] / f"model.{name}")

    with pytest.raises(ShapeError, match=r"cannot take an input of shape \(1, 4, 32, 32\)"):
        backend.run_all(np.zeros((1, 4, 32, 32), np.float32))


def test_a_gpu_library_without_a_gpu_is_an_error_not_the_cpu(
    tiny_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    class OnCpuAfterAll:
        """What ONNX Runtime gives when CUDA does not start: a session on the CPU, and a line in the log."""

        def __init__(self, path: str, options: object, providers: list[Any]) -> None:
            assert providers == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    present = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: present)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", OnCpuAfterAll)

    with pytest.raises(ConfigError, match="device 'cuda:1': ONNX Runtime has CUDAExecutionProvider, but it does not"):
        load_backend("onnx", tiny_bundle("classification")[0] / "model.onnx", device="cuda:1")


def test_torchscript_says_when_there_is_no_gpu(tiny_bundle: Callable[..., Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without GPU")
    with pytest.raises(ConfigError, match="device 'cuda': torch sees no GPU here"):
        load_backend("torchscript", tiny_bundle("classification")[0] / "model.torchscript", device="cuda")


@pytest.mark.parametrize(
    "options",
    [
        OnnxOptions(is_spinning=True),
        OnnxOptions(has_arena=False),
        OnnxOptions(level="none"),
        OnnxOptions(level="basic"),
    ],
    ids=["spinning", "no_arena", "graph_as_it_is", "basic"],
)
def test_options_change_the_speed_only(options: OnnxOptions, tiny_bundle: Callable[..., Any]) -> None:
    path = tiny_bundle("detection")[0] / "model.onnx"
    batch = np.random.default_rng(0).random((2, 3, 96, 96), np.float32)

    found = load_backend("onnx", path, threads=1, options=options).run_all(batch)

    np.testing.assert_allclose(found, load_backend("onnx", path, threads=1).run_all(batch), atol=1e-4)
