"""The format and device are what was asked for, or the best that is certified, and the reason says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import ConfigError
from visionyard.inference import Bundle, choice, choose_format


@pytest.fixture
def make_bundle(tiny_bundle: Callable[..., Any], tmp_path: Path) -> Callable[..., Bundle]:
    """Return a function that copies a bundle and changes its manifest: certified formats with their metric gap."""

    def make(formats: dict[str, float | None], *, failed: str = "", origin: str = "trained") -> Bundle:
        folder = tmp_path / f"bundle{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_bundle("classification")[0], folder)
        path = folder / "model.json"
        values = json.loads(path.read_text())
        onnx, proof = values["formats"]["onnx"], values["parity"]["formats"]["onnx"]
        values["formats"] = dict.fromkeys(formats, onnx)
        values["parity"]["formats"] = {
            name: {**proof, "metric_gap": gap, "is_passed": name != failed} for name, gap in formats.items()
        }
        if origin == "imported":
            values |= {"origin": "imported", "parity": None, "reference_statistics": None}
        path.write_text(json.dumps(values))
        return Bundle.open(folder)

    return make


def _install(monkeypatch: pytest.MonkeyPatch, *runtimes: str) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: name if name in runtimes else None)


ALL = {"onnx": 0.0, "torchscript": 0.0, "onnx-fp16": 0.0005, "onnx-int8": 0.006, "openvino": 0.0}


@pytest.mark.parametrize(
    ("formats", "wanted", "expected"),
    [
        pytest.param({"onnx": 0.0}, "auto", "onnx on cpu: the only certified format", id="only_one"),
        pytest.param(
            {"torchscript": 0.0, "onnx": 0.0},
            "auto",
            "onnx on cpu: the first in the order of preference of onnx, torchscript, all certified",
            id="order_of_preference",
        ),
        pytest.param(
            ALL,
            "auto",
            "onnx on cpu: the first in the order of preference of onnx, openvino, torchscript, onnx-fp16, all "
            "certified; onnx-int8 loses more than the exact ones and is taken when asked for",
            id="a_lossy_one_is_left_out",
        ),
        pytest.param(
            {"onnx-int8": 0.006}, "auto", "onnx-int8 on cpu: the only certified format", id="only_a_lossy_one"
        ),
        pytest.param(
            ALL, "onnx-int8", "onnx-int8 on cpu: asked for; certified, top_1 differs by 0.0060", id="lossy_by_name"
        ),
        pytest.param({"onnx": None}, "onnx", "onnx on cpu: asked for; certified", id="without_labels"),
    ],
)
def test_the_choice_and_its_reason(
    formats: dict[str, float | None],
    wanted: str,
    expected: str,
    make_bundle: Callable[..., Bundle],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _install(monkeypatch, "onnxruntime", "torch", "openvino")
    monkeypatch.setattr(choice, "_has_gpu", lambda runtime: False)

    found = choose_format(make_bundle(formats), wanted=wanted)

    assert found.reason == expected
    assert found.reason.startswith(f"{found.format} on {found.device}: ")


@pytest.mark.parametrize(
    ("device", "expected"),
    [("auto", ("onnx-fp16", "cuda")), ("cpu", ("onnx", "cpu")), ("cuda:1", ("onnx-fp16", "cuda:1"))],
)
def test_a_gpu_is_taken_when_there_is_one(
    device: str, expected: tuple[str, str], make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "onnxruntime", "torch", "openvino")
    monkeypatch.setattr(choice, "_has_gpu", lambda runtime: True)

    found = choose_format(make_bundle(ALL), device=device)

    assert (found.format, found.device) == expected


def test_a_format_without_its_library_is_passed_over(
    make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "onnxruntime")
    monkeypatch.setattr(choice, "_has_gpu", lambda runtime: False)
    bundle = make_bundle({"torchscript": 0.0, "onnx": 0.0})

    assert choose_format(bundle).reason == "onnx on cpu: the only certified format that runs here"
    with pytest.raises(ConfigError, match="'torchscript': torch is not installed"):
        choose_format(bundle, wanted="torchscript")
    with pytest.raises(ConfigError, match=r"none of its formats \(torchscript\) is certified and runs on auto"):
        choose_format(make_bundle({"torchscript": 0.0}))


def _write_verdict(bundle: Bundle, **changes: Any) -> None:
    rows = [
        {"format": name, "batch_size": batch_size, "p50_ms": p50_ms}
        for name, batch_size, p50_ms in [
            ("onnx", 1, 9.0),
            ("onnx", 8, 1.0),
            ("torchscript", 1, 4.0),
            ("onnx-int8", 1, 2.0),
            ("torchscript", 1, 5.0),
        ]
    ]
    values = {"bundle_digest": bundle.digest, "measurements": rows, **changes}
    (bundle.folder / "benchmark.json").write_text(json.dumps(values))


def test_the_benchmark_in_the_bundle_decides(
    make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "onnxruntime", "torch")
    monkeypatch.setattr(choice, "_has_gpu", lambda runtime: False)
    bundle = make_bundle(ALL)
    _write_verdict(bundle)

    found = choose_format(bundle)

    assert found.reason.startswith(
        "torchscript on cpu: the fastest of onnx, torchscript, onnx-fp16 by the bundle's benchmark (4.0 ms)"
    )


@pytest.mark.parametrize(
    "changes",
    [{"bundle_digest": "a" * 64}, {"measurements": [{"format": "onnx"}]}, {"measurements": []}, {"measurements": 3}],
    ids=["of_another_bundle", "incomplete", "empty", "no_list"],
)
def test_a_benchmark_that_does_not_count(
    changes: dict[str, Any], make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "onnxruntime", "torch")
    monkeypatch.setattr(choice, "_has_gpu", lambda runtime: False)
    bundle = make_bundle(ALL)
    _write_verdict(bundle, **changes)

    assert choose_format(bundle).reason.startswith("onnx on cpu: the first in the order of preference")


@pytest.mark.parametrize(
    ("wanted", "device", "message"),
    [
        pytest.param("onnx-int8", "auto", "its format onnx-int8 is not certified .* take onnx", id="not_certified"),
        pytest.param("openvino", "auto", "has no format 'openvino'; it has onnx, onnx-int8", id="absent"),
        pytest.param("tflite", "auto", "format 'tflite': expected auto, onnx", id="unknown_format"),
        pytest.param("onnx", "tpu", "device 'tpu': expected auto, cpu, cuda, tensorrt", id="unknown_device"),
        pytest.param("auto", "tpu:1", "device 'tpu:1'", id="unknown_device_for_auto"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    wanted: str, device: str, message: str, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle({"onnx": 0.0, "onnx-int8": 0.2}, failed="onnx-int8")

    with pytest.raises(ConfigError, match=message):
        choose_format(bundle, wanted=wanted, device=device)


def test_torchscript_does_not_run_on_tensorrt(make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(ConfigError, match="'torchscript' does not run on tensorrt"):
        choose_format(make_bundle({"torchscript": 0.0}), wanted="torchscript", device="tensorrt")


def test_an_imported_model_is_run_without_a_certificate(
    make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "onnxruntime", "openvino")
    monkeypatch.setattr(choice, "_has_gpu", lambda runtime: False)
    bundle = make_bundle({"onnx": 0.0}, origin="imported")

    assert choose_format(bundle).reason == "onnx on cpu: imported, not certified"
    assert choose_format(bundle, wanted="openvino").reason == "openvino on cpu: asked for; imported, not certified"


def test_there_is_no_gpu_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(choice.ctypes, "CDLL", absent)

    assert choice.gpu_count() == 0
