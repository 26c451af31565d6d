"""Prepare the dataset version: health check, search for near-duplicates, leak-safe split, audit, packing.

Images are read twice, a few at a time: decoded small, once for both the check and the search, and copied when packing.
Only their metadata is in memory (see `visionyard.data.records`); what the search keeps of them lies in scratch files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import CLIPS, IMAGES, MANIFEST, PROBLEMS, read_manifest, read_problems, write_manifest
from visionyard.data.dataset import DATASET
from visionyard.data.duplicates import drop_duplicates
from visionyard.data.given_splits import (
    GivenSplits,
    assign_given,
    check_unused,
    read_given_splits,
    settled_units,
)
from visionyard.data.grouping import Grouping, group_images
from visionyard.data.health import Intake, check_balance, check_health
from visionyard.data.items import SPLITS, Problems, Split, Task, read_json_lines, write_json_lines
from visionyard.data.leaks.audit import LEAK_BUDGET, AuditedImage, LeakCertificate, certify, group_table
from visionyard.data.leaks.near_duplicates import NearDuplicates
from visionyard.data.packing import pack
from visionyard.data.previous import kept_splits, read_previous
from visionyard.data.records import class_counts
from visionyard.data.shards import SHARD_BYTES
from visionyard.data.split import Splitting, assign_splits
from visionyard.data.tables.ingest import KIND as TABLE_KIND
from visionyard.data.tables.prepare import TableReport, prepare_table
from visionyard.digests import sha256_file
from visionyard.errors import ConfigError

# Rows of the table of groups in dataset.json: as many as a person scrolls through, and no more than 200 kB.
_MAX_GROUP_ROWS = 2000
_ARTIFACTS = ("sources", "frames")
# Problems of the whole data set, which a person should hear of while the run goes on.
_WARNED_CODES = {
    "class_imbalance",
    "class_missing_in_split",
    "class_with_few_groups",
    "class_without_items",
    "leak_across_splits",
    "near_duplicates_across_splits",
    "near_duplicates_not_joined",
    "near_duplicates_with_other_label",
    "split_changed",
    "split_file_changes_previous",
    "split_file_divides_group",
    "split_file_divides_near_duplicates",
    "split_row_unused",
}


@dataclass(frozen=True)
class DatasetReport:
    """What was prepared.

    Attributes:
        task: What can be learnt.
        classes: Names in the order of their ids.
        digest: Of the content.
        item_counts: Items by split.
        group_counts: Groups by split.
        class_counts: By split and class, `items` that show it and `boxes` of it.
        problem_count: Problems found by this stage and those before it.
        is_leaky: Whether a group or an identical image stands in two splits, or near-duplicates beyond the budget.
        group_overlap: Groups that stand in two splits.
        identical_images: Pairs of identical images in two splits.
        near_duplicate_pairs: Pairs of images in two splits that show the same.
    """

    task: Task
    classes: list[str]
    digest: str
    item_counts: dict[str, int]
    group_counts: dict[str, int]
    class_counts: dict[str, dict[str, dict[str, int]]]
    problem_count: int
    is_leaky: bool
    group_overlap: int
    identical_images: int
    near_duplicate_pairs: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return what `dataset.json` says in short."""
        found = {**values, **values["leak"], **values["health"]}
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    def metadata(self) -> dict[str, Any]:
        """Return plain values for the artifact's metadata."""
        return asdict(self)


