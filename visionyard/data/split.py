"""Decide which split each item stands in, so that no group stands in two; the rules of both modes and of folds.

`group` mode, by the number of groups that show a class:

| task | groups of the class | rule |
| --- | --- | --- |
| all | fewer than 3 groups in all | refused |
| classification | a single class in all | refused: there is nothing to tell apart |
| classification | 0, 1 or 2 | refused: the class cannot be in all three splits |
| classification | 3 or more | in train, val and test |
| others | 1 | refused: the class could be learnt or judged, not both |
| others | 2 | in train and test; a problem says that val lacks it |
| others | 3 or more | in train, val and test; a problem where groups of several classes make that impossible |

Groups that are joined (identical images, near-duplicates) count as one. All classes that break a rule are named at
once.

`published` mode keeps the source's own split, leak or no leak. Items that the source gave no split go to train. A
source without val, or without test, gets it from the groups of its train; a class with too few groups for that stays in
train. A class that train lacks is refused; one that val or test lacks is a problem.

With an earlier version (`data.previous`) what was in it keeps its split, and only the rest is drawn. A hash of the
name would keep splits too, without an earlier version, but it cannot see to it that each class of ten clips is in each.
Where new images join groups of two splits, all of them go to train, else to val: nothing that a model was trained on
ever comes into a later test.

What `data.split_file` gives stands where it says, in both modes (`visionyard.data.given_splits`); the rest is drawn
around it. A file that gives all is taken as it is, by the rules of `published`; one that leaves a split empty is
refused.

Folds (`data.folds` = k): the groups are divided into k equal parts by the same rules, each class in each part where it
has k groups (a classification needs that many). Fold i is tested on part i and validated on the next; the parts do not
depend on i, so each item is tested once over all folds.

Source of the folds: Y. Bengio, Y. Grandvalet, No Unbiased Estimator of the Variance of K-Fold Cross-Validation, JMLR
2004, section 2; groups and strata as in scikit-learn's StratifiedGroupKFold.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from visionyard.data.items import SPLITS, Problems, Split, Task
from visionyard.data.records import Record
from visionyard.data.stratification import divide_groups, missing_parts
from visionyard.errors import SplitError

_NAMED_GROUPS = 5
_WAY_OUT = (
    "Add clips or scenes that show it, leave it out by data.classes, name finer groups by data.group_pattern, or keep "
    "the source's own split by data.split_mode = published"
)


@dataclass(frozen=True)
class Splitting:
    """How to split.

    Attributes:
        mode: `group` or `published`.
        val_fraction: Share of the items for val.
        test_fraction: Share of the items for test.
        seed: Another one draws other groups where several draws are equally good.
        folds: Number of folds, 3 or more; 0 for shares instead.
        fold: Which of them, from 0.
    """

    mode: str
    val_fraction: float
    test_fraction: float
    seed: int
    folds: int = 0
    fold: int = 0

    def mistakes(self) -> list[str]:
        """Return what is wrong with these settings, empty when nothing is."""
        found = []
        if self.mode not in {"group", "published"}:
            found.append(f"data.split_mode = {self.mode!r}: expected group or published")
        for name, value in (("val_fraction", self.val_fraction), ("test_fraction", self.test_fraction)):
            if not 0 < value < 1:
                found.append(f"data.{name} = {value}: expected a share above 0 and below 1")
        if not found and self.val_fraction + self.test_fraction >= 1:
            found.append(
                f"data.val_fraction {self.val_fraction} + data.test_fraction {self.test_fraction} leave nothing for "
                "train"
            )
        if self.folds and (self.folds < len(SPLITS) or self.mode != "group"):
            found.append(
                f"data.folds = {self.folds} with data.split_mode = {self.mode}: expected 3 folds or more, or 0 for "
                "none, and data.split_mode = group"
            )
        elif self.folds and not 0 <= self.fold < self.folds:
            found.append(f"data.fold = {self.fold}: expected 0 to {self.folds - 1}, for data.folds is {self.folds}")
        return found

    def fractions(self) -> dict[Split, float]:
        """Return the share of each split."""
        return {
            "train": 1.0 - self.val_fraction - self.test_fraction,
            "val": self.val_fraction,
            "test": self.test_fraction,
        }


class _Units:
    """What is divided: groups, joined where they hold identical images, in the order of their names."""

    def __init__(self, records: Sequence[Record], joined: Mapping[str, str], class_count: int) -> None:
        names = [joined.get(record.group, record.group) for record in records]
        self.names = sorted(set(names))
        row_of = {name: row for row, name in enumerate(self.names)}
        self.rows = np.array([row_of[name] for name in names], dtype=np.int64)
        # One column a class (items that show it) and a last one of all items, by which sizes are balanced.
        self.counts = np.zeros((len(self.names), class_count + 1), dtype=np.int64)
        self.members: dict[str, set[str]] = defaultdict(set)
        for record, name, row in zip(records, names, self.rows, strict=True):
            self.counts[row, [*set(record.class_ids), class_count]] += 1
            if record.group in joined:
                self.members[name].add(record.group)

    def of_class(self, class_id: int) -> list[str]:
        """Return the names of the units that show a class; of a joined unit, those of its groups."""
        names = [self.names[row] for row in np.flatnonzero(self.counts[:, class_id])]
        return [_listed(sorted(self.members[name]), " = ") if name in self.members else name for name in names]


def assign_splits(
    records: Sequence[Record],
    joined: Mapping[str, str],
    *,
    task: Task,
    classes: Sequence[str],
    splitting: Splitting,
    problems: Problems,
    kept: Mapping[str, Split] | None = None,
    given: Sequence[Split | None] = (),
) -> list[Split]:
    """Return the split of each record by the rules above.

    Args:
        records: All items, one at least.
        joined: From `visionyard.data.leaks.union_find.join_groups`.
        task: What is learnt.
        classes: Names in the order of their ids.
        splitting: Mode, shares and seed.
        problems: Gets `class_missing_in_split` and `item_without_published_split`.
        kept: Groups, by their name after joining, and the split that they stay in (`visionyard.data.previous`).
        given: Of each record the split that a person gave, None where none; empty when nobody gave any.

    Raises:
        SplitError: The groups cannot be divided so; names the classes, their groups, what is needed and the way out.
    """
    if task == "classification" and len(classes) == 1:
        raise SplitError(
            f"class {classes[0]!r} is the only one of {len(records)} images; a classification needs two classes or "
            "more: add images of another class, or boxes for a detection"
        )
    mode = splitting.mode
    settled = [split for split in given if split is not None]
    if settled and len(settled) == len(records):
        splits, mode = _all_given(settled), "published"
    elif mode == "published":
        splits = _published(records, joined, classes, splitting, problems)
    else:
        units = _Units(records, joined, len(classes))
        drawn = _drawn_in_groups(units, task, classes, splitting, kept or {})
        splits = [one or other for one, other in zip(given, drawn, strict=True)] if given else drawn
    _check_presence(records, splits, task, classes, mode, problems)
    return splits


def _all_given(splits: list[Split]) -> list[Split]:
    empty = [split for split in SPLITS if split not in splits]
    if empty:
        raise SplitError(
            f"data.split_file names every item and none for {' and '.join(empty)}; name some, or leave the rows out of "
            f"items that may be drawn for {' and '.join(empty)}"
        )
    return splits


def _drawn_in_groups(
    units: _Units, task: Task, classes: Sequence[str], splitting: Splitting, kept: Mapping[str, Split]
) -> list[Split]:
    if splitting.folds:
        return _drawn_fold(units, task, classes, splitting)
    required = _requirements(units, task, classes)
    return _drawn(units, splitting.fractions(), required, splitting.seed, kept)


def _drawn_fold(units: _Units, task: Task, classes: Sequence[str], splitting: Splitting) -> list[Split]:
    """Return the splits of one fold; its parts are those of all folds."""
    folds = splitting.folds
    group_counts = (units.counts > 0).sum(axis=0)
    least = folds if task == "classification" else 2
    too_few = [class_id for class_id in range(len(classes)) if group_counts[class_id] < least]
    if too_few or group_counts[-1] < folds:
        found = "; ".join(_class_and_groups(units, classes, class_id) for class_id in too_few)
        raise SplitError(
            f"data.folds = {folds} needs {folds} groups (clips or scenes) in all, there are {group_counts[-1]}, and "
            f"{least} of each class: {found or 'each class has them'}. Use fewer folds, or: {_WAY_OUT}"
        )
    required = np.repeat((group_counts >= folds)[:, None], folds, axis=1)
    parts = divide_groups(units.counts, [1 / folds] * folds, required, seed=splitting.seed)
    split_of: list[Split] = ["train"] * folds
    split_of[splitting.fold] = "test"
    split_of[(splitting.fold + 1) % folds] = "val"
    return [split_of[parts[row]] for row in units.rows]


def _requirements(units: _Units, task: Task, classes: Sequence[str]) -> np.ndarray:
    """Return (C + 1, 3) bool: the splits that each class, and any item at all, must be in."""
    if len(units.names) < len(SPLITS):
        raise SplitError(
            f"train, val and test need 3 groups (clips or scenes) at least, found {len(units.names)}: "
            f"{_listed(units.names)}. Add clips or scenes, or name finer groups by data.group_pattern"
        )
    group_counts = (units.counts > 0).sum(axis=0)
    least = 3 if task == "classification" else 2
    too_few = [class_id for class_id in range(len(classes)) if group_counts[class_id] < least]
    if too_few:
        found = "; ".join(_class_and_groups(units, classes, class_id) for class_id in too_few)
        where = "train, val and test" if task == "classification" else "train and test"
        raise SplitError(
            f"each class must be in {where}, so it needs {least} groups (clips or scenes) at least: {found}. {_WAY_OUT}"
        )
    required = np.ones((len(classes) + 1, len(SPLITS)), dtype=bool)
    required[:-1, SPLITS.index("val")] = group_counts[:-1] >= len(SPLITS)
    return required


def _class_and_groups(units: _Units, classes: Sequence[str], class_id: int) -> str:
    names = units.of_class(class_id)
    count = f"{len(names)} group{'' if len(names) == 1 else 's'}"
    return f"class {classes[class_id]!r} has {count}" + (f" ({_listed(names)})" if names else "")


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - _NAMED_GROUPS
    return separator.join(names[:_NAMED_GROUPS]) + (f" and {more} more" if more > 0 else "")


def _drawn(
    units: _Units,
    fractions: Mapping[Split, float],
    required: np.ndarray,
    seed: int,
    kept: Mapping[str, Split] = MappingProxyType({}),
) -> list[Split]:
    names = list(fractions)
    fixed = np.array([names.index(kept[name]) if name in kept else -1 for name in units.names])
    parts = divide_groups(units.counts, list(fractions.values()), required, seed=seed, fixed=fixed)
    if missing_parts(units.counts, parts, required)[-1].any():
        raise SplitError(f"{len(units.names)} groups cannot fill {', '.join(names)}; add clips or scenes")
    return [names[parts[row]] for row in units.rows]


def _published(
    records: Sequence[Record],
    joined: Mapping[str, str],
    classes: Sequence[str],
    splitting: Splitting,
    problems: Problems,
) -> list[Split]:
    given = {record.published_split for record in records} - {None}
    if "train" not in given:
        there = ", ".join(sorted(str(split) for split in given)) or "none"
        raise SplitError(
            f"data.split_mode = published: the source must give a train split, it gave {there}; "
            "use data.split_mode = group"
        )
    for record in records:
        if record.published_split is None:
            problems.add(
                "item_without_published_split", record.source, "the source gave it no split; put into train", record.key
            )
    splits: list[Split] = [record.published_split or "train" for record in records]
    absent: list[Split] = [split for split in SPLITS if split not in given]
    if absent:
        places = [position for position, split in enumerate(splits) if split == "train"]
        drawn = _drawn_from_train([records[place] for place in places], joined, len(classes), absent, splitting)
        for place, split in zip(places, drawn, strict=True):
            splits[place] = split
    return splits


def _drawn_from_train(
    records: Sequence[Record],
    joined: Mapping[str, str],
    class_count: int,
    absent: Sequence[Split],
    splitting: Splitting,
) -> list[Split]:
    """Return the splits of the published train's records, some of whose groups go to the splits that are absent."""
    units = _Units(records, joined, class_count)
    wanted = splitting.fractions()
    fractions: dict[Split, float] = {"train": 1.0 - sum(wanted[split] for split in absent)}
    fractions.update({split: wanted[split] for split in absent})
    if len(units.names) < len(fractions):
        raise SplitError(
            f"the source gave no {' and no '.join(absent)}; its train has {len(units.names)} groups "
            f"({_listed(units.names)}), and {len(fractions)} are needed to take {' and '.join(absent)} from it. "
            "Add clips or scenes, or name finer groups by data.group_pattern"
        )
    group_counts = (units.counts > 0).sum(axis=0)
    required = np.repeat((group_counts >= len(fractions))[:, None], len(fractions), axis=1)
    required[:, 0] = group_counts > 0
    return _drawn(units, fractions, required, splitting.seed)


def _check_presence(
    records: Sequence[Record],
    splits: Sequence[Split],
    task: Task,
    classes: Sequence[str],
    mode: str,
    problems: Problems,
) -> None:
    """Refuse a class that a split must have and lacks, and tell of those that it should have."""
    seen = {(class_id, split) for record, split in zip(records, splits, strict=True) for class_id in record.class_ids}
    lacking = [
        (name, split) for class_id, name in enumerate(classes) for split in SPLITS if (class_id, split) not in seen
    ]
    refused = [
        f"class {name!r} in {split}"
        for name, split in lacking
        if split == "train" or (task, mode) == ("classification", "group")
    ]
    if refused:
        raise SplitError(f"the split lacks {', '.join(refused)}: its groups show other classes too. {_WAY_OUT}")
    for name, split in lacking:
        problems.add(
            "class_missing_in_split", "", f"{split} has no item of class {name!r}; its metrics there are missing", name
        )
