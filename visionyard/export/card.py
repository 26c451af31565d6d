"""The model card: the README.md of a bundle, for a person who has never seen the model."""

from collections.abc import Iterable

from visionyard.inference.bundle import BundleManifest, Distribution, ReferenceStatistics
from visionyard.transforms import DetectionPostprocessing, PreprocessingSpec, TablePreprocessing
from visionyard.transforms.rows import CategoryColumn, Column, NumericColumn

_COMPARED = {
    "image": "images (real, grey, upright, very wide, tiny, turned by EXIF, in a batch)",
    "row": "rows (real, without values, with categories and numbers beyond all that was seen, as texts, in a batch)",
}
_SHOWN_CATEGORIES = 8
_TASKS = {"detection": "finds and names objects in images", "classification": "tells what an image shows"}
_RESIZES = {
    "letterbox": "scaled to fit, the rest filled with grey",
    "shorter_side_crop": "scaled by its shorter side, the centre cut out",
    "stretch": "stretched to the input's shape",
}


def model_card(manifest: BundleManifest) -> str:
    """Return the card as Markdown.

    Args:
        manifest: The bundle's; every figure of the card stands in it.
    """
    sections = [
        _head(manifest),
        _use(manifest),
        _input_and_output(manifest),
        _figures(manifest),
        _formats(manifest),
        *([_data(manifest.reference_statistics, manifest.origin)] if manifest.reference_statistics else []),
        _origin(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _head(manifest: BundleManifest) -> str:
    classes = ", ".join(f"`{name}`" for name in manifest.classes)
    maker = f"{manifest.plugin} {manifest.preset}" if manifest.origin == "trained" else "imported from elsewhere"
    does = "tells the class of a table's row" if _is_table(manifest) else _TASKS[manifest.task]
    return (
        f"# {manifest.name}\n\nA model that {does}: {maker}, "
        f"{len(manifest.classes)} classes: {classes}.\n\nLicence: {manifest.licence}."
    )


def _is_table(manifest: BundleManifest) -> bool:
    return isinstance(manifest.preprocessing, TablePreprocessing)


def _use_of_rows(before: TablePreprocessing) -> str:
    example = {column.name: _example(column) for column in before.columns}
    return f"""## Use

```sh
visionyard predict FOLDER rows.csv
```

```python
from pathlib import Path
from visionyard.inference import Predictor

with Predictor.from_bundle(Path("FOLDER")) as predictor:
    (found,) = predictor.predict([{example!r}])
    print(predictor.classes[found.class_id], found.confidence)
```

FOLDER is the folder of this file. A value that is not known is None."""


def _example(column: Column) -> float | str | bool:
    if isinstance(column, NumericColumn):
        return float(f"{column.mean:.4g}")
    return column.values[0] if isinstance(column, CategoryColumn) and column.values else True


def _use(manifest: BundleManifest) -> str:
    if isinstance(manifest.preprocessing, TablePreprocessing):
        return _use_of_rows(manifest.preprocessing)
    shown = "found.xyxy, found.class_ids, found.confidence"
    if manifest.task == "classification":
        shown = "predictor.classes[found.class_id], found.confidence"
    return f"""## Use

```sh
visionyard predict FOLDER picture.jpg clip.mp4
```

```python
from pathlib import Path
from visionyard.inference import Predictor
from visionyard.transforms import load_image

with Predictor.from_bundle(Path("FOLDER")) as predictor:
    (found,) = predictor.predict([load_image(Path("picture.jpg"))])
    print({shown})
```

FOLDER is the folder of this file."""


def _input_and_output(manifest: BundleManifest) -> str:
    before, after = manifest.preprocessing, manifest.postprocessing
    lines = [
        "## Input and output",
        "",
        f"- Input `{manifest.input.name}`: {_shape(manifest.input.shape)} {manifest.input.dtype}.",
        f"- {_taken(before)}",
        *(f"- Output `{output.name}`: {_shape(output.shape)}." for output in manifest.outputs),
    ]
    if isinstance(after, DetectionPostprocessing):
        lines.append(
            f"- Boxes are kept from a confidence of {after.confidence_threshold} on; of two of a class that overlap "
            f"more than {after.iou_threshold}, the surer one. They are given in pixels of the image that was put in."
        )
    lines.append("- `model.json` holds both steps in full; every consumer runs the same code for them.")
    if isinstance(before, TablePreprocessing):
        lines += ["", _table(("column", "type", "in training"), [_column(column) for column in before.columns])]
    return "\n".join(lines)


def _taken(before: PreprocessingSpec | TablePreprocessing) -> str:
    if isinstance(before, TablePreprocessing):
        return (
            "A row has a value, or none, for each column below: numbers are standardised, categories become ids; a "
            "category that training never saw is taken as unknown."
        )
    height, width = before.size_hw
    return f"An image is {_RESIZES[before.resize]}, {width}x{height} px, {before.channel_order.upper()}."


def _column(column: Column) -> tuple[str, str, str]:
    if isinstance(column, NumericColumn):
        return (f"`{column.name}`", column.type, f"mean {column.mean:.4g}, standard deviation {column.scale:.4g}")
    if isinstance(column, CategoryColumn):
        shown = ", ".join(column.values[:_SHOWN_CATEGORIES])
        more = len(column.values) - _SHOWN_CATEGORIES
        return (f"`{column.name}`", column.type, f"{shown}, and {more} more" if more > 0 else shown)
    return (f"`{column.name}`", column.type, "true, false")


def _figures(manifest: BundleManifest) -> str:
    if not manifest.metrics and manifest.origin == "imported":
        return "## How good it is\n\nNot measured here."
    if not manifest.metrics:
        return "## How good it is\n\nNot measured: the test split has no labels."
    rows = [(name, f"{value:.4f}") for name, value in manifest.metrics.items()]
    return "## How good it is\n\nOn the test split, which it never saw:\n\n" + _table(("metric", "value"), rows)


def _formats(manifest: BundleManifest) -> str:
    parity = manifest.parity
    if parity is None:
        sizes = [(name, form.file, f"{form.bytes / 1e6:.1f} MB") for name, form in manifest.formats.items()]
        return "## Formats\n\nNot certified: there is no trained model to compare with.\n\n" + _table(
            ("format", "file", "size"), sizes
        )
    rows = []
    for name, form in manifest.formats.items():
        proof = parity.formats[name]
        gap = "-" if proof.metric_gap is None else f"{proof.metric_gap:.5f}"
        rows.append((name, form.file, f"{form.bytes / 1e6:.1f} MB", f"{proof.max_score_gap:.1e}", gap))
    lossy = "".join(
        f" `{name}` is quicker at a price: its {parity.metric_name} may differ by {proof.metric_tolerance}."
        for name, proof in parity.formats.items()
        if proof.metric_tolerance is not None
    )
    return (
        f"## Formats\n\nEach answers as the trained model does: compared on {parity.image_count} "
        f"{_COMPARED[manifest.preprocessing.item]}.{lossy} `parity.json` has each of them.\n\n"
        + _table(("format", "file", "size", "largest score difference", f"{parity.metric_name} difference"), rows)
    )


def _data(statistics: ReferenceStatistics, origin: str) -> str:
    images = [
        (name.replace("_px", " (px)"), *_spread(values, digits=0 if name.endswith("_px") else 2))
        for name, values in statistics.images.items()
    ]
    title = "What it was trained on" if origin == "trained" else "What it was tried on"
    parts = [f"## {title}"]
    if images:
        parts.append(_table(("of the images", "median", "5 %", "95 %"), images))
    if statistics.class_mix:
        mix = [(name, f"{share:.1%}") for name, share in statistics.class_mix.items()]
        parts.append(_table(("class", "share of labels"), mix))
    parts.append("Expect less on pictures that look otherwise." if images else "Expect less on rows of another kind.")
    return "\n\n".join(parts)


def _origin(manifest: BundleManifest) -> str:
    if manifest.origin == "imported":
        files = [(form.file, f"`{form.sha256}`") for form in manifest.formats.values()]
        source = f"From: {manifest.source}\n\n" if manifest.source else ""
        return f"## Where it comes from\n\n{source}Imported as it was found:\n\n" + _table(("file", "SHA-256"), files)
    rows = [
        ("dataset version", f"`{manifest.dataset_digest}`"),
        ("checkpoint", f"`{manifest.checkpoint_digest}`"),
        ("training settings", f"`{manifest.config_digest}`"),
        ("code", f"`{manifest.code_digest}`"),
    ]
    return "## Where it comes from\n\n" + _table(("of", "SHA-256"), rows)


def _spread(values: Distribution, *, digits: int) -> tuple[str, str, str]:
    quantiles = values.quantiles
    return (f"{quantiles['q50']:.{digits}f}", f"{quantiles['q05']:.{digits}f}", f"{quantiles['q95']:.{digits}f}")


def _shape(shape: list[int]) -> str:
    return "(" + ", ".join("batch" if size == -1 else str(size) for size in shape) + ")"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