def prepare_dataset(
    sources: Path,
    frames: Path,
    target: Path,
    *,
    classes: Sequence[str] = (),
    split_mode: str = "group",
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    folds: int = 0,
    fold: int = 0,
    previous: str = "",
    split_file: str = "",
    group_by: str = "clip",
    near_duplicates: str = "group",
    leak_budget: float = LEAK_BUDGET,
    shard_bytes: int = SHARD_BYTES,
) -> DatasetReport | TableReport:
    """Turn sources and frames into a dataset version; `target` appears whole or not at all.

    Args:
        sources: Folder of the ingest stage; its loose images are taken.
        frames: Folder of the extract_frames stage.
        target: The dataset folder to make.
        classes: Names to keep, in the order of their ids; empty keeps all, in the source's order, else sorted.
        split_mode: `group` or `published`; see `visionyard.data.split`.
        val_fraction: Share of the items for val, above 0.
        test_fraction: Share of the items for test, above 0.
        split_seed: Another one draws other groups.
        folds: Number of folds, 0 for shares instead; see `visionyard.data.split`.
        fold: Which of them is tested, from 0.
        previous: Folder or address of an earlier version whose items keep their splits; empty for none.
        split_file: CSV of names and the splits that they stand in; see `visionyard.data.given_splits`; empty for none.
        group_by: `clip` or `scene`; see `visionyard.data.grouping`.
        near_duplicates: `group` keeps images that show the same in one split, `report` only counts them.
        leak_budget: Share of val and test that may have a near-duplicate in another split, in [0, 1].
        shard_bytes: Size of a shard.

    Returns:
        What was prepared.

    Raises:
        ConfigError: An option is wrong, or `classes` names what is not there.
        DataError: There are no images, no labels, or labels of two tasks.
        SplitError: The groups cannot be divided as asked, or the file of splits is wrong.
        ArtifactError: An input folder is incomplete, altered or of an unknown version.
        OSError: The disk is full.
    """
    splitting = Splitting(split_mode, val_fraction, test_fraction, split_seed, folds, fold)
    grouping = Grouping(group_by, near_duplicates)
    _check_options(splitting, grouping, previous, split_file, leak_budget)
    folders = (sources, frames)
    manifests = [read_manifest(folder, name) for folder, name in zip(folders, _ARTIFACTS, strict=True)]
    if manifests[0].get("kind") == TABLE_KIND:
        return prepare_table(sources, target, splitting, classes=classes, previous=previous, split_file=split_file)
    given = read_given_splits(split_file) if split_file else None
    problems = Problems([problem for folder in folders for problem in read_problems(folder)])
    listed = manifests[0].get("classes") or ()
    intake = check_health(folders, listed=listed, wanted=classes, problems=problems, is_sketched=True)
    drop_duplicates(intake, within_published=split_mode == "published", problems=problems)
    check_balance(intake, problems)
    splits, duplicates = _split(intake, folders, splitting, grouping, previous, given, problems)
    images = _audited(intake, splits)
    certificate = certify(images, duplicates, problems, leak_budget=leak_budget)
    _warn(problems)
    values = _dataset_values(intake, images, splitting, grouping, certificate, problems)
    if given:
        values["splitting"]["split_file_sha256"] = given.sha256
    values |= _origin(folders, manifests)
    with atomic_folder(target) as work:
        values["digest"] = pack(
            intake.records, splits, folders, work, task=intake.task, classes=intake.classes, shard_bytes=shard_bytes
        )
        write_json_lines(work / PROBLEMS, (problem.to_json() for problem in problems.found))
        write_manifest(work, "dataset", values, name=DATASET)
    return DatasetReport.of(values)


def _check_options(
    splitting: Splitting, grouping: Grouping, previous: str, split_file: str, leak_budget: float
) -> None:
    mistakes = splitting.mistakes() + grouping.mistakes()
    if not 0 <= leak_budget <= 1:
        mistakes.append(f"data.leak_budget = {leak_budget}: expected a share of the images held out, 0 to 1")
    if previous and (splitting.folds or splitting.mode != "group"):
        mistakes.append(
            f"data.previous = {previous!r} keeps drawn splits; use it with data.split_mode = group and without "
            "data.folds"
        )
    if split_file and splitting.folds:
        mistakes.append(
            f"data.split_file with data.folds = {splitting.folds}: folds draw all splits; leave one of them out"
        )
    if mistakes:
        raise ConfigError(mistakes)


