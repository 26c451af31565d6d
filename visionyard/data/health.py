"""The health check: read the items of both input artifacts, and list everything that is wrong with them.

(`duplicate_image` and `conflicting_labels` are found by `visionyard.data.duplicates`.)

| code | what was found | what is done |
| --- | --- | --- |
| box_not_a_number, box_without_area, box_outside_image | a box that shows nothing | left out |
| box_outside_image | a box that reaches more than 1 px beyond the image | cut at the border |
| mask_size_differs, mask_without_pixels | an object's mask that is not of its image, or empty | the box is kept |
| mask_size_differs, unreadable_mask | a semantic mask that is not of its image, or no mask | left out |
| mask_without_classes | a semantic mask in which nobody said what any pixel is | left out |
| unknown_class | a class that the source's own list of classes lacks | box, item or pixels left out |
| class_without_items | a class of the source's list that no box or mask has | the class is left out |
| image_without_labels | neither class, boxes nor mask; told once a file, by the stage before if it did | left out |
| unreadable_image | bytes that cannot be decoded | left out |
| duplicate_image | the same bytes with the same label | one is kept |
| conflicting_labels | the same bytes with another label | both are kept, in one split |
| tiny_image | a side below 16 px | kept |
| class_imbalance, class_with_few_groups | 10 times fewer items than another class; fewer than 5 groups | told |
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

from visionyard import events
from visionyard.data.artifacts import IMAGES, SHARDS
from visionyard.data.items import Item, Problems, Task, read_json_lines
from visionyard.data.label_checks import Label, LabelChecker, moment
from visionyard.data.leaks.sketches import DECODED_PX, Sketches
from visionyard.data.records import Record
from visionyard.data.shards import read_blob
from visionyard.data.threads import in_threads
from visionyard.digests import sha256_bytes
from visionyard.errors import ArtifactError, ConfigError, DataError, MediaError
from visionyard.transforms.images import open_image, open_thumbnail

# Below half of the usual coarsest stride (32 px) of a network nothing of an image is left.
_TINY_PX = 16
# Enough to prove that an image can be decoded; a JPEG is read at down to 1/8, a tenth of the time.
_PROOF_PX = 64
# Beyond these a person wants to know; below 5 groups val and test judge a class by one clip each.
_IMBALANCE_RATIO = 10
_FEW_GROUPS = 5
# Of a kind, in an error.
_LISTED_PROBLEMS = 3
# What tells already that a file has no label: the first is also this module's.
_UNLABELLED_CODES = {"image_without_labels", "clip_without_labels"}
_LABELS: dict[Task, str] = {
    "detection": "boxes",
    "classification": "a class of the whole image",
    "semantic_segmentation": "a class for each pixel",
}
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif", "GIF": "gif"}


@dataclass
class Intake:
    """What the health check let through.

    Attributes:
        task: What can be learnt from the labels.
        classes: Names in the order of their ids.
        records: The items, in the order of the artifacts.
        same_images: Pairs of groups that hold an identical image.
        unlabelled_count: Images without a label, left out.
        other_class_boxes: Boxes left out since `classes` does not name their class.
        other_class_items: Items likewise.
        sketches: Of the images, where their record's `sketch` says; empty unless they were asked for.
    """

    task: Task
    classes: list[str]
    records: list[Record] = field(default_factory=list)
    same_images: list[tuple[str, str]] = field(default_factory=list)
    unlabelled_count: int = 0
    other_class_boxes: int = 0
    other_class_items: int = 0
    sketches: Sketches = field(default_factory=partial(Sketches.room_for, 0))

    def release_sketches(self) -> Sketches:
        """Return the sketches of the records, in their order, and hold them no longer.

        Raises:
            OSError: The disk that holds temporary files is full.
        """
        sketches = self.sketches.taken(np.array([record.sketch for record in self.records], dtype=np.int64))
        self.sketches = Sketches.room_for(0)
        return sketches


@dataclass(frozen=True)
class Survey:
    """A first look at all labels.

    Attributes:
        task: What they are for.
        item_count: Images in all.
        labelled_count: Images that have a label.
        class_items: Items that show each class.
    """

    task: Task
    item_count: int
    labelled_count: int
    class_items: Counter[str]

    def most_kept(self, classes: Sequence[str]) -> int:
        """Return how many items are kept at most."""
        if self.task == "classification":
            return sum(self.class_items[name] for name in classes)
        return self.labelled_count


@dataclass(frozen=True, slots=True)
class _Labelled:
    """An item whose label can be used; its image was not looked at yet."""

    item: Item
    artifact: int
    label: Label
    sketch: int


def check_health(
    folders: Sequence[Path],
    *,
    listed: Sequence[str],
    wanted: Sequence[str],
    problems: Problems,
    is_sketched: bool = False,
) -> Intake:
    """Read and check all items; images are read in threads, once, and decoded at reduced size.

    Args:
        folders: The input artifacts.
        listed: The source's own list of classes, in its order; empty when it has none.
        wanted: Classes to keep, in the order of their ids; empty keeps all.
        problems: Gets what is found.
        is_sketched: Make sketches of the images, too, by which near-duplicates are found.

    Raises:
        ConfigError: `wanted` names a class that is not there, or one twice.
        DataError: There are no images, no labels, or labels of two tasks.
        ArtifactError: An artifact is incomplete or altered.
        OSError: The disk that holds temporary files is full.
    """
    survey = _survey(folders)
    intake = Intake(task=survey.task, classes=_choose_classes(survey, listed, wanted, problems))
    if is_sketched:
        intake.sketches = Sketches.room_for(survey.most_kept(intake.classes))
    known = frozenset([*listed, *survey.class_items]) if wanted else frozenset()
    checker = LabelChecker(intake.classes, listed=listed, known=known, problems=problems)
    keys: set[str] = set()

    def look(found: _Labelled) -> tuple[_Labelled, str, str]:
        return found, *_look(found, folders[found.artifact], intake.sketches if is_sketched else None)

    for found, extension, fault in in_threads(look, _labelled(folders, survey, checker, intake, problems)):
        item = found.item
        if fault:
            problems.add("unreadable_image", item.source, f"{fault}; left out", moment(item))
            continue
        if min(item.width, item.height) < _TINY_PX:
            message = f"{item.width}x{item.height} px: a side is shorter than {_TINY_PX} px"
            problems.add("tiny_image", item.source, message, moment(item))
        intake.records.append(_record(found, _unique_key(item, keys), extension=extension))
    intake.other_class_boxes, intake.other_class_items = checker.other_class_boxes, checker.other_class_items
    if not any(record.class_ids for record in intake.records):
        raise DataError(f"none of {survey.item_count} images has a usable label:\n{_listed(problems)}")
    return intake


def _labelled(
    folders: Sequence[Path], survey: Survey, checker: LabelChecker, intake: Intake, problems: Problems
) -> Iterator[_Labelled]:
    """Yield the items whose label can be used, and note the others."""
    told = {problem.file for problem in problems.found if problem.code in _UNLABELLED_CODES}
    done = 0
    numbers = count()
    for artifact, folder in enumerate(folders):
        for values in _image_lines(folder):
            done += 1
            events.progress(done, survey.item_count, unit="image", label="checking")
            item = Item.from_json(values)
            if item.boxes is None and item.class_name is None and item.mask_blob is None:
                intake.unlabelled_count += 1
                if item.source not in told:
                    problems.add("image_without_labels", item.source, "it has no label; left out")
                    told.add(item.source)
                continue
            label = checker.check(item, folder)
            if label:
                yield _Labelled(item, artifact, label, next(numbers))


def _image_lines(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / IMAGES
    if not path.exists():
        raise ArtifactError(f"{path}: the list of images is missing; run the stage that wrote the folder again")
    return read_json_lines(path)


def _survey(folders: Sequence[Path]) -> Survey:
    first: dict[Task, str] = {}
    class_items: Counter[str] = Counter()
    item_count = labelled_count = 0
    for values in (values for folder in folders for values in _image_lines(folder)):
        item_count += 1
        labelled_count += any(values.get(name) is not None for name in ("boxes", "class_name", "mask_blob"))
        if values["boxes"] is not None:
            first.setdefault("detection", values["source"])
            class_items.update({box["class_name"] for box in values["boxes"]})
        if values["class_name"] is not None:
            first.setdefault("classification", values["source"])
            class_items[values["class_name"]] += 1
        if values.get("mask_blob") is not None:
            first.setdefault("semantic_segmentation", values["source"])
            class_items.update(values["mask_classes"])
    if not item_count:
        raise DataError("there is no image: neither the sources nor the frames hold any; see their problems")
    if len(first) > 1:
        found = " and ".join(f"{source} has {_LABELS[task]}" for task, source in first.items())
        tasks = " or for ".join(task.replace("_", " ") for task in first)
        raise DataError(f"{found}: a dataset is for {tasks}, not both; make a dataset of each")
    if not class_items:
        raise DataError(
            f"none of {item_count} images has a label, neither boxes nor a class nor a mask; label some, or choose "
            "data.kind"
        )
    return Survey(next(iter(first)), item_count, labelled_count, class_items)


def _choose_classes(survey: Survey, listed: Sequence[str], wanted: Sequence[str], problems: Problems) -> list[str]:
    seen = survey.class_items
    if wanted:
        unknown = [name for name in wanted if name not in seen]
        if unknown:
            raise ConfigError(
                f"data.classes: {', '.join(map(repr, unknown))} not in the data; there are: {', '.join(sorted(seen))}"
            )
        twice = [name for name, count in Counter(wanted).items() if count > 1]
        if twice:
            raise ConfigError(f"data.classes: {', '.join(map(repr, twice))} stands there twice; name each class once")
        return list(wanted)
    if not listed:
        return sorted(seen)
    if survey.task == "classification":
        return list(listed)  # a folder without usable images is refused when splitting, not passed over
    shown = "mask shows" if survey.task == "semantic_segmentation" else "box has"
    for name in listed:
        if name not in seen:
            problems.add("class_without_items", "", f"no {shown} class {name!r}; the class is left out", name)
    return [name for name in listed if name in seen]


def _look(found: _Labelled, folder: Path, sketches: Sketches | None) -> tuple[str, str]:
    """Read an image, prove that it can be decoded, and sketch it; return its extension, and why it cannot be."""
    item = found.item
    data = read_blob(folder / SHARDS, item.blob)
    if sha256_bytes(data) != item.sha256:
        raise ArtifactError(
            f"{folder / SHARDS / item.blob.shard}: the bytes of {item.key} are not those that were written (SHA-256 "
            f"differs from {item.sha256[:12]}...); run the stage that wrote it again"
        )
    try:
        extension = _EXTENSIONS[open_image(data).format or ""]
        grey = open_thumbnail(data, _PROOF_PX if sketches is None else DECODED_PX)
    except MediaError as error:
        return "", str(error)
    if sketches is not None:
        sketches.add(found.sketch, np.asarray(grey))
    return extension, ""


def _record(found: _Labelled, key: str, *, extension: str) -> Record:
    item, label = found.item, found.label
    return Record(
        key=key,
        source=intern(item.source),
        group=intern(item.group),
        timestamp_s=item.timestamp_s,
        width=item.width,
        height=item.height,
        sha256=bytes.fromhex(item.sha256),
        published_split=item.published_split,
        artifact=found.artifact,
        shard=intern(item.blob.shard),
        offset=item.blob.offset,
        size=item.blob.size,
        extension=extension,
        class_ids=label.class_ids,
        xyxy=label.xyxy,
        masks=label.masks,
        is_crowd=label.is_crowd,
        mask_blob=item.mask_blob,
        mask_sha256=None if item.mask_sha256 is None else bytes.fromhex(item.mask_sha256),
        sketch=found.sketch,
    )


def _unique_key(item: Item, keys: set[str]) -> str:
    """Return the item's key, with a number where the other artifact has the same one."""
    key, number = item.key, 2
    while key in keys:
        key, number = f"{item.key}-{number}", number + 1
    keys.add(key)
    return key


