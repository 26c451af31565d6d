"""`visionyard predict`: a model bundle on images and videos, as a table, drawn pictures, or JSON lines."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from visionyard.errors import ConfigError, DataError, MediaError

if TYPE_CHECKING:
    from visionyard.inference import Predictor
    from visionyard.inference.paths import PathPrediction


def predict_paths_command(
    bundle: Path,
    paths: Sequence[Path],
    *,
    drawn: Path | None,
    is_json: bool,
    confidence: float | None,
    model_format: str,
    rate_hz: float,
    console: Console,
) -> None:
    """Predict every image and video below `paths`; a file that cannot be read is told and passed over.

    Raises:
        ConfigError: A path is missing, an option is out of its range, or the bundle lacks the format.
        DataError: Nothing could be read.
    """
    if confidence is not None and not 0 <= confidence <= 1:
        raise ConfigError(f"--confidence {confidence}: expected 0 to 1")
    if rate_hz <= 0:
        raise ConfigError(f"--rate-hz {rate_hz}: expected above 0")
    from visionyard.inference import Predictor
    from visionyard.inference.paths import find_media

    files = find_media(paths)
    table = Table(box=None, pad_edge=False)
    for heading in ("Image", "Time", "Found"):
        table.add_column(heading, overflow="fold")
    seen_count = 0
    with Predictor.from_bundle(bundle, model_format or None) as predictor:
        for record, seen in _records(predictor, files, confidence=confidence, rate_hz=rate_hz):
            if seen is not None:
                seen_count += 1
                if drawn is not None:
                    _draw(seen, predictor, drawn, paths)
            if is_json:
                sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
            else:
                time_text = f"{record['timestamp_s']:.2f} s" if "timestamp_s" in record else ""
                table.add_row(record["path"], time_text, _found(record))
    if not is_json:
        console.print(table)
        if drawn is not None and seen_count:
            console.print(f"drawn pictures are in {drawn}", soft_wrap=True)
    if not seen_count:
        raise DataError(f"none of {len(files)} files could be read: {', '.join(map(str, files[:5]))}")


def _records(
    predictor: "Predictor", files: Sequence[Path], *, confidence: float | None, rate_hz: float
) -> "Iterator[tuple[dict[str, Any], PathPrediction | None]]":
    from visionyard.inference.paths import predict_paths

    for path in files:
        try:
            for seen in predict_paths(predictor, [path], confidence_threshold=confidence, rate_hz=rate_hz):
                yield seen.to_json(predictor.classes), seen
        except MediaError as error:
            yield {"path": str(path), "error": str(error)}, None


def _draw(seen: "PathPrediction", predictor: "Predictor", folder: Path, roots: Sequence[Path]) -> None:
    """Write the picture with its prediction below `folder`, at its place below the path that the user named."""
    from PIL import Image

    from visionyard.inference.drawing import draw_prediction

    root = next((root for root in roots if root.is_dir() and seen.path.is_relative_to(root)), seen.path.parent)
    place = folder / seen.path.relative_to(root)
    name = place.stem if seen.frame_index is None else f"{place.stem}-{seen.frame_index:06d}"
    # Two files may differ in their extension only.
    target = place.with_name(f"{name}{place.suffix.replace('.', '-')}.jpg")
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_prediction(seen.image, seen.prediction, predictor.classes)
    Image.fromarray(picture).save(target, "JPEG", quality=92)


def _found(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"[red]{record['error']}[/red]"
    if "class" in record:
        return f"{record['class']} {record['confidence']:.2f}"
    counts = Counter(box["class"] for box in record["boxes"])
    best = max((box["confidence"] for box in record["boxes"]), default=0.0)
    found = ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
    return f"{found} (best {best:.2f})" if found else "nothing"
