"""Half precision, eight bits and OpenVINO: written from the ONNX file, held to their own tolerances, never silently."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.data.dataset import Dataset
from visionyard.errors import DataError, ModelError, ParityError
from visionyard.export import Certificate, Origin, Tolerances, export_trained
from visionyard.export.comparison import Comparison
from visionyard.export.parity import Comparisons, Metrics, certify
from visionyard.inference import Bundle, Predictor
from visionyard.transforms import PreprocessingSpec

SPEC = PreprocessingSpec(resize="letterbox", size_hw=(100, 100), interpolation="bilinear")
LOSSY = ["onnx", "onnx-fp16", "onnx-int8"]


def _export(trained: Any, dataset: Dataset, target: Path, formats: list[str], **tolerances: float) -> Any:
    origin = Origin("tiny", "hand-made", "squares", "Apache-2.0", dataset.digest, "c" * 64, "e" * 64, {})
    return export_trained(
        trained,
        origin,
        dataset,
        target,
        formats=formats,
        opset=18,
        tolerances=Tolerances(score=0.001, metric=0.001, **tolerances),
    )


@pytest.fixture(scope="module", params=["detection", "classification"])
def lossy_bundle(
    request: pytest.FixtureRequest,
    tiny_dataset: Callable[..., Path],
    tiny_model: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Dataset]:
    dataset = Dataset(tiny_dataset(request.param))
    formats = [*LOSSY, *(["openvino"] if find_spec("openvino") else [])]
    target = tmp_path_factory.mktemp("lossy") / "bundle"
    # Six pictures with two boxes each: one box more or less is worth more than the usual budget.
    _export(tiny_model(request.param), dataset, target, formats, int8_metric=0.1)
    return target, dataset


def test_lossy_formats_are_certified_with_their_own_tolerances(lossy_bundle: tuple[Path, Dataset]) -> None:
    folder, _ = lossy_bundle

    parity = Bundle.open(folder).manifest.parity
    certificate = json.loads((folder / "parity.json").read_text())["formats"]

    assert parity is not None
    assert {name: proof.metric_tolerance for name, proof in parity.formats.items() if name in LOSSY} == {
        "onnx": None,
        "onnx-fp16": 0.001,
        "onnx-int8": 0.1,
    }
    assert (certificate["onnx"]["tolerances"], certificate["onnx-fp16"]["tolerances"]["score"]) == (None, 0.02)
    assert {row["verdict"] for row in certificate["onnx-int8"]["rows"]} == {"not judged"}
    assert {row["verdict"] for row in certificate["onnx-fp16"]["rows"]} == {"same"}
    assert parity.formats["onnx-int8"].max_score_gap > parity.formats["onnx"].max_score_gap  # it is truly another model
    assert "`onnx-int8` is quicker at a price: its" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["onnx-fp16", "onnx-int8", "openvino"])
def test_each_format_finds_what_the_exact_one_finds(name: str, lossy_bundle: tuple[Path, Dataset]) -> None:
    folder, dataset = lossy_bundle
    if name == "openvino" and not find_spec("openvino"):
        pytest.skip("needs the extra openvino")
    images = [dataset.image(sample) for sample in dataset.samples("test")]

    with Predictor.from_bundle(folder, "onnx") as exact, Predictor.from_bundle(folder, name) as other:
        pairs = list(zip(exact.predict(images), other.predict(images), strict=True))

    for one, two in pairs:
        first, second = (
            (one.class_id, two.class_id)
            if dataset.task == "classification"
            else (sorted(one.class_ids), sorted(two.class_ids))
        )
        assert first == second


def test_openvino_reads_the_file_of_onnx(lossy_bundle: tuple[Path, Dataset]) -> None:
    if not find_spec("openvino"):
        pytest.skip("needs the extra openvino")
    formats = Bundle.open(lossy_bundle[0]).manifest.formats

    assert formats["openvino"].file == formats["onnx"].file == "model.onnx"
    assert "openvino" in formats["openvino"].details


def test_a_bundle_of_eight_bits_only_has_no_other_file(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset("classification"))

    report = _export(tiny_model("classification"), dataset, tmp_path / "one", ["onnx-int8"])
    again = _export(tiny_model("classification"), dataset, tmp_path / "two", ["onnx-int8"])

    assert sorted(path.name for path in report.bundle.iterdir()) == [
        "README.md", "model-int8.onnx", "model.json", "parity.json"
    ]  # fmt: skip
    assert Bundle.open(report.bundle).manifest.formats["onnx-int8"].details["calibration_images"] == 6
    assert report.bundle_digest == again.bundle_digest


def _certified(
    name: str, *, gap: float | None, score_gap: float = 0.0, box_gap_px: float = 0.0, signal: float = 0.9
) -> Certificate:
    comparison = Comparison(
        compared=3,
        missing=1,
        extra=1,
        tied=0,
        iou_gap=0.2,
        score_gap=score_gap,
        box_gap_px=box_gap_px,
        raw_gap=0.0,
    )
    seen = Comparisons({name: [("a.png", "real", comparison)]}, [np.array([signal])], SPEC)
    reference = None if gap is None else 0.8
    metrics = Metrics("map_50_95", reference, {name: None if gap is None else 0.8 - gap})
    return certify(seen, metrics, Tolerances(score=0.001, metric=0.001, int8_metric=0.01))


@pytest.mark.parametrize(
    ("name", "case", "message"),
    [
        pytest.param("onnx-fp16", {"gap": 0.0009}, None, id="fp16_within"),
        pytest.param("onnx-fp16", {"gap": 0.0011}, "differs by 0.0011, allowed 0.001", id="fp16_metric"),
        pytest.param("onnx-fp16", {"gap": 0.0, "score_gap": 0.021}, "score differs by 0.021", id="fp16_score"),
        pytest.param("onnx-fp16", {"gap": 0.0, "box_gap_px": 1.1}, "raw boxes differ by 1.1 px", id="fp16_box"),
        pytest.param("onnx-fp16", {"gap": None}, None, id="fp16_without_labels"),
        pytest.param("onnx-int8", {"gap": 0.009, "score_gap": 0.3, "box_gap_px": 40.0}, None, id="int8_within"),
        pytest.param("onnx-int8", {"gap": 0.011}, "raise export.int8_metric_tolerance", id="int8_metric"),
        pytest.param("onnx-int8", {"gap": -0.011}, "differs by 0.0110", id="int8_better_is_other_too"),
        pytest.param("onnx-int8", {"gap": None}, "the test split has no labels", id="int8_without_labels"),
        pytest.param("onnx-int8", {"gap": 0.0, "signal": 0.01}, "says next to nothing", id="int8_of_a_young_model"),
        pytest.param("onnx", {"gap": 0.0}, "1 boxes missing", id="exact_formats_stay_strict"),
    ],
)
def test_what_a_lossy_format_may_lose(name: str, case: dict[str, Any], message: str | None) -> None:
    certificate = _certified(name, **case)

    assert certificate.is_passed is (message is None)
    assert message is None or message in certificate.text()


@pytest.mark.parametrize(
    ("name", "gap", "keeps"),
    [
        ("onnx-fp16", 0.0009, True),
        ("onnx-fp16", None, False),
        ("onnx-int8", 0.0009, True),
        ("onnx-int8", 0.009, False),
        ("tflite", 0.0, False),
    ],
)
def test_only_what_is_as_good_as_exact_keeps_the_metric(name: str, gap: float | None, keeps: bool) -> None:
    summary = _certified(name if name != "tflite" else "onnx", gap=gap).summary()

    assert summary.keeps_metric(name) is keeps


def test_over_its_budget_there_is_no_bundle(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionyard.export import derived

    # Calibrated on black pictures every activation of a real one is out of range.
    monkeypatch.setattr(derived, "calibration_images", lambda dataset: [np.zeros((96, 96, 3), np.uint8)] * 3)

    with pytest.raises(ParityError, match=r"no bundle is written\n(.*\n)*.*leave onnx-int8 out of export.formats"):
        _export(tiny_model("detection"), Dataset(tiny_dataset("detection")), tmp_path / "bundle", ["onnx-int8"])

    assert list(tmp_path.iterdir()) == []


def test_a_model_of_one_layer_has_nothing_for_eight_bits(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    import dataclasses

    from torch import nn

    trained = tiny_model("classification")
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()

    with pytest.raises(ModelError, match="no convolution or matrix product besides its last layers"):
        _export(
            dataclasses.replace(trained, module=flat),
            Dataset(tiny_dataset("classification")),
            tmp_path / "bundle",
            ["onnx", "onnx-int8"],
        )


def test_eight_bits_need_training_images(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset("classification", counts={"test": 3, "val": 3}))

    with pytest.raises(DataError, match="the train split is empty; onnx-int8 is calibrated on it"):
        _export(tiny_model("classification"), dataset, tmp_path / "bundle", ["onnx-int8"])
