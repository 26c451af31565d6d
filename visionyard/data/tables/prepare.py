"""Prepare the dataset version of a table: checks, leak-safe split, one Parquet file.

dataset.json    task `table`, target, schema, classes, digest, counts, splitting, leak, health, lineage
table.parquet   the columns of the schema, then `_split` and `_group`; rows of train, val, test one after another
problems.jsonl  every problem found on the way here

The digest is taken over the schema and the sorted hashes of the rows with their splits: same rows, same digest, in
whatever order they came.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import MANIFEST, PROBLEMS, read_manifest, read_problems, write_manifest
from visionyard.data.dataset import DATASET
from visionyard.data.items import SPLITS, Problems, write_json_lines
from visionyard.data.split import Splitting
from visionyard.data.tables.checks import check_leaks, check_rows
from visionyard.data.tables.ingest import GROUP, KIND, SPLIT, TABLE
from visionyard.data.tables.rows import Rows, batches, read_rows
from visionyard.data.tables.schema import MANIFEST_KEY, TableSchema, TableTask
from visionyard.data.tables.splitting import certificate, split_rows
from visionyard.digests import canonical_json, digest_of_lines, sha256_file
from visionyard.errors import ArtifactError, ConfigError

_WARNED_CODES = {"column_tells_target", "constant_column", "column_like_an_id", "conflicting_labels"}


@dataclass(frozen=True)
class TableReport:
    """What was prepared.

    Attributes:
        task: Always `table`.
        table_task: What is learnt of the target.
        target: The column to be learnt.
        classes: Of the target, in the order of their ids; empty for a regression.
        digest: Of the content.
        item_counts: Rows by split.
        group_counts: Groups by split.
        problem_count: Problems found by this stage and the one before it.
        is_leaky: Whether a group, or a row's features, stand in two splits.
    """

    task: str
    table_task: TableTask
    target: str
    classes: list[str]
    digest: str
    item_counts: dict[str, int]
    group_counts: dict[str, int]
    problem_count: int
    is_leaky: bool

    def metadata(self) -> dict[str, Any]:
        """Return plain values for the artifact's metadata."""
        return asdict(self)


def prepare_table(
    sources: Path,
    target: Path,
    splitting: Splitting,
    *,
    classes: Sequence[str] = (),
    previous: str = "",
    split_file: str = "",
) -> TableReport:
    """Turn an ingested table into a dataset version; `target` appears whole or not at all.

    Args:
        sources: Folder of the ingest stage, kind `table`.
        target: The dataset folder to make.
        splitting: Mode, shares or folds, and seed.
        classes: As of images; refused, since rows of other classes are better left out of the table.
        previous: As of images; refused, since a table's rows do not keep their splits from version to version.
        split_file: As of images; refused, since rows have no names; a column of the table can say their splits.

    Raises:
        ConfigError: A setting that tables do not have is given.
        ArtifactError: The input folder is incomplete, altered or no table.
        SplitError: The rows cannot be divided as asked.
        OSError: The disk is full.
    """
    _refuse_settings(classes, previous, split_file)
    manifest = read_manifest(sources, "sources")
    table = sources / TABLE
    if manifest.get("kind") != KIND or not table.is_file():
        raise ArtifactError(
            f"{sources}: expected a table with {TABLE}, got kind {manifest.get('kind')!r}; ingest again"
        )
    schema = TableSchema.from_json(manifest[MANIFEST_KEY])
    problems = Problems(read_problems(sources))
    rows = read_rows(table, schema, SPLIT)
    check_rows(rows, schema, problems)
    check_leaks(table, rows, schema, problems)
    splits = split_rows(rows, schema, splitting, problems)
    leak = certificate(rows, splits)
    if leak["is_leaky"]:
        message = f"{leak['group_overlap']} groups and {leak['identical_rows']} rows stand in two splits"
        problems.add("leak_across_splits", "", f"{message}: what is measured on test is too good")
    _warn(problems)
    with atomic_folder(target) as work:
        _write(work / TABLE, table, rows, splits)
        write_json_lines(work / PROBLEMS, (problem.to_json() for problem in problems.found))
        values = _values(rows, splits, schema, splitting, leak, problems)
        lineage = {"sources": sha256_file(sources / MANIFEST)}
        write_manifest(work, "dataset", {**values, "lineage": lineage}, name=DATASET)
    return TableReport(
        task=KIND,
        table_task=schema.task,
        target=schema.target.name,
        classes=list(schema.target.values),
        digest=values["digest"],
        item_counts=values["item_counts"],
        group_counts=values["group_counts"],
        problem_count=len(problems.found),
        is_leaky=leak["is_leaky"],
    )


