"""Bring a table in as a `sources` artifact: types found or checked, values stored as such, problems told.

sources/   manifest.json (kind `table`, with `schema`), table.parquet, problems.jsonl, images.jsonl and clips.jsonl,
           both empty: to the stages that read them, a table holds no images

| type | in table.parquet |
| --- | --- |
| numeric | double |
| boolean | bool |
| categorical, text | string |

A missing value is null. `_split` has the published split, null where there is none. The table is read twice, in
batches: for the types, then to store it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import CLIPS, IMAGES, PROBLEMS, write_manifest
from visionyard.data.formats.reading import split_of_folder
from visionyard.data.items import Problems, write_json_lines
from visionyard.data.tables.conversion import as_plain, as_type
from visionyard.data.tables.profiles import MOST_DISTINCT, Profile
from visionyard.data.tables.schema import (
    MANIFEST_KEY,
    Column,
    ColumnRules,
    ColumnType,
    Role,
    SchemaFile,
    TableSchema,
    check_names,
    load_schema_file,
)
from visionyard.data.tables.source import TableSource, find_tables
from visionyard.digests import digest_of, sha256_file
from visionyard.errors import ConfigError, DataError

KIND = "table"
TABLE = "table.parquet"
SPLIT, GROUP = "_split", "_group"
# A column of numbers as a target is a class when it has so few different ones, all whole.
_MOST_NUMBER_CLASSES = 20
_SHOWN_SPLITS = 20


@dataclass(frozen=True)
class TableIngestReport:
    """What was brought in.

    Attributes:
        row_count: Rows stored.
        feature_count: Columns that a model learns from.
        problem_count: Problems found.
        total_bytes: Of the stored table.
        digest: Of files and schema.
        schema: Of the columns.
    """

    row_count: int
    feature_count: int
    problem_count: int
    total_bytes: int
    digest: str
    schema: TableSchema

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the target in the order of their ids; empty for a regression."""
        return self.schema.target.values

    def figures(self) -> dict[str, events.Figure]:
        """Return the figures of the stage, the key figure first."""
        return {
            "row_count": self.row_count,
            "problem_count": self.problem_count,
            "feature_count": self.feature_count,
            "class_count": len(self.classes),
            "total_bytes": self.total_bytes,
            "kind": KIND,
        }

    def metadata(self) -> dict[str, Any]:
        """Return what the artifact's metadata says in the Kubeflow UI."""
        return {**self.figures(), "classes": ", ".join(self.classes), "digest": self.digest}


def ingest_table(source: Path, target: Path, *, target_column: str = "", label: str = "") -> TableIngestReport:
    """Bring a table in.

    Args:
        source: A CSV, TSV or Parquet file, or a folder with files of the same columns and, perhaps, a schema file.
        target: The artifact's folder; appears when all is done.
        target_column: Column to be learnt; empty when the schema file names it.
        label: What messages call the source; its own name when empty.

    Raises:
        ConfigError: The schema file, or the target, is wrong; it lists all mistakes.
        DataError: There is no table, it is damaged, or it has no usable row.
    """
    problems = Problems()
    table = find_tables(source, problems, label=label or source.name)
    rules = SchemaFile() if table.schema_file is None else load_schema_file(table.schema_file)
    wanted = check_names(rules, table.names, target=target_column, file=table.files[0].name)
    taken = sorted({SPLIT, GROUP} & set(table.names))
    if taken:
        raise DataError(f"{table.files[0].name}: the column name {taken[0]!r} is Visionyard's own; rename it")
    profiles = _profiles(table, rules, problems)
    types = {name: _type(profile, rules) for name, profile in profiles.items()}
    schema = _schema(table, rules, wanted, profiles, types, problems)
    # Numbers that are classes are one class however they are written (1, 1.0, +1), so they are read as numbers first.
    numbers = {name for name, (shown, _) in types.items() if shown == "numeric"}
    with atomic_folder(target) as work:
        row_count = _write(work / TABLE, table, schema, rules, numbers, problems)
        if not row_count:
            raise DataError(f"{label or source.name}: no row has a value of the target {wanted!r}")
        for name in (IMAGES, CLIPS):
            write_json_lines(work / name, ())
        write_json_lines(work / PROBLEMS, (problem.to_json() for problem in problems.found))
        digest = digest_of({"schema": schema.to_json(), "table": sha256_file(work / TABLE)})
        values = {
            "kind": KIND,
            "kind_evidence": f"{len(table.files)} files such as {table.files[0].name}, {len(table.names)} columns",
            "task": KIND,
            "classes": list(schema.target.values),
            "digest": digest,
            "row_count": row_count,
            "image_count": 0,
            "clip_count": 0,
            "problem_counts": problems.counts(),
            MANIFEST_KEY: schema.to_json(),
        }
        write_manifest(work, "sources", values)
    return TableIngestReport(
        row_count=row_count,
        feature_count=len(schema.features),
        problem_count=len(problems.found),
        total_bytes=(target / TABLE).stat().st_size,
        digest=digest,
        schema=schema,
    )


