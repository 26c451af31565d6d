"""`visionyard bundle`: wrap a model made elsewhere, look at a bundle, verify one."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from visionyard.inference.bundle import Bundle, BundleManifest
from visionyard.transforms import DetectionPostprocessing, PreprocessingSpec, TablePreprocessing

_SHOWN_CLASSES = 12


def import_command(model: Path, spec: Path, target: Path, *, images: Sequence[Path], console: Console) -> None:
    """Wrap an ONNX file as a bundle and say what the trial showed.

    Raises:
        ConfigError: The spec is wrong, or a path does not exist, or the folder exists.
        ArtifactError: The file cannot be loaded.
        ModelError: The model does not fit the spec.
        MediaError: A sample image cannot be decoded.
    """
    from visionyard.export.import_spec import read_import_spec
    from visionyard.export.importing import import_model

    report = import_model(model, read_import_spec(spec), target, images=images)
    manifest = report.manifest
    console.print(f"wrote {target}: {_one_line(manifest)}", soft_wrap=True)
    if report.sample_count:
        found = "images classified" if manifest.task == "classification" else "boxes found"
        console.print(
            f"{report.sample_count} sample images, {report.object_count} {found}; look at {target / 'preview.jpg'}",
            soft_wrap=True,
        )
    else:
        console.print(
            "tried on noise only: give --images for a preview, and so that serving can tell when pictures change",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"next: visionyard predict {target} picture.jpg", soft_wrap=True)


def show_command(folder: Path, *, console: Console) -> None:
    """Print what a bundle is, in short; its files are verified.

    Raises:
        ArtifactError: It is not a bundle, of an unknown version, or a file is missing or altered.
    """
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    console.print(f"[bold]{manifest.name}[/bold]  {_one_line(manifest)}", soft_wrap=True)
    rows = Table(box=None, pad_edge=False, show_header=False)
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    for name, text in _facts(bundle):
        rows.add_row(name, text)
    console.print(rows)
    formats = Table(title="\nFormats", title_justify="left", box=None, pad_edge=False)
    for heading in ("Name", "File", "MB", "Certificate"):
        formats.add_column(heading)
    for name, form in manifest.formats.items():
        formats.add_row(name, form.file, f"{form.bytes / 1e6:.1f}", _proof(manifest, name))
    console.print(formats)


def verify_command(folder: Path, *, console: Console) -> None:
    """Verify every file of a bundle and say so.

    Raises:
        ArtifactError: It is not a bundle, of an unknown version, or a file is missing or altered.
    """
    bundle = Bundle.open(folder)
    files = bundle.manifest.files
    console.print(
        f"{folder}: {len(files)} files as {folder / 'model.json'} says, digest {bundle.digest}", soft_wrap=True
    )


def _one_line(manifest: BundleManifest) -> str:
    origin = f"{manifest.plugin} {manifest.preset}, trained here" if manifest.origin == "trained" else "imported"
    return f"{manifest.task}, {len(manifest.classes)} classes, {origin}"


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    before, after = manifest.preprocessing, manifest.postprocessing
    shown = ", ".join(manifest.classes[:_SHOWN_CLASSES])
    more = len(manifest.classes) - _SHOWN_CLASSES
    facts = [
        ("classes", f"{shown}, and {more} more" if more > 0 else shown),
        ("licence", manifest.licence),
        ("source", manifest.source),
        ("input", f"{manifest.input.name} {_shape(manifest.input.shape)}: {_taken(before)}"),
        ("outputs", "; ".join(f"{output.name} {_shape(output.shape)}" for output in manifest.outputs)),
        ("layout", after.layout if isinstance(after, DetectionPostprocessing) else ""),
        ("metrics", ", ".join(f"{name} {value:.4f}" for name, value in manifest.metrics.items())),
        ("dataset", manifest.dataset_digest[:12]),
        ("digest", bundle.digest),
    ]
    return [(name, text) for name, text in facts if text]


def _taken(before: PreprocessingSpec | TablePreprocessing) -> str:
    if isinstance(before, TablePreprocessing):
        return ", ".join(f"{column.name} ({column.type})" for column in before.columns)
    height, width = before.size_hw
    return f"{before.resize} to {width}x{height} px"


def _proof(manifest: BundleManifest, name: str) -> str:
    if manifest.parity is None:
        return "not certified: no trained model to compare with"
    proof = manifest.parity.formats[name]
    tolerance = manifest.parity.metric_tolerance if proof.metric_tolerance is None else proof.metric_tolerance
    if proof.metric_gap is None:
        return f"passed on {manifest.parity.image_count} {manifest.preprocessing.item}s"
    return f"passed: {manifest.parity.metric_name} differs by {proof.metric_gap:.4f}, allowed {tolerance}"


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join("batch" if size < 0 else str(size) for size in shape) + ")"
