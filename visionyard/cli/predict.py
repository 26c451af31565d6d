"""`visionyard predict`: a model bundle on images and videos, as a table, drawn pictures, or JSON lines."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from visionyard.errors import ConfigError, DataError


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
    """Predict every image and video below `paths`.

    Raises:
        ConfigError: A path is missing, an option is out of its range, or the bundle lacks the format.
        DataError: There is nothing to look at, or nothing could be read.
    """
    if confidence is not None and not 0 <= confidence <= 1:
        raise ConfigError(f"--confidence {confidence}: expected 0 to 1")
    if rate_hz <= 0:
        raise ConfigError(f"--rate-hz {rate_hz}: expected above 0")
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ConfigError([f"{path}: no such file or folder" for path in missing])
    from visionyard.inference import Predictor
    from visionyard.inference.paths import predict_paths

    with Predictor.from_bundle(bundle, model_format or None) as predictor:
        records = predict_paths(
            predictor, paths, drawn=drawn, confidence_threshold=confidence, rate_hz=rate_hz
        )
        table = Table(box=None, pad_edge=False)
        for heading in ("Image", "Time", "Found"):
            table.add_column(heading, overflow="fold")
        seen_count = failed_count = 0
        for record in records:
            seen_count += "error" not in record
            failed_count += "error" in record
            if is_json:
                sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
            else:
                time_text = f"{record['timestamp_s']:.2f} s" if record.get("timestamp_s") is not None else ""
                table.add_row(record["path"], time_text, _found(record))
        if not is_json:
            console.print(table)
        if drawn is not None and seen_count and not is_json:
            console.print(f"drawn pictures are in {drawn}", soft_wrap=True)
    if not seen_count:
        raise DataError(
            f"{', '.join(map(str, paths))}: {f'none of {failed_count} files' if failed_count else 'no image or video'} "
            "could be read; give JPEG, PNG, WebP, BMP, TIFF or GIF images, or videos"
        )


def _found(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"[red]{record['error']}[/red]"
    if "class" in record:
        return f"{record['class']} {record['confidence']:.2f}"
    counts = Counter(box["class"] for box in record["boxes"])
    best = max((box["confidence"] for box in record["boxes"]), default=0.0)
    found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{found} (best {best:.2f})" if found else "nothing"