def check_balance(intake: Intake, problems: Problems) -> None:
    """Tell of classes that are far rarer than others, or that few groups show."""
    items: Counter[int] = Counter()
    groups: dict[int, set[str]] = defaultdict(set)
    for record in intake.records:
        for class_id in set(record.class_ids):
            items[class_id] += 1
            groups[class_id].add(record.group)
    largest, most = items.most_common(1)[0]
    for class_id, name in enumerate(intake.classes):
        if 0 < items[class_id] * _IMBALANCE_RATIO <= most:
            message = f"class {name!r} has {items[class_id]} items, {intake.classes[largest]!r} has {most}"
            problems.add("class_imbalance", "", f"{message}; its metrics may be poor", name)
        if 0 < len(groups[class_id]) < _FEW_GROUPS:
            message = f"class {name!r} is shown by {len(groups[class_id])} groups (clips or scenes)"
            problems.add("class_with_few_groups", "", f"{message}; its metrics rest on very few of them", name)


def _listed(problems: Problems) -> str:
    """Return the first few problems of each kind: nothing that could be read elsewhere comes of a stage that fails."""
    lines = []
    for code, number in problems.counts().items():
        found = (problem for problem in problems.found if problem.code == code)
        lines += [f"  {code}: {number}", *(f"    {problem}" for problem in islice(found, _LISTED_PROBLEMS))]
        lines += [f"    ... and {number - _LISTED_PROBLEMS} more"] if number > _LISTED_PROBLEMS else []
    return "\n".join(lines)