def _refuse_settings(classes: Sequence[str], previous: str, split_file: str) -> None:
    mistakes = []
    if classes:
        mistakes.append(f"data.classes = {list(classes)}: not for tables; leave rows of other classes out of the file")
    if previous:
        mistakes.append(f"data.previous = {previous!r}: not for tables; name a split column and use published")
    if split_file:
        mistakes.append(f"data.split_file = {split_file!r}: not for tables; name a split column and use published")
    if mistakes:
        raise ConfigError(mistakes)


def _write(path: Path, source: Path, rows: Rows, splits: np.ndarray) -> None:
    """Store split after split, each in the order of the source, which is read once for each."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(source) as opened:
        kept = opened.schema_arrow.remove(opened.schema_arrow.get_field_index(SPLIT))
    schema = kept.append(pa.field(SPLIT, pa.string())).append(pa.field(GROUP, pa.string()))
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for place, split in enumerate(SPLITS):
            start = 0
            for batch in batches(source):
                end = start + batch.num_rows
                taken = np.flatnonzero(splits[start:end] == place)
                chosen = batch.select(kept.names).take(pa.array(taken))
                group = pa.array([rows.group(each) for each in rows.group_ids[start:end][taken].tolist()], pa.string())
                columns = [*chosen.columns, pa.array([split] * len(taken), pa.string()), group]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                start = end
                events.progress(end, len(splits), unit="row", label=f"storing {split}")


def _values(
    rows: Rows, splits: np.ndarray, schema: TableSchema, splitting: Splitting, leak: dict[str, Any], problems: Problems
) -> dict[str, Any]:
    of_split = [splits == place for place in range(len(SPLITS))]
    return {
        "task": KIND,
        "target": schema.target.name,
        "classes": list(schema.target.values),
        MANIFEST_KEY: schema.to_json(),
        "digest": _digest(rows, splits, schema),
        "item_counts": {split: int(held.sum()) for split, held in zip(SPLITS, of_split)},
        "group_counts": {split: len(np.unique(rows.group_ids[held])) for split, held in zip(SPLITS, of_split)},
        **_target_counts(rows.targets, of_split, schema),
        "splitting": asdict(splitting),
        "leak": leak,
        "health": {"problem_count": len(problems.found), "problems": problems.counts()},
    }


def _target_counts(targets: np.ndarray, of_split: Sequence[np.ndarray], schema: TableSchema) -> dict[str, Any]:
    """Return rows by split and class, or the target's figures by split."""
    if schema.task == "classification":
        names = schema.target.values
        counted = [np.bincount(targets[held], minlength=len(names)) for held in of_split]
        return {
            "class_counts": {
                split: {name: {"items": int(count), "boxes": 0} for name, count in zip(names, counts)}
                for split, counts in zip(SPLITS, counted)
            }
        }
    figures = {
        split: {
            "mean": float(targets[held].mean()),
            "standard_deviation": float(targets[held].std()),
            "minimum": float(targets[held].min()),
            "maximum": float(targets[held].max()),
        }
        for split, held in zip(SPLITS, of_split)
    }
    return {"target_figures": figures}


def _digest(rows: Rows, splits: np.ndarray, schema: TableSchema) -> str:
    order = np.lexsort((splits, rows.contents[:, 1], rows.contents[:, 0]))
    lines = (
        f"{high:016x}{low:016x} {SPLITS[split]}" for (high, low), split in zip(rows.contents[order], splits[order])
    )
    return digest_of_lines([canonical_json(schema.to_json()), *lines])


def _warn(problems: Problems) -> None:
    """Warn of what a person should hear of while the run goes on, and once of all others."""
    for problem in problems.found:
        if problem.code in _WARNED_CODES:
            events.warn(f"column {problem.item!r}: {problem.message}" if problem.item else problem.message)
    others = {code: count for code, count in problems.counts().items() if code not in _WARNED_CODES}
    if others:
        text = ", ".join(f"{count} {code}" for code, count in others.items())
        events.warn(f"problems found in the table: {text}; each is listed in {PROBLEMS}")
