"""Wrap an ONNX model made elsewhere as a model bundle, once a trial has shown that its spec fits.

Shapes and names are read from the file. What the file cannot tell is in the spec (`ImportSpec`), and a wrong one gives
plausible nonsense; so the model is run on sample images and everything that can be checked is.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionyard.atomic import atomic_folder
from visionyard.digests import code_digest, sha256_file
from visionyard.errors import ConfigError, ModelError, ShapeError
from visionyard.export.card import model_card
from visionyard.export.import_spec import ImportSpec
from visionyard.export.samples import PREVIEW, Samples, look_at
from visionyard.inference.bundle import CARD, MANIFEST, Bundle, BundleManifest, FileInfo, FormatInfo, TensorInfo
from visionyard.inference.onnx_backend import OnnxBackend, OnnxTensor
from visionyard.inference.predictor import Predictor
from visionyard.transforms import Classification, DetectionPostprocessing, Prediction
from visionyard.transforms.layouts import LAYOUTS

_MODEL = "model.onnx"
_FLOAT = "tensor(float)"
# Rounding may carry a probability this far beyond 0 and 1, and their sum from 1.
_SLACK = 1e-3


@dataclass(frozen=True)
class ImportReport:
    """What was imported.

    Attributes:
        bundle: The bundle's folder.
        bundle_digest: SHA-256 of its `model.json`.
        manifest: What it holds.
        sample_count: Images looked at.
        object_count: Boxes found in them at the spec's threshold; for a classifier the images again.
    """

    bundle: Path
    bundle_digest: str
    manifest: BundleManifest
    sample_count: int
    object_count: int


def import_model(model: Path, spec: ImportSpec, target: Path, *, images: Sequence[Path] = ()) -> ImportReport:
    """Write a bundle around an ONNX file.

    Args:
        model: The file.
        spec: What the file does not tell; see `read_import_spec`.
        target: The bundle's folder; it must not exist yet, and appears whole or not at all.
        images: Images, videos, or folders of them, as the model should see them: they give the reference statistics
            that serving watches for drift, and a drawn preview. Without, the bundle has neither.

    Raises:
        ConfigError: `target` exists, or a path of `images` does not.
        ArtifactError: The file cannot be loaded, or lacks a named output.
        ModelError: The model does not fit the spec; the message gives expected and actual shapes.
        MediaError: A sample image cannot be decoded.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: it already exists; name a new folder, or remove it first")
    if not model.is_file():
        raise ConfigError(f"{model}: no such file; expected an ONNX model")
    with atomic_folder(target) as folder:
        path = folder / _MODEL
        shutil.copyfile(model, path)
        backend = OnnxBackend(path, outputs=spec.outputs or None)
        with Predictor(backend, spec.preprocessing, spec.postprocessing, spec.classes) as predictor:
            declared = _check_declared(model, spec, backend)
            outputs = _try_out(model, spec, predictor, is_batch_free=declared.shape[0] < 0)
            samples = look_at(predictor, images, folder / PREVIEW) if images else Samples()
        manifest = _manifest(spec, declared, outputs, folder, samples)
        (folder / CARD).write_text(model_card(manifest), encoding="utf-8")
        files = {**manifest.files, CARD: _info(folder / CARD)}
        manifest = manifest.model_copy(update={"files": files})
        (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        digest = Bundle.open(folder).digest
    return ImportReport(target, digest, manifest, samples.count, samples.object_count)


def _check_declared(model: Path, spec: ImportSpec, backend: OnnxBackend) -> OnnxTensor:
    """Hold what the file declares against the spec; return its input."""
    height, width = spec.preprocessing.size_hw
    names = [one.name for one in backend.inputs]
    if len(names) != 1 or (spec.input and spec.input != names[0]):
        wanted = f"the input {spec.input!r}" if spec.input else "one input"
        raise ModelError(f"{model}: expected {wanted}, the file has {', '.join(names) or 'none'}")
    found = backend.inputs[0]
    expected = f"(any, 3, {height}, {width})"
    if len(found.shape) == 4 and found.shape[3] == 3 and found.shape[1] != 3:
        raise ModelError(
            f"{model}: input {found.name} is {_shape(found.shape)}, channels last; expected {expected}; put a "
            "Transpose before it and export again"
        )
    fits = len(found.shape) == 4 and all(
        size in (-1, want) for size, want in zip(found.shape[1:], (3, height, width), strict=True)
    )
    if not fits:
        raise ModelError(
            f"{model}: input {found.name} is {_shape(found.shape)}, the spec's preprocessing gives {expected}; correct "
            "preprocessing.size_hw"
        )
    if found.type != _FLOAT:
        raise ModelError(
            f"{model}: input {found.name} is {found.type}, expected {_FLOAT}; put a Cast before it and export again"
        )
    roles = spec.postprocessing.outputs
    available = [one.name for one in backend.outputs]
    chosen = spec.outputs or available
    if len(chosen) != len(roles):
        wanted = ", ".join(f"{role} ({', '.join(axes)})" for role, axes in roles.items())
        has = ", ".join(f"{one.name} {_shape(one.shape)}" for one in backend.outputs)
        raise ModelError(
            f"{model}: the postprocessing takes {len(roles)} outputs: {wanted}; the file has {has}; name them in this "
            "order in outputs"
        )
    return found


def _try_out(model: Path, spec: ImportSpec, predictor: Predictor, *, is_batch_free: bool) -> list[TensorInfo]:
    """Run the model on a picture of noise, and on two of them; return its outputs."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    batch, placements = spec.preprocessing.apply_all([noise])
    outputs = predictor.backend.run_all(batch)
    try:
        predictor.check(outputs, 1)
        found = predictor.interpret(outputs, placements, confidence_threshold=0.0)
    except ShapeError as error:
        raise ModelError(f"{model}: the spec does not fit: {error}{_other_layouts(spec, outputs)}") from None
    _check_values(model, spec, outputs, found)
    if is_batch_free:
        try:
            predictor.respond([noise, noise])
        except ShapeError as error:
            raise ModelError(
                f"{model}: its batch is declared free, yet it fails on two images: {error}; export it with a batch of 1"
            ) from None
    names = spec.outputs or [one.name for one in _onnx(predictor).outputs]
    size = -1 if is_batch_free else _onnx(predictor).inputs[0].shape[0]
    return [TensorInfo(name=name, shape=[size, *output.shape[1:]]) for name, output in zip(names, outputs, strict=True)]


def _check_values(model: Path, spec: ImportSpec, outputs: Sequence[np.ndarray], found: Sequence[Prediction]) -> None:
    if not all(np.isfinite(output).all() for output in outputs):
        raise ModelError(f"{model}: the output for a picture of noise holds NaN or infinity")
    if isinstance(spec.postprocessing, DetectionPostprocessing):
        scores = spec.postprocessing.convention.confidence([output[0] for output in outputs])
        low, high = float(scores.min(initial=0.0)), float(scores.max(initial=0.0))
        if low < -_SLACK or high > 1 + _SLACK:
            raise ModelError(
                f"{model}: its scores reach from {low:.3g} to {high:.3g}, expected 0 to 1 with layout "
                f"{spec.postprocessing.layout}; take another layout, or export it with its last sigmoid or softmax"
            )
        return
    (row,) = outputs[0]
    sums_to_one = row.min() >= -_SLACK and abs(float(row.sum()) - 1) <= _SLACK
    if spec.postprocessing.activation == "softmax" and sums_to_one:
        raise ModelError(
            f"{model}: its output is probabilities already (they sum to 1), and the spec asks for one more softmax; "
            "set postprocessing.activation: none"
        )
    (one,) = found
    if spec.postprocessing.activation == "none" and isinstance(one, Classification) and not sums_to_one:
        raise ModelError(
            f"{model}: its output reaches from {row.min():.3g} to {row.max():.3g} and sums to {row.sum():.3g}, "
            "expected probabilities; set postprocessing.activation: softmax"
        )


def _other_layouts(spec: ImportSpec, outputs: Sequence[np.ndarray]) -> str:
    if not isinstance(spec.postprocessing, DetectionPostprocessing):
        return ""
    fitting = []
    for layout in LAYOUTS:
        try:
            spec.postprocessing.model_copy(update={"layout": layout}).check(
                outputs, count=1, class_count=len(spec.classes)
            )
        except ShapeError:
            continue
        fitting.append(layout)
    return f"; of these shapes would be layout {' or '.join(fitting)}" if fitting else ""


def _manifest(
    spec: ImportSpec, declared: OnnxTensor, outputs: list[TensorInfo], folder: Path, samples: Samples
) -> BundleManifest:
    height, width = spec.preprocessing.size_hw
    model = _info(folder / _MODEL)
    files = {_MODEL: model}
    if (folder / PREVIEW).exists():
        files[PREVIEW] = _info(folder / PREVIEW)
    return BundleManifest(
        name=spec.name,
        task=spec.task,
        origin="imported",
        source=spec.source,
        classes=spec.classes,
        plugin="",
        preset="",
        licence=spec.licence,
        input=TensorInfo(name=declared.name, shape=[declared.shape[0], 3, height, width]),
        outputs=outputs,
        preprocessing=spec.preprocessing,
        postprocessing=spec.postprocessing,
        metrics={},
        dataset_digest="",
        code_digest=code_digest(),
        config_digest="",
        checkpoint_digest="",
        reference_statistics=samples.statistics,
        formats={"onnx": FormatInfo(file=_MODEL, **model.model_dump())},
        files=files,
    )


def _onnx(predictor: Predictor) -> OnnxBackend:
    backend = predictor.backend
    assert isinstance(backend, OnnxBackend)  # `import_model` made it
    return backend


def _info(path: Path) -> FileInfo:
    return FileInfo(sha256=sha256_file(path), bytes=path.stat().st_size)


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join("any" if size < 0 else str(size) for size in shape) + ")"
