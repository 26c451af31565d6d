"""An export that was altered in any way is refused; an honest one passes, however little the model finds."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.data.dataset import Dataset
from visionyard.errors import ParityError
from visionyard.export.cases import cases, odd_cases
from visionyard.export.certificate import Certificate
from visionyard.export.formats import write_onnx, write_torchscript
from visionyard.export.metric import MAIN_METRICS, main_metric, predict_test_split
from visionyard.export.parity import Metrics, certify, compare_formats
from visionyard.export.tolerances import Tolerances
from visionyard.inference import Predictor, TorchBackend, load_backend

TOLERANCES = Tolerances(score=0.001, metric=0.001)


def _certify(reference: Predictor, candidate: Predictor, dataset: Dataset) -> Certificate:
    candidates = {"onnx": candidate}
    seen = compare_formats(reference, candidates, cases(dataset, 2), TOLERANCES.score)
    found = predict_test_split(dataset, {"pytorch": reference, **candidates})
    values = {name: main_metric(dataset, predictions) for name, predictions in found.items()}
    return certify(seen, Metrics(MAIN_METRICS[dataset.task], values.pop("pytorch"), values), TOLERANCES)


def _with(trained: Any, *, module: Any = None, before: Any = None, after: Any = None) -> Predictor:
    """A predictor that differs from the trained model in one thing."""
    return Predictor(
        TorchBackend(module or trained.module),
        trained.preprocessing.model_copy(update=before or {}),
        trained.postprocessing.model_copy(update=after or {}),
        trained.classes,
    )


def _perturbed(module: Any, share: float) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for weights in changed.parameters():
            weights += weights * share * torch.randn(weights.shape, generator=generator).sign()
    return changed


ALTERATIONS: dict[str, Callable[[Any], Predictor]] = {
    "weights_by_one_percent": lambda trained: _with(trained, module=_perturbed(trained.module, 0.01)),
    "normalisation": lambda trained: _with(trained, before={"scale": 1 / 256}),
    "mean": lambda trained: _with(trained, before={"mean": (0.485, 0.456, 0.406)}),
    "channels": lambda trained: _with(trained, before={"channel_order": "bgr"}),
    "resize": lambda trained: _with(trained, before={"resize": "stretch"}),
}


@pytest.mark.parametrize("task", ["detection", "classification"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_export_is_refused(
    alteration: str, task: str, tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    trained, dataset = tiny_model(task), Dataset(tiny_dataset(task))

    certificate = _certify(Predictor.from_model(trained), ALTERATIONS[alteration](trained), dataset)

    assert not certificate.is_passed
    assert "onnx: differs on" in certificate.text()
    assert "score differs by" in certificate.text()


@pytest.mark.parametrize(
    "after",
    [{"iou_threshold": 0.2}, {"iou_threshold": 0.9}, {"max_detections": 1}],
    ids=["stricter", "looser", "fewer"],
)
def test_another_suppression_is_refused(
    after: dict[str, Any], tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    trained, dataset = tiny_model("detection"), Dataset(tiny_dataset("detection"))

    certificate = _certify(Predictor.from_model(trained), _with(trained, after=after), dataset)

    assert not certificate.is_passed
    assert "boxes" in certificate.text()


@pytest.mark.parametrize("alteration", [None, *ALTERATIONS])
def test_a_model_that_finds_nothing_is_compared_all_the_same(
    alteration: str | None, tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    trained, dataset = tiny_model("detection", sureness=-20.0), Dataset(tiny_dataset("detection"))
    candidate = ALTERATIONS[alteration](trained) if alteration else Predictor.from_model(trained)

    certificate = _certify(Predictor.from_model(trained), candidate, dataset)

    assert certificate.signal < 0.05
    assert certificate.score_tolerance < TOLERANCES.score * 0.05
    assert sum(row.comparison.compared for row in certificate.formats["onnx"].rows) == 0
    assert certificate.is_passed is (alteration is None)


@pytest.mark.parametrize("sureness", [-20.0, -8.0])
@pytest.mark.parametrize("write", [write_onnx, write_torchscript])
def test_an_honest_export_passes_and_says_on_what(
    write: Callable[..., Any],
    sureness: float,
    tiny_dataset: Callable[..., Path],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    trained, dataset = tiny_model("detection", sureness=sureness), Dataset(tiny_dataset("detection"))
    file = write(trained.module, (3, 96, 96), tmp_path, opset=18)
    candidate = Predictor(
        load_backend(file.format, file.path), trained.preprocessing, trained.postprocessing, trained.classes
    )

    certificate = _certify(Predictor.from_model(trained), candidate, dataset)

    assert certificate.is_passed, certificate.text()
    kinds = [row.kind for row in certificate.formats["onnx"].rows]
    assert kinds[:7] == ["tall", "grey", "exif", "tiny", "wide", *["real"] * 2]
    assert kinds[7:] == ["batch"] * 7
    assert certificate.text() == "onnx: the same on all 14 images"


def test_a_format_that_holds_only_one_image_is_refused(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    class OneImage(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.inner(images).reshape(len(images), 6, -1)  # traced: the batch of 1 becomes a constant

    trained, dataset = tiny_model("detection"), Dataset(tiny_dataset("detection"))
    file = write_torchscript(OneImage(trained.module).eval(), (3, 96, 96), tmp_path, opset=18)
    candidate = Predictor(
        load_backend(file.format, file.path), trained.preprocessing, trained.postprocessing, trained.classes
    )

    with pytest.raises(ParityError, match=r"onnx: fails on test000 \(batch, batch of 7\)"):
        _certify(Predictor.from_model(trained), candidate, dataset)


def test_a_metric_that_moves_is_refused_and_a_missing_one_is_not(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    trained, dataset = tiny_model("classification"), Dataset(tiny_dataset("classification"))
    same = Predictor.from_model(trained)
    seen = compare_formats(same, {"onnx": same}, cases(dataset, 2), TOLERANCES.score)

    moved = certify(seen, Metrics("top_1", 0.9, {"onnx": 0.898}), TOLERANCES)
    missing = certify(seen, Metrics("top_1", None, {"onnx": None}), TOLERANCES)

    assert not moved.is_passed
    assert "top_1 is 0.8980, PyTorch's 0.9000: differs by 0.0020, allowed 0.001" in moved.text()
    assert missing.is_passed
    assert missing.summary().formats["onnx"].metric_gap is None


def test_the_table_names_image_kind_and_difference(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    trained, dataset = tiny_model("classification"), Dataset(tiny_dataset("classification"))

    lines = _certify(Predictor.from_model(trained), ALTERATIONS["channels"](trained), dataset).text().splitlines()

    assert lines[0].startswith("onnx: differs on ")
    assert "top_1 is" in lines[1]
    assert lines[2].split()[:3] == ["image", "kind", "same"]
    assert any("test000" in line and "another top class" in line for line in lines)
    assert lines[-1].strip().endswith("more") or len(lines) <= 15


def test_odd_images_are_odd() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[:10, :, 0] = 255  # a red bar at the top

    shapes = {case.kind: case.content.shape for case in odd_cases("a", image)}
    turned = next(case.content for case in odd_cases("a", image) if case.kind == "exif")
    grey = next(case.content for case in odd_cases("a", image) if case.kind == "grey")

    assert shapes == {
        "tall": (60, 20, 3),
        "grey": (60, 90, 3),
        "exif": (90, 60, 3),
        "tiny": (8, 8, 3),
        "wide": (20, 2000, 3),
    }
    assert turned[:, -5:, 0].mean() > 200  # turned right: the bar at the top is at the right
    assert (grey[..., 0] == grey[..., 2]).all()
    assert next(case.content.shape for case in odd_cases("b", np.zeros((1, 1, 3), np.uint8))) == (1, 1, 3)


def test_real_images_are_spread_over_the_split(tiny_dataset: Callable[..., Path]) -> None:
    dataset = Dataset(tiny_dataset("detection"))

    assert [case.name for case in cases(dataset, 4) if case.kind == "real"] == [
        "test000",
        "test002",
        "test003",
        "test005",
    ]
    assert len([case for case in cases(dataset) if case.kind == "real"]) == 6
