"""Which images must stand in one split: groups of the source (clips), scenes, and clusters of near-duplicates.

A clip is a group. With `group_by: scene` each shot of a clip is one (see `visionyard.data.leaks.scenes`): for a long
compilation of many places. With `near_duplicates: group` groups that hold near-duplicates of each other are joined, so
that no pair of them stands in two splits; with `report` they are only counted.

One fixed camera makes all its clips near-duplicates of each other. Of a classification, pictures of different classes
are not joined: what little differs is what is to be learnt. Where joining leaves too few groups to divide, the clips
are divided without it, a problem says so, and the certificate counts what that leaks: the test then tells how well the
model does before this camera, not before another, and training wants `data.allow_leak: true`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from sys import intern

import numpy as np

from visionyard.data.given_splits import SCENE_MARK
from visionyard.data.health import Intake
from visionyard.data.items import Problems, Split
from visionyard.data.leaks.near_duplicates import NearDuplicates, find_near_duplicates, without_other_labels
from visionyard.data.leaks.scenes import scene_numbers
from visionyard.data.leaks.sketches import Sketches
from visionyard.data.leaks.union_find import join_groups
from visionyard.errors import SplitError

Splitter = Callable[[Mapping[str, str], Problems], list[Split]]


@dataclass(frozen=True)
class Grouping:
    """What is kept together.

    Attributes:
        group_by: `clip` or `scene`.
        near_duplicates: `group` or `report`.
    """

    group_by: str = "clip"
    near_duplicates: str = "group"

    def mistakes(self) -> list[str]:
        """Return what is wrong with these settings, empty when nothing is."""
        found = []
        if self.group_by not in {"clip", "scene"}:
            found.append(f"data.group_by = {self.group_by!r}: expected clip or scene")
        if self.near_duplicates not in {"group", "report"}:
            found.append(f"data.near_duplicates = {self.near_duplicates!r}: expected group or report")
        return found


@dataclass(frozen=True)
class Groups:
    """What belongs together.

    Attributes:
        duplicates: Near-duplicates, by position in the records.
        same_images: Pairs of groups that hold an identical image.
        near: Pairs of groups that hold near-duplicates and are to be joined.
    """

    duplicates: NearDuplicates
    same_images: list[tuple[str, str]]
    near: list[tuple[str, str]]

    def split(self, split_by: Splitter, problems: Problems) -> list[Split]:
        """Return the splits with near-duplicates joined, without where that leaves too few groups.

        Raises:
            SplitError: The groups cannot be divided either way; says why of those that are not joined.
        """
        noted = Problems()
        try:
            splits = split_by(join_groups([*self.same_images, *self.near]), noted)
        except SplitError as refusal:
            if not self.near:
                raise
            noted = Problems()
            splits = split_by(join_groups(self.same_images), noted)
            problems.add(
                "near_duplicates_not_joined",
                "",
                f"groups that hold near-duplicates of each other are kept apart, for together they cannot be divided "
                f"({refusal}): is it one fixed camera? Then the test says how well the model does before this camera; "
                "add clips of other places, or set data.allow_leak = true knowing that",
            )
        problems.found += noted.found
        return splits


def group_images(intake: Intake, grouping: Grouping, *, is_published: bool, problems: Problems) -> Groups:
    """Find what belongs together; with `group_by: scene` the records get their scenes as groups.

    Args:
        intake: What the health check let through, with sketches, which it loses; its order of records stays.
        grouping: The settings.
        is_published: Compare frames of one clip too where the source put them into different splits.
        problems: Gets `near_duplicates_with_other_label`.

    Raises:
        OSError: The disk that holds temporary files is full.
    """
    records = intake.records
    sketches = intake.release_sketches()
    if grouping.group_by == "scene":
        _group_by_scene(intake, sketches)
        records = intake.records
    standing = [(record.group, record.published_split if is_published else None) for record in records]
    number_of = {value: number for number, value in enumerate(dict.fromkeys(standing))}
    duplicates = find_near_duplicates(sketches, np.array([number_of[value] for value in standing], dtype=np.int64))
    if intake.task == "classification":
        duplicates, count = without_other_labels(duplicates, [record.class_ids for record in records])
        if count:
            message = f"{count} pairs of images with different classes show nearly the same; they are not kept together"
            problems.add("near_duplicates_with_other_label", "", message)
    near = {(records[first].group, records[second].group) for first, second in duplicates.pairs.tolist()}
    is_joined = grouping.near_duplicates == "group"
    return Groups(duplicates, intake.same_images, sorted(near) if is_joined else [])


def _group_by_scene(intake: Intake, sketches: Sketches) -> None:
    """Give each frame of a clip of several scenes its scene as group."""
    numbers = scene_numbers([(record.group, record.timestamp_s) for record in intake.records], sketches)
    scenes: defaultdict[str, set[str]] = defaultdict(set)
    renamed = []
    for record, number in zip(intake.records, numbers, strict=True):
        scene = record.group if number is None else intern(f"{record.group}{SCENE_MARK}{number}")
        scenes[record.group].add(scene)
        renamed.append(replace(record, group=scene))
    # Which scene the copy that was left out stood in is not known any more: clips that share an image stay whole.
    shared = {clip for pair in intake.same_images for clip in pair}
    intake.same_images += [(clip, scene) for clip in sorted(shared) for scene in sorted(scenes[clip])]
    intake.records = renamed
