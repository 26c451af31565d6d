"""A bundle is whole and certified, or not there at all."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.config import ModelConfig, TrainingConfig
from visionyard.data.dataset import Dataset
from visionyard.errors import ConfigError, DataError, ModelError, ParityError
from visionyard.export import Origin, Tolerances, export_model, export_trained
from visionyard.export.formats import WRITERS, write_onnx, write_torchscript
from visionyard.export.statistics import distribution, reference_statistics
from visionyard.inference import Bundle, Predictor
from visionyard.models import get_plugin
from visionyard.training import make_plan
from visionyard.transforms import Classification, ClassificationPostprocessing


def _export(trained: Any, dataset: Dataset, target: Path, **changes: Any) -> Any:
    settings = {"formats": ["onnx"], "opset": 18, "tolerances": Tolerances(0.001, 0.001), **changes}
    digest = settings.pop("dataset_digest", dataset.digest)
    origin = Origin(
        "tiny", "hand-made", "squares", "Apache-2.0", digest, "c" * 64, "e" * 64, settings.pop("metrics", {})
    )
    return export_trained(trained, origin, dataset, target, **settings)


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_bundle_holds_everything_it_promises(task: str, tiny_bundle: Callable[[str], tuple[Path, Path]]) -> None:
    folder, dataset = tiny_bundle(task)

    manifest = Bundle.open(folder).manifest
    certificate = json.loads((folder / "parity.json").read_text())
    card = (folder / "README.md").read_text()

    assert sorted(path.name for path in folder.iterdir()) == sorted(["model.json", *manifest.files])
    assert list(manifest.formats) == ["onnx", "torchscript"]
    assert manifest.input.shape == ([-1, 3, 96, 96] if task == "detection" else [-1, 3, 32, 32])
    assert manifest.outputs[0].shape == ([-1, 6, 441] if task == "detection" else [-1, 2])
    assert manifest.dataset_digest == Dataset(dataset).digest
    assert manifest.parity.is_passed
    assert certificate["is_passed"]
    assert {row["kind"] for row in certificate["formats"]["onnx"]["rows"]} == {
        "real", "tall", "grey", "exif", "tiny", "wide", "batch"
    }  # fmt: skip
    assert manifest.parity.formats["onnx"].compared_count > 15
    assert manifest.metrics[manifest.parity.metric_name] > 0.5
    for text in ("# tiny", "`blue`, `red`", "Apache-2.0", "model.onnx", manifest.checkpoint_digest):
        assert text in card


def test_a_checkpoint_becomes_a_bundle_of_its_plugin(tiny_dataset: Callable[..., Path], tmp_path: Path) -> None:
    import torch

    dataset = Dataset(tiny_dataset("classification"))
    model = ModelConfig(name="torchvision-classification", preset="mobilenet_v3_small")
    plan = make_plan(model, TrainingConfig(image_size_px=32), task="classification", classes=dataset.classes)
    torch.manual_seed(0)
    weights = get_plugin(plan.model_name).build(plan).state_dict()
    content = {
        "schema_version": 1,
        "plan": plan.to_json(),
        "config_digest": "c" * 64,
        "dataset_digest": dataset.digest,
        "epoch": 1,
        "step": 1,
        "metrics": {},
        "weights": weights,
    }
    torch.save(content, tmp_path / "checkpoint.pt")

    report = export_model(
        tmp_path,
        dataset.folder,
        tmp_path / "bundle",
        formats=["onnx"],
        opset=18,
        score_tolerance=0.001,
        metric_tolerance=0.001,
        metrics=None,
        name="young",
    )

    manifest = Bundle.open(report.bundle).manifest
    assert (manifest.name, manifest.plugin, manifest.preset) == ("young", plan.model_name, "mobilenet_v3_small")
    assert manifest.licence == get_plugin(plan.model_name).info.licence
    assert manifest.config_digest == "c" * 64
    assert list(manifest.metrics) == ["top_1"]


def test_figures_handed_in_are_the_figures_told(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset("classification"))

    report = _export(
        tiny_model("classification"), dataset, tmp_path / "bundle", metrics={"top_1": 0.5, "macro_f1": 0.25}
    )

    manifest = Bundle.open(report.bundle).manifest
    assert manifest.metrics == {"top_1": 0.5, "macro_f1": 0.25}
    assert report.bundle_digest == Bundle.open(report.bundle).digest
    assert report.formats == {"onnx": (tmp_path / "bundle" / "model.onnx").stat().st_size}


def test_without_parity_there_is_no_bundle(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(module: Any, shape: tuple[int, ...], folder: Path, **options: Any) -> Any:
        import torch

        with torch.no_grad():
            module.head.weight *= 1.01
            file = write_onnx(module, shape, folder, **options)
            module.head.weight /= 1.01
        return file

    monkeypatch.setitem(WRITERS, "onnx", wrong)
    with pytest.raises(ParityError, match=r"no bundle is written\nonnx: differs on \d+ of 19 images\n(.*\n)*.*test000"):
        _export(tiny_model("classification"), Dataset(tiny_dataset("classification")), tmp_path / "bundle")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"formats": []}, ConfigError, "export.formats is empty"),
        ({"formats": ["onnx", "tflite"]}, ConfigError, "holds 'tflite'; known: onnx, torchscript"),
        ({"dataset_digest": "a" * 64}, ModelError, r"trained on dataset version a{12}, this is [0-9a-f]{12}"),
    ],
)
def test_refuses_what_does_not_fit(
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    tiny_dataset: Callable[..., Path],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        _export(tiny_model("classification"), Dataset(tiny_dataset("classification")), tmp_path / "bundle", **changes)

    assert list(tmp_path.iterdir()) == []


def test_refuses_a_dataset_without_test_images(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset("classification", counts={"train": 2, "val": 1}))

    with pytest.raises(DataError, match="the test split is empty"):
        _export(tiny_model("classification"), dataset, tmp_path / "bundle")


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_test_split_without_labels_still_certifies_the_images(
    task: str, tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset(task, is_labelled=False))

    report = _export(tiny_model(task), dataset, tmp_path / "bundle")

    manifest = Bundle.open(report.bundle).manifest
    assert manifest.metrics == {}
    assert manifest.parity.reference_metric is None
    assert manifest.reference_statistics.class_mix == {}


def test_same_model_same_bytes(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset("detection"))

    first = _export(tiny_model("detection"), dataset, tmp_path / "a", formats=["onnx", "torchscript"])
    second = _export(tiny_model("detection"), dataset, tmp_path / "b", formats=["torchscript", "onnx", "onnx"])

    assert (first.bundle / "model.onnx").read_bytes() == (second.bundle / "model.onnx").read_bytes()
    one, other = (Bundle.open(report.bundle).manifest.reference_statistics for report in (first, second))
    assert one == other


def test_torchscript_tells_nothing_of_the_machine(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    file = write_torchscript(tiny_model("detection").module, (3, 96, 96), tmp_path, opset=18)

    with zipfile.ZipFile(file.path) as archive:
        assert all(b"site-packages" not in archive.read(name) for name in archive.namelist())
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert list(tmp_path.iterdir()) == [file.path]


def test_onnx_has_the_names_of_the_contract(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_onnx(tiny_model("detection").module, (3, 96, 96), tmp_path, opset=17).path)

    (images,), (output,) = model.graph.input, model.graph.output
    sizes = [axis.dim_param or axis.dim_value for axis in images.type.tensor_type.shape.dim]
    assert (images.name, output.name) == ("images", "output")
    assert sizes == ["batch", 3, 96, 96]
    assert model.opset_import[0].version == 17


@pytest.mark.parametrize("write", [write_onnx, write_torchscript])
def test_a_model_that_cannot_be_exported(write: Callable[..., Any], tmp_path: Path) -> None:
    import torch

    class Refuses(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no tracing, please")

    with pytest.raises(ModelError, match=r"no tracing, please; .*export\.formats"):
        write(Refuses(), (8, 8), tmp_path, opset=18)


def test_statistics_are_those_of_the_images(tiny_dataset: Callable[..., Path]) -> None:
    dataset = Dataset(tiny_dataset("detection"))
    certain = [Classification(np.array([0.1, 0.9], np.float32))] * 6
    labels = [id_ for split in ("train", "val") for sample in dataset.samples(split) for id_ in sample.class_ids]
    brightness = [
        (dataset.image(sample)[..., :3] @ [0.299, 0.587, 0.114]).mean() / 255
        for split in ("train", "val")
        for sample in dataset.samples(split)
    ]

    found = reference_statistics(dataset, ClassificationPostprocessing(), certain)

    assert found.class_mix["red"] == pytest.approx(np.mean(labels), abs=1e-6)
    assert found.images["brightness"].mean == pytest.approx(np.mean(brightness), abs=1e-5)
    assert found.images["width_px"].quantiles["q50"] == 96
    assert found.confidence is not None
    assert found.confidence.mean == pytest.approx(0.9)


def test_distribution_by_hand() -> None:
    found = distribution(np.arange(101))

    assert (found.count, found.mean, found.quantiles["q05"], found.quantiles["q99"]) == (101, 50, 5, 99)
    assert found.std == pytest.approx(np.sqrt((101**2 - 1) / 12), abs=1e-6)


def test_the_bundle_predicts_what_the_trained_model_predicts(
    tiny_bundle: Callable[[str], tuple[Path, Path]], tiny_model: Callable[..., Any]
) -> None:
    folder, data = tiny_bundle("detection")
    dataset = Dataset(data)
    image = dataset.image(dataset.sample("test", 0))

    (trained,) = Predictor.from_model(tiny_model("detection")).predict([image])
    (exported,) = Predictor.from_bundle(folder).predict([image])

    np.testing.assert_allclose(exported.xyxy, trained.xyxy, atol=1e-3)
