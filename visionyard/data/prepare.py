"""Prepare the dataset version: health check, leak-safe split, audit, packing.

Images are read twice, one at a time: decoded small for the check, copied when packing. Only their metadata is in memory
(see `visionyard.data.records`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import MANIFEST, PROBLEMS, read_manifest, read_problems, write_manifest
from visionyard.data.audit import LeakCertificate, certify, group_table
from visionyard.data.dataset import DATASET
from visionyard.data.duplicates import drop_duplicates
from visionyard.data.health import Intake, check_balance, check_health
from visionyard.data.items import SPLITS, Problems, Split, Task, write_json_lines
from visionyard.data.packing import pack
from visionyard.data.records import class_counts
from visionyard.data.shards import SHARD_BYTES
from visionyard.data.split import Splitting, assign_splits, join_groups
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
        is_leaky: Whether a group or an identical image stands in two splits.
        group_overlap: Groups that stand in two splits.
        identical_images: Pairs of identical images in two splits.
        near_duplicate_pairs: Pairs of images in two splits that look alike.
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
    shard_bytes: int = SHARD_BYTES,
) -> DatasetReport:
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
        shard_bytes: Size of a shard.

    Returns:
        What was prepared.

    Raises:
        ConfigError: An option is wrong, or `classes` names what is not there.
        DataError: There are no images, no labels, or labels of two tasks.
        SplitError: The groups cannot be divided as asked.
        ArtifactError: An input folder is incomplete, altered or of an unknown version.
        OSError: The disk is full.
    """
    splitting = _splitting(split_mode, val_fraction, test_fraction, split_seed)
    folders = (sources, frames)
    manifests = [read_manifest(folder, name) for folder, name in zip(folders, _ARTIFACTS, strict=True)]
    problems = Problems([problem for folder in folders for problem in read_problems(folder)])
    intake = check_health(folders, listed=manifests[0].get("classes") or (), wanted=classes, problems=problems)
    drop_duplicates(intake, within_published=split_mode == "published", problems=problems)
    check_balance(intake, problems)
    splits = _split(intake, splitting, problems)
    with atomic_folder(target) as work:
        digest = pack(
            intake.records,
            splits,
            folders,
            work,
            task=intake.task,
            classes=intake.classes,
            shard_bytes=shard_bytes,
        )
        certificate = certify(intake.records, splits, problems)
        _warn(problems)
        write_json_lines(work / PROBLEMS, (problem.to_json() for problem in problems.found))
        values = _dataset_values(intake, splits, splitting, certificate, problems, digest)
        lineage = {name: sha256_file(folder / MANIFEST) for name, folder in zip(_ARTIFACTS, folders, strict=True)}
        write_manifest(work, "dataset", {**values, "lineage": lineage}, name=DATASET)
    return DatasetReport(
        task=intake.task,
        classes=intake.classes,
        digest=digest,
        item_counts=values["item_counts"],
        group_counts=values["group_counts"],
        class_counts=values["class_counts"],
        problem_count=len(problems.found),
        is_leaky=certificate.is_leaky,
        group_overlap=certificate.group_overlap,
        identical_images=certificate.identical_images,
        near_duplicate_pairs=certificate.near_duplicate_pairs,
    )


def _splitting(mode: str, val_fraction: float, test_fraction: float, seed: int) -> Splitting:
    mistakes = []
    if mode not in {"group", "published"}:
        mistakes.append(f"data.split_mode = {mode!r}: expected group or published")
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            mistakes.append(f"data.{name} = {value}: expected a share above 0 and below 1")
    if not mistakes and val_fraction + test_fraction >= 1:
        mistakes.append(
            f"data.val_fraction {val_fraction} + data.test_fraction {test_fraction} leave nothing for train"
        )
    if mistakes:
        raise ConfigError(mistakes)
    return Splitting(mode, val_fraction, test_fraction, seed)


def _split(intake: Intake, splitting: Splitting, problems: Problems) -> list[Split]:
    """Return the split of each record, having sorted the records by split and key."""
    intake.records.sort(key=lambda record: record.key)
    splits = assign_splits(
        intake.records,
        join_groups(intake.same_images),
        task=intake.task,
        classes=intake.classes,
        splitting=splitting,
        problems=problems,
    )
    order = sorted(range(len(splits)), key=lambda position: SPLITS.index(splits[position]))
    intake.records = [intake.records[position] for position in order]
    return [splits[position] for position in order]


def _dataset_values(
    intake: Intake,
    splits: Sequence[Split],
    splitting: Splitting,
    certificate: LeakCertificate,
    problems: Problems,
    digest: str,
) -> dict[str, Any]:
    groups = group_table(intake.records, splits)
    return {
        "task": intake.task,
        "classes": intake.classes,
        "digest": digest,
        "has_masks": any(record.masks is not None for record in intake.records),
        "item_counts": {split: splits.count(split) for split in SPLITS},
        "group_counts": {split: sum(row["split"] == split for row in groups) for split in SPLITS},
        "class_counts": class_counts(intake.records, splits, intake.classes),
        "splitting": asdict(splitting),
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