def _split(
    intake: Intake,
    folders: Sequence[Path],
    splitting: Splitting,
    grouping: Grouping,
    previous: str,
    given: GivenSplits | None,
    problems: Problems,
) -> tuple[list[Split], NearDuplicates]:
    """Return the split of each record and the near-duplicates, having sorted the records by split and key."""
    earlier = read_previous(previous) if previous else None
    intake.records.sort(key=lambda record: record.key)
    named = _named(intake, folders, splitting, given, problems) if given else ()
    # Frames of one clip are held against each other where the clip may stand in two splits.
    is_published = splitting.mode == "published" or bool(named)
    groups = group_images(intake, grouping, is_published=is_published, problems=problems)

    def split_by(joined: Mapping[str, str], noted: Problems) -> list[Split]:
        kept = kept_splits(intake.records, joined, earlier, noted) if earlier else {}
        settled = settled_units(named, [record.group for record in intake.records], joined, noted) if named else {}
        changed = sorted(unit for unit, split in settled.items() if kept.get(unit, split) != split)
        if changed:
            noted.add(
                "split_file_changes_previous",
                changed[0],
                f"{len(changed)} groups, this one first, stand in another split of data.previous than data.split_file "
                "says; the file is followed, and a model of that version may have been trained on the new test",
            )
        return assign_splits(
            intake.records,
            joined,
            task=intake.task,
            classes=intake.classes,
            splitting=splitting,
            problems=noted,
            kept={**kept, **settled},
            given=named,
        )

    splits = groups.split(split_by, problems)
    order = sorted(range(len(splits)), key=lambda position: SPLITS.index(splits[position]))
    intake.records = [intake.records[position] for position in order]
    return [splits[position] for position in order], groups.duplicates.reordered(order)


def _named(
    intake: Intake, folders: Sequence[Path], splitting: Splitting, given: GivenSplits, problems: Problems
) -> tuple[Split | None, ...]:
    """Return the split that a person gave each record; the records carry it as if the source had published it."""
    assignment = assign_given(given, intake.records)
    check_unused(given, assignment, _names_in(folders, problems), problems)
    is_published = splitting.mode == "published"
    intake.records = [
        replace(record, published_split=split or (record.published_split if is_published else None))
        for record, split in zip(intake.records, assignment.splits, strict=True)
    ]
    return assignment.splits


def _names_in(folders: Sequence[Path], problems: Problems) -> Iterator[str]:
    """Yield every name in the input artifacts, also of what was left out."""
    for folder in folders:
        for name in (IMAGES, CLIPS):
            for values in read_json_lines(folder / name) if (folder / name).exists() else ():
                yield from (values[part] for part in ("key", "source", "group") if part in values)
    yield from (problem.file for problem in problems.found)


def _origin(folders: Sequence[Path], manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `dataset.json` says of the input artifacts."""
    lineage = {name: sha256_file(folder / MANIFEST) for name, folder in zip(_ARTIFACTS, folders, strict=True)}
    told = {name: manifest.get("anonymization") for name, manifest in zip(_ARTIFACTS, manifests, strict=True)}
    hidden = {name: values for name, values in told.items() if values}
    return {"lineage": lineage, **({"anonymization": hidden} if hidden else {})}


def _audited(intake: Intake, splits: Sequence[Split]) -> list[AuditedImage]:
    return [
        AuditedImage(record.key, record.source, record.group, record.timestamp_s, record.sha256, split)
        for record, split in zip(intake.records, splits, strict=True)
    ]


def _dataset_values(
    intake: Intake,
    images: Sequence[AuditedImage],
    splitting: Splitting,
    grouping: Grouping,
    certificate: LeakCertificate,
    problems: Problems,
) -> dict[str, Any]:
    groups = group_table(images)
    splits = [image.split for image in images]
    return {
        "task": intake.task,
        "classes": intake.classes,
        "has_masks": any(record.masks is not None for record in intake.records),
        "item_counts": {split: splits.count(split) for split in SPLITS},
        "group_counts": {split: sum(row["split"] == split for row in groups) for split in SPLITS},
        "class_counts": class_counts(intake.records, splits, intake.classes),
        "splitting": {**asdict(splitting), **asdict(grouping)},
        "leak": certificate.to_json(),
        "health": {
            "problem_count": len(problems.found),
            "problems": problems.counts(),
            "unlabelled_count": intake.unlabelled_count,
            "background_count": sum(not record.class_ids for record in intake.records),
            "other_class_boxes": intake.other_class_boxes,
            "other_class_items": intake.other_class_items,
        },
        "groups": groups[:_MAX_GROUP_ROWS],
        "groups_left_out": max(0, len(groups) - _MAX_GROUP_ROWS),
    }


def _warn(problems: Problems) -> None:
    """Warn of each problem of the whole data set, and once of all others."""
    others = {code: count for code, count in problems.counts().items() if code not in _WARNED_CODES}
    for problem in problems.found:
        if problem.code in _WARNED_CODES:
            events.warn(problem.message)
    if others:
        text = ", ".join(f"{count} {code}" for code, count in others.items())
        events.warn(f"problems found in the data: {text}; each is listed in {PROBLEMS} and in the report")
