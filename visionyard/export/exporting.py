"""From a checkpoint to a model bundle; without a passed parity certificate there is no bundle."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from visionyard.atomic import atomic_folder
from visionyard.data.dataset import DatasetVersion
from visionyard.data.opening import open_folder
from visionyard.digests import code_digest, sha256_file
from visionyard.errors import ConfigError, ModelError, ParityError
from visionyard.export.card import model_card
from visionyard.export.cases import cases
from visionyard.export.certificate import Certificate
from visionyard.export.derived import EXPORTED, write_formats
from visionyard.export.formats import OUTPUT, ExportedFile
from visionyard.export.metric import MAIN_METRICS, main_metric, predict_test_split
from visionyard.export.parity import Metrics, certify, compare_formats
from visionyard.export.statistics import reference_statistics
from visionyard.export.tolerances import Tolerances
from visionyard.inference import Bundle, BundleManifest, Predictor, load_backend
from visionyard.inference.bundle import (
    CARD,
    CERTIFICATE,
    MANIFEST,
    FileInfo,
    FormatInfo,
    ReferenceStatistics,
    TensorInfo,
)
from visionyard.models import TrainedModel, get_plugin
from visionyard.training import load_trained_model

_REFERENCE = "pytorch"


@dataclass(frozen=True)
class Origin:
    """Where a trained model comes from.

    Attributes:
        name: What the bundle is called.
        plugin: The plugin that built it.
        preset: The plugin's variant.
        licence: SPDX name.
        dataset_digest: Of the dataset version it was trained on.
        config_digest: Of the settings it was trained with.
        checkpoint_digest: Of its weights.
        metrics: Its figures on the test split.
    """

    name: str
    plugin: str
    preset: str
    licence: str
    dataset_digest: str
    config_digest: str
    checkpoint_digest: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        bundle: The bundle's folder.
        bundle_digest: SHA-256 of its `model.json`.
        formats: Size of each format's file, bytes.
        certificate: The passed parity certificate.
    """

    bundle: Path
    bundle_digest: str
    formats: dict[str, int]
    certificate: Certificate


def export_model(
    checkpoint: Path,
    dataset: Path,
    target: Path,
    *,
    formats: Sequence[str],
    opset: int,
    score_tolerance: float,
    metric_tolerance: float,
    int8_metric_tolerance: float = 0.01,
    metrics: Mapping[str, float] | None,
    name: str,
) -> ExportReport:
    """Write the model bundle of a checkpoint, certified on the dataset's test split.

    Args:
        checkpoint: Folder that `train_model` wrote.
        dataset: Folder of the dataset version it was trained on.
        target: The bundle's folder; it appears whole or not at all.
        formats: Of `onnx`, `torchscript`, `onnx-fp16`, `onnx-int8`, `openvino`; at least one.
        opset: ONNX operator set.
        score_tolerance: Largest difference of a class score, in (0, 1).
        metric_tolerance: Largest difference of the main metric, in (0, 1).
        int8_metric_tolerance: The same for `onnx-int8`.
        metrics: The model's figures on the test split; None takes the main metric measured here.
        name: What the bundle is called.

    Raises:
        ParityError: A format differs from the trained model; the message holds the table of what differed.
        ConfigError: `formats` is empty or holds an unknown one.
        ModelError: The model cannot be exported, or was trained on another dataset version.
        ArtifactError: The checkpoint or the dataset is incomplete or altered.
    """
    trained, info = load_trained_model(checkpoint)
    origin = Origin(
        name=name,
        plugin=info.plan.model_name,
        preset=info.plan.preset,
        licence=get_plugin(info.plan.model_name).info.licence,
        dataset_digest=info.dataset_digest,
        config_digest=info.config_digest,
        checkpoint_digest=info.digest,
        metrics=dict(metrics or {}),
    )
    tolerances = Tolerances(score_tolerance, metric_tolerance, int8_metric_tolerance)
    return export_trained(
        trained, origin, open_folder(dataset), target, formats=formats, opset=opset, tolerances=tolerances
    )


