"""Batch prediction as a stage: the bundle comes from a store, the results go to one, the summary is the artifact."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from visionyard import storage
from visionyard.atomic import write_atomic
from visionyard.errors import ConfigError, DataError
from visionyard.inference.batch import BatchSettings, BatchSummary, predict_batch
from visionyard.inference.batch_parts import FileFormat


def run_batch(
    bundle_uri: str,
    sources: Sequence[str],
    target_uri: str,
    summary: Path,
    *,
    confidence_threshold: float,
    model_format: str,
    rate_hz: float,
    file_format: str,
    worker_count: int,
) -> BatchSummary:
    """Look at everything below some addresses; goes on where an earlier run with the same target stopped.

    Args:
        bundle_uri: The model bundle.
        sources: Files, folders, `s3://` prefixes, dataset versions.
        target_uri: Folder or `s3://` prefix of the results.
        summary: The JSON file to write.
        confidence_threshold: At most 1; below 0 takes the bundle's own.
        model_format: Of the bundle; empty takes its usual one.
        rate_hz: Frames looked at per second of video, above 0.
        file_format: `jsonl` or `parquet`.
        worker_count: Threads that load images; 0: as many as there are cores.

    Raises:
        ConfigError: A value is out of its range, there is nothing to look at, or the target holds other results.
        DataError: Not one item could be read.
        StorageError: A store refused or timed out; running it again goes on.
    """
    formats = get_args(FileFormat)
    problems = [
        *([] if file_format in formats else [f"file_format = {file_format!r}: expected {' or '.join(formats)}"]),
        *([] if confidence_threshold <= 1 else [f"confidence_threshold = {confidence_threshold}: expected at most 1"]),
        *([] if rate_hz > 0 else [f"rate_hz = {rate_hz}: expected more than 0"]),
        *([] if sources else ["sources: expected at least one address"]),
    ]
    if problems:
        raise ConfigError(problems)
    settings = BatchSettings(
        confidence_threshold=confidence_threshold if confidence_threshold >= 0 else None,
        model_format=model_format,
        rate_hz=rate_hz,
        file_format="parquet" if file_format == "parquet" else "jsonl",
        worker_count=worker_count,
    )
    with TemporaryDirectory(prefix="visionyard-") as folder:
        bundle = Path(folder) / "bundle"
        storage.fetch_folder(bundle_uri, bundle)
        report = predict_batch(bundle, sources, target_uri, settings)
    if not report.picture_count:
        shown = storage.shown(storage.join(target_uri, "summary.json"))
        raise DataError(f"none of {report.item_count} items could be read; see {shown}")
    values = {"schema_version": 1, "target_uri": storage.shown(target_uri), **asdict(report)}
    write_atomic(summary, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    return report
