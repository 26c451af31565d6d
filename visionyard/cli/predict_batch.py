"""`visionyard predict` over folders, stores and dataset versions: results as parts, resumable."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from visionyard.cli.predict import check_options
from visionyard.cli.words import plural
from visionyard.errors import ConfigError, DataError

FILE_FORMATS = ("jsonl", "parquet")
_SHOWN_FAILURES = 5


def is_batch(sources: Sequence[str], out: str, parts: str) -> bool:
    """Return whether results go into parts: asked for, or something lies in a store."""
    return bool(parts) or any(address.startswith("s3://") for address in (*sources, out))


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit if count == 1 else plural(unit)}"


def predict_batch_command(
    bundle: Path,
    sources: Sequence[str],
    *,
    out: str,
    parts: str,
    confidence: float | None,
    model_format: str,
    rate_hz: float,
    worker_count: int,
    console: Console,
) -> None:
    """Run a bundle over everything below `sources`; prints what came of it.

    Raises:
        ConfigError: An option is out of its range, or the place of the results is missing or taken.
        DataError: Nothing could be read.
        StorageError: A store refused or timed out.
    """
    check_options(confidence=confidence, rate_hz=rate_hz)
    if not out:
        raise ConfigError("--out is missing: expected a folder or s3://bucket/prefix for the results")
    if parts and parts not in FILE_FORMATS:
        raise ConfigError(f"--parts {parts}: expected {' or '.join(FILE_FORMATS)}")
    from visionyard.inference.batch import BatchSettings, predict_batch

    settings = BatchSettings(
        confidence_threshold=confidence,
        model_format=model_format,
        rate_hz=rate_hz,
        file_format="parquet" if parts == "parquet" else "jsonl",
        worker_count=worker_count,
    )
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking", total=None)
        summary = predict_batch(
            bundle,
            sources,
            out,
            settings,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    resumed = f", {summary.resumed_part_count} of them from before" if summary.resumed_part_count else ""
    console.print(
        f"{_counted(summary.picture_count, 'picture')} of {_counted(summary.item_count, 'item')} in "
        f"{_counted(summary.part_count, 'part')}{resumed}: {out}",
        soft_wrap=True,
        markup=False,
    )
    for name, count in summary.class_counts.items():
        console.print(f"  {count} x {name}", markup=False)
    if summary.failed_count:
        console.print(f"{_counted(summary.failed_count, 'item')} could not be read; see summary.json:", style="red")
        for failure in summary.failures[:_SHOWN_FAILURES]:
            console.print(f"  {failure['error']}", markup=False, soft_wrap=True)
    if not summary.picture_count:
        raise DataError(f"none of {summary.item_count} items could be read; see {out}/summary.json")
