"""What the dataset commands look at: a dataset version, or raw input brought in by the stages' own code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.markup import escape

from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.config.run_config import SourceKind
    from visionyard.data.inspection.tables import OpenTable
    from visionyard.data.labelled import LabelledSet

errors = Console(stderr=True, highlight=False)

SOURCE_HELP = "A dataset version's folder; or raw input: a folder, an archive, an s3:// or http(s) address."
SourceArgument = Annotated[str, typer.Argument(help=SOURCE_HELP, metavar="DATA")]
FormatOption = Annotated[
    str, typer.Option("--format", help="How raw input is laid out, as data.kind; auto looks.", show_default=True)
]
RateOption = Annotated[float, typer.Option("--rate-hz", help="Frames taken per second of video in raw input.")]
TargetOption = Annotated[str, typer.Option("--target", help="Of a table: the column to be learnt, as data.target.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def shown(source: str) -> str:
    """Return a source fit for a message, without what may hold secrets."""
    from visionyard import storage

    return storage.shown(source)


@contextmanager
def opened(source: str, kind: str, rate_hz: float) -> "Iterator[LabelledSet]":
    """Yield the labelled images of a dataset version or of raw input.

    Raw input goes through ingest and extract_frames in the system's folder for temporary files (TMPDIR), which needs
    as much room as the images.

    Raises:
        ConfigError: `kind` is unknown, or given for a dataset version.
        DataError: The source is missing, empty or not recognised.
    """
    from visionyard.data.labelled import staged_images, version_images

    if is_version_path(source, kind):
        yield version_images(Path(source))
        return
    with staged(source, kind, rate_hz) as (sources, frames):
        yield staged_images(sources, frames, label=shown(source))


def is_version_path(source: str, kind: str) -> bool:
    """Return whether a source is a dataset version.

    Raises:
        ConfigError: It is, and `kind` says how raw input is laid out; or `kind` is unknown.
    """
    from visionyard.data.formats import FORMATS
    from visionyard.data.labelled import is_version

    if kind not in {"auto", "table", *FORMATS}:
        raise ConfigError(f"--format {kind!r}: expected auto, {', '.join(FORMATS)}, table")
    is_found = "://" not in source and is_version(Path(source))
    if is_found and kind != "auto":
        raise ConfigError(f"--format {kind}: {source} is a dataset version, which has no other layout; leave it out")
    return is_found


@contextmanager
def opened_table(source: str, kind: str, target_column: str) -> "Iterator[OpenTable | None]":
    """Yield a table, of a dataset version or of raw input; None where the source is to be looked at for images.

    Raises:
        ConfigError: `kind` is unknown, given for a dataset version, or the target is wrong, or of no raw table.
        DataError: There is no table, or no usable row.
    """
    from visionyard.data.artifacts import read_manifest
    from visionyard.data.dataset import DATASET
    from visionyard.data.inspection.tables import open_ingested_table, open_table_version

    is_found = is_version_path(source, kind)
    if target_column and (is_found or kind != "table"):
        way_out = "a dataset version has its own; leave it out" if is_found else "it is of a table; add --format table"
        raise ConfigError(f"--target {target_column}: {way_out}")
    if is_found:
        is_table = read_manifest(Path(source), "dataset", name=DATASET).get("task") == "table"
        yield open_table_version(Path(source)) if is_table else None
    elif kind != "table":
        yield None
    else:
        from visionyard.data.ingest import ingest

        with TemporaryDirectory(prefix="visionyard-") as scratch:
            sources = Path(scratch, "sources")
            ingest(source, sources, kind="table", target_column=target_column)
            yield open_ingested_table(sources, label=shown(source))


@contextmanager
def staged(source: str, kind: str, rate_hz: float, *, group_pattern: str = "") -> Iterator[tuple[Path, Path]]:
    """Yield the folders that ingest and extract_frames make of raw input; gone at the end.

    Raises:
        ConfigError: `kind` says that it is a table, or the pattern is no regular expression with a group.
    """
    from visionyard.data.extract_frames import extract_frames
    from visionyard.data.ingest import ingest

    if kind == "table":
        raise ConfigError("--format table: this command takes images; `inspect` and `check` take tables")
    with TemporaryDirectory(prefix="visionyard-") as scratch:
        sources, frames = Path(scratch, "sources"), Path(scratch, "frames")
        # On a terminal only, and gone before anything is printed.
        with errors.status(f"reading {escape(shown(source))}"):
            ingest(source, sources, kind=cast("SourceKind", kind), group_pattern=group_pattern)
            extract_frames(sources, frames, rate_hz=rate_hz)
        yield sources, frames