def _profiles(table: TableSource, rules: SchemaFile, problems: Problems) -> dict[str, Profile]:
    """Return what each column holds, columns left out that no model could take."""
    profiles = {name: Profile(name) for name in table.names}
    for file in table.files:
        if file.layout is not None and file.layout.is_encoding_guessed:
            message = f"not UTF-8; read as {file.layout.encoding}: look at the texts, or save it as UTF-8"
            problems.add("encoding_guessed", file.name, message)
    done = 0
    for file, batch in table.batches(problems):
        done += batch.num_rows
        events.progress(done, None, unit="row", label=f"looking at {file.name}")
        for name in list(profiles):
            values = as_plain(batch.column(name), rules.missing)
            if values is None:
                kind = batch.column(name).type
                message = f"its type is {kind}, expected numbers, texts, booleans or times; left out"
                problems.add("column_not_supported", file.name, message, name)
                del profiles[name]
            else:
                profiles[name].add(values)
    return profiles


def _type(profile: Profile, rules: SchemaFile) -> tuple[ColumnType, str]:
    """Return the type of a column, and what shows it."""
    rule = rules.columns.get(profile.name)
    return profile.shown_type() if rule is None else (rule.type, "the schema file says so")


def _schema(
    table: TableSource,
    rules: SchemaFile,
    target: str,
    profiles: Mapping[str, Profile],
    types: Mapping[str, tuple[ColumnType, str]],
    problems: Problems,
) -> TableSchema:
    """Return the columns with their types and roles; what is odd about them is noted.

    Raises:
        ConfigError: The target cannot be learnt as asked, or a column has too many categories.
    """
    columns = []
    for name, profile in profiles.items():
        rule = rules.columns.get(name)
        shown, evidence = types[name]
        given = rule.values if rule else []
        if shown == "categorical" and not given and profile.has_more_distinct:
            raise ConfigError(
                f"columns.{name}.type = 'categorical': it has more than {MOST_DISTINCT} different values; list the "
                "categories under values, or give type text"
            )
        values: Iterable[str] = (given or _categories(profile, shown)) if shown == "categorical" else ()
        role = _role(name, target, rules)
        column = Column(name, shown, role, evidence, tuple(sorted(values)), profile.missing_count)
        if rule is not None:
            column = replace(column, minimum=rule.min, maximum=rule.max)
        columns.append(column)
        _note_oddities(profile, columns[-1], table.files[0].name, problems)
    if not any(column.role == "target" for column in columns):
        raise ConfigError(f"data.target = {target!r}: the column has no type that can be learnt")
    return _with_task(columns, rules, profiles[target])


def _role(name: str, target: str, rules: SchemaFile) -> Role:
    roles: dict[str, Role] = {target: "target", rules.group: "group", rules.split: "split"}
    return roles.get(name, "ignored" if name in rules.ignore else "feature")


def _with_task(columns: list[Column], rules: SchemaFile, profile: Profile) -> TableSchema:
    """Return the schema with the task that the target's type allows, a target of classes with its categories."""
    position = next(at for at, column in enumerate(columns) if column.role == "target")
    target = columns[position]
    are_classes = target.type in {"categorical", "boolean"}
    is_given = target.name in rules.columns
    few_numbers = profile.is_whole and len(profile.distinct) <= _MOST_NUMBER_CLASSES
    if target.type == "text":
        raise ConfigError(
            f"data.target = {target.name!r}: it holds texts ({target.evidence}); expected classes or numbers"
        )
    task = rules.task or ("classification" if are_classes or (few_numbers and not is_given) else "regression")
    if task == "regression" and are_classes:
        raise ConfigError(f"task = 'regression': the target {target.name!r} is {target.type}; expected numbers")
    if task == "classification":
        if profile.has_more_distinct:
            raise ConfigError(f"task = 'classification': the target {target.name!r} has too many different values")
        values = target.values or tuple(sorted(_categories(profile, target.type)))
        columns[position] = Column(target.name, "categorical", "target", target.evidence, values, target.missing_count)
    return TableSchema(task, tuple(columns), tuple(rules.missing))


def _categories(profile: Profile, shown: ColumnType) -> set[str]:
    """Return the values of a column as categories, in the form in which they are stored (1, not 1.0 or True)."""
    import pyarrow as pa

    texts = pa.array(sorted(profile.distinct), pa.string())
    values = texts if profile.fixed_type is None else as_type(texts, profile.fixed_type)
    if shown == "numeric":
        values = as_type(values, "numeric")
    return set(as_type(values, "categorical").drop_null().to_pylist())