def export_trained(
    trained: TrainedModel,
    origin: Origin,
    dataset: DatasetVersion,
    target: Path,
    *,
    formats: Sequence[str],
    opset: int,
    tolerances: Tolerances,
) -> ExportReport:
    """Write the model bundle of a trained model; see `export_model`."""
    _check(trained, origin, dataset, formats)
    with atomic_folder(target) as folder, ExitStack() as opened:
        files = write_formats(trained, dataset, folder, formats, opset=opset)
        reference = Predictor.from_model(trained)
        candidates = {file.format: opened.enter_context(_reread(trained, file)) for file in files}
        seen = compare_formats(reference, candidates, cases(dataset), tolerances.score)
        predictions = predict_test_split(dataset, {_REFERENCE: reference, **candidates})
        measured = {predictor: main_metric(dataset, found) for predictor, found in predictions.items()}
        metrics = Metrics(MAIN_METRICS[dataset.task], measured.pop(_REFERENCE), measured)
        certificate = certify(seen, metrics, tolerances)
        if not certificate.is_passed:
            raise ParityError(
                f"an exported model differs from the trained one; no bundle is written\n{certificate.text()}"
            )
        (folder / CERTIFICATE).write_text(json.dumps(certificate.to_json(), indent=1) + "\n", encoding="utf-8")
        statistics = reference_statistics(dataset, trained.postprocessing, predictions[_REFERENCE])
        manifest = _manifest(trained, origin, folder, files, certificate, statistics)
        (folder / CARD).write_text(model_card(manifest), encoding="utf-8")
        manifest = _with_file(manifest, folder / CARD)
        (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        digest = Bundle.open(folder).digest
    return ExportReport(target, digest, {name: form.bytes for name, form in manifest.formats.items()}, certificate)


def _check(trained: TrainedModel, origin: Origin, dataset: DatasetVersion, formats: Sequence[str]) -> None:
    if unknown := [name for name in formats if name not in EXPORTED]:
        raise ConfigError(f"export.formats holds {unknown[0]!r}; known: {', '.join(EXPORTED)}")
    if not formats:
        raise ConfigError(f"export.formats is empty; name at least one of {', '.join(EXPORTED)}")
    if origin.dataset_digest != dataset.digest:
        raise ModelError(
            f"{dataset.folder}: the model was trained on dataset version {origin.dataset_digest[:12]}, this is "
            f"{dataset.digest[:12]}; its test split may hold what the model was trained on; export with the former"
        )
    if trained.classes != dataset.classes:
        raise ModelError(
            f"{dataset.folder}: the model knows the classes {', '.join(trained.classes)}, the dataset has "
            f"{', '.join(dataset.classes)}"
        )


def _reread(trained: TrainedModel, file: ExportedFile) -> Predictor:
    """Return a predictor of an exported file with the specs as a reader of `model.json` gets them."""
    before, after = trained.preprocessing, trained.postprocessing
    return Predictor(
        load_backend(file.format, file.path),
        type(before).model_validate_json(before.model_dump_json()),
        type(after).model_validate_json(after.model_dump_json()),
        trained.classes,
    )


def _manifest(
    trained: TrainedModel,
    origin: Origin,
    folder: Path,
    files: list[ExportedFile],
    certificate: Certificate,
    statistics: ReferenceStatistics,
) -> BundleManifest:
    infos = {file.path.name: _info(file.path) for file in files}
    metrics = dict(origin.metrics)
    if not metrics and certificate.reference_metric is not None:
        metrics = {certificate.metric_name: certificate.reference_metric}
    before = trained.preprocessing
    return BundleManifest(
        name=origin.name,
        task=trained.postprocessing.kind,
        classes=trained.classes,
        plugin=origin.plugin,
        preset=origin.preset,
        licence=origin.licence,
        input=TensorInfo(name=before.input_name, shape=[-1, *before.input_shape]),
        outputs=[TensorInfo(name=OUTPUT, shape=[-1, *_output_shape(trained)])],
        preprocessing=before,
        postprocessing=trained.postprocessing,
        metrics={metric: float(value) for metric, value in metrics.items()},
        dataset_digest=origin.dataset_digest,
        code_digest=code_digest(),
        config_digest=origin.config_digest,
        checkpoint_digest=origin.checkpoint_digest,
        reference_statistics=statistics,
        parity=certificate.summary(),
        formats={
            file.format: FormatInfo(file=file.path.name, **infos[file.path.name].model_dump(), details=file.details)
            for file in files
        },
        files={**infos, CERTIFICATE: _info(folder / CERTIFICATE)},
    )


def _output_shape(trained: TrainedModel) -> tuple[int, ...]:
    (output,), _ = Predictor.from_model(trained).respond([trained.preprocessing.neutral()])
    return tuple(output.shape[1:])


def _with_file(manifest: BundleManifest, path: Path) -> BundleManifest:
    return manifest.model_copy(update={"files": {**manifest.files, path.name: _info(path)}})


def _info(path: Path) -> FileInfo:
    return FileInfo(sha256=sha256_file(path), bytes=path.stat().st_size)