def _note_oddities(profile: Profile, column: Column, file: str, problems: Problems) -> None:
    if column.role in {"feature", "target"} and profile.is_constant():
        problems.add("constant_column", file, "all its values are the same: nothing can be learnt from it", column.name)
    elif column.role == "feature" and profile.is_like_an_id():
        message = "each row has a value of its own, as a number or name of the row has; name it under ignore"
        problems.add("column_like_an_id", file, message, column.name)
    if column.type == "text" and column.role == "feature" and profile.value_count:
        problems.add("text_column", file, f"{column.evidence}: kept, and no feature", column.name)
    if column.type == "numeric" and profile.stray and profile.fixed_type is None:
        count = profile.value_count - profile.number_count
        message = f"{count} of {profile.value_count} values are no numbers, such as {profile.stray!r}; taken as missing"
        problems.add("not_a_number", file, f"{message}; name their marks under missing, or another type", column.name)
    if "numeric" in {column.type, profile.fixed_type} and profile.infinite_count:
        message = f"{profile.infinite_count} of {profile.value_count} values are infinite; taken as missing"
        problems.add("infinite_number", file, message, column.name)
    if profile.comma_count and profile.comma_count + profile.number_count == profile.value_count:
        message = f"{profile.comma_count} values have a decimal comma, so it is {column.type}; write points"
        problems.add("decimal_comma", file, message, column.name)


def _write(
    path: Path, table: TableSource, schema: TableSchema, rules: SchemaFile, numbers: Set[str], problems: Problems
) -> int:
    """Store the rows that have a target and return how many; the columns in `numbers` are read as such."""
    import pyarrow as pa
    from pyarrow import parquet

    fields = [(column.name, _arrow_type(column)) for column in schema.columns]
    arrow_schema = pa.schema([*fields, (SPLIT, pa.string())])
    counts = dict.fromkeys(("rows", "kept"), 0)
    forbidden: Counter[str] = Counter()
    unknown_splits: Counter[str] = Counter()
    with parquet.ParquetWriter(path, arrow_schema, compression="zstd") as writer:
        for file, batch in table.batches(problems):
            columns = list(_typed(batch, schema, rules, numbers, forbidden))
            columns.append(_published(batch, file.split, rules, unknown_splits))
            rows = pa.record_batch(columns, schema=arrow_schema)
            kept = rows.filter(rows.column(schema.target.name).is_valid())
            writer.write_batch(kept)
            counts["rows"] += rows.num_rows
            counts["kept"] += kept.num_rows
            events.progress(counts["rows"], None, unit="row", label=f"storing {file.name}")
    name = table.files[0].name
    if counts["kept"] < counts["rows"]:
        message = f"{counts['rows'] - counts['kept']} of {counts['rows']} rows have no value of the target; left out"
        problems.add("row_without_target", name, message, schema.target.name)
    for column, count in forbidden.items():
        problems.add(
            "value_not_allowed", name, f"{count} values break the schema file's rules; taken as missing", column
        )
    for text, count in sorted(unknown_splits.items()):
        message = f"{count} rows are of {text[:40]!r}, which is none of train, val and test; they count as of none"
        problems.add("unknown_split", name, message, rules.split)
    return counts["kept"]


def _typed(
    batch: Any, schema: TableSchema, rules: SchemaFile, numbers: Set[str], forbidden: Counter[str]
) -> Iterator[Any]:
    for column in schema.columns:
        values: Any = as_plain(batch.column(column.name), rules.missing)
        typed = as_type(values, "numeric" if column.name in numbers else column.type)
        rule = rules.columns.get(column.name)
        if rule is not None:
            allowed = _allowed(typed, rule)
            # A text that is no number at all breaks the given type as much as a number out of its bounds does.
            if count := allowed.null_count - values.null_count:
                forbidden[column.name] += count
            typed = allowed
        yield as_type(typed, column.type)


def _allowed(values: Any, rule: ColumnRules) -> Any:
    """Return a column with null where a value breaks its rule."""
    import pyarrow as pa
    from pyarrow import compute as pc

    is_good = pa.array([True] * len(values))
    if rule.values:
        is_good = pc.is_in(values, value_set=pa.array(rule.values))
    if rule.type == "numeric":
        least, greatest = -math.inf if rule.min is None else rule.min, math.inf if rule.max is None else rule.max
        is_good = pc.and_(pc.greater_equal(values, least), pc.less_equal(values, greatest))
    return pc.if_else(is_good, values, pa.scalar(None, values.type))


def _published(batch: Any, split: str | None, rules: SchemaFile, unknown: Counter[str]) -> Any:
    """Return the split of each row, null where it has none; the first texts that mean none are counted."""
    import pyarrow as pa

    if not rules.split:
        return pa.array([split] * batch.num_rows, pa.string())
    texts = as_type(as_plain(batch.column(rules.split), rules.missing), "text").to_pylist()
    splits = [None if text is None else split_of_folder(text) for text in texts]
    odd = (text for text, found in zip(texts, splits, strict=True) if text is not None and found is None)
    unknown.update(text for text in odd if text in unknown or len(unknown) < _SHOWN_SPLITS)
    return pa.array(splits, pa.string())


def _arrow_type(column: Column) -> Any:
    import pyarrow as pa

    return {"numeric": pa.float64(), "boolean": pa.bool_()}.get(column.type, pa.string())
