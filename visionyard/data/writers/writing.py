"""What all writers share: which images come, where their files go, and what the format could not hold."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.items import Box, Problems, Task
from visionyard.data.labelled import LabelledImage, LabelledSet, extension_of
from visionyard.errors import ConfigError, DataError

# The folder of images that no one put into a split: read back, it names none.
NO_SPLIT = "all"
# Boxes nearer to each other than this are the same.
_SAME_BOX_PX = 0.01
_PLAIN_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,150}$")


@dataclass(frozen=True)
class TargetFormat:
    """An annotation format to write.

    Attributes:
        name: As a person names it.
        tasks: What its labels can train.
        described: What is written, for messages and the docs.
        read_as: The kind (`data.kind`) that reads it again.
        write: Writes a set into an empty folder; what the format cannot hold is noted.
    """

    name: str
    tasks: frozenset[Task]
    described: str
    read_as: str
    write: Callable[[LabelledSet, Path, Problems], None]


@dataclass(frozen=True)
class WriteReport:
    """What was written.

    Attributes:
        format: The format's name.
        target: The folder.
        image_count: Images written.
        box_count: Boxes written.
        problem_counts: What the format could not hold, by code.
    """

    format: str
    target: str
    image_count: int
    box_count: int
    problem_counts: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class _Counted:
    """A set whose labelled images are counted and told of as they are gone through, and named as their files are."""

    def __init__(self, labelled: LabelledSet, problems: Problems) -> None:
        self._labelled, self._problems = labelled, problems
        self._is_told = False
        self.image_count = self.box_count = 0
        self._keeps_names = _have_own_names(labelled)

    def images(self) -> Iterator[LabelledImage]:
        """Yield the labelled ones; those left out are noted the first time."""
        self.image_count = self.box_count = 0
        for done, image in enumerate(self._labelled.images(), start=1):
            events.progress(done, self._labelled.item_count, unit="image", label="writing")
            if not image.is_labelled:
                if not self._is_told:
                    self._problems.add("image_without_labels", image.item.source, "it has no label; left out")
                continue
            self.image_count += 1
            self.box_count += len(image.item.boxes or ())
            yield _renamed(image) if self._keeps_names else image
        self._is_told = True


def _have_own_names(labelled: LabelledSet) -> bool:
    """Return whether the files of the source, without folder and extension, have plain names that all differ."""
    seen: set[str] = set()
    for image in labelled.images():
        name = PurePosixPath(image.item.source).stem
        # Frames share the name of their clip; some file systems take A for a.
        if image.item.timestamp_s is not None or not _PLAIN_NAME.match(name) or name.lower() in seen:
            return False
        seen.add(name.lower())
    return True


def _renamed(image: LabelledImage) -> LabelledImage:
    return replace(image, item=replace(image.item, key=PurePosixPath(image.item.source).stem))


def write_as(labelled: LabelledSet, target: Path, target_format: TargetFormat, problems: Problems) -> WriteReport:
    """Write a set in a format; `target` appears whole or not at all.

    Args:
        labelled: What to write; images without a label are left out and noted. Files are named as in the source where
            all of its names are plain and differ, else by their keys.
        target: The folder to make; one that is there must be empty.
        target_format: How.
        problems: Gets what the format cannot hold.

    Raises:
        ConfigError: `target` is there and not empty.
        DataError: The format cannot hold labels of this task, or a class name; or there is no labelled image.
        OSError: The disk is full.
    """
    if labelled.task not in target_format.tasks:
        raise DataError(
            f"{labelled.label}: its labels are for {labelled.task}, {target_format.name} holds those of "
            f"{', '.join(sorted(target_format.tasks))}; choose another format"
        )
    refuse_filled(target)
    counted = _Counted(labelled, problems)
    with atomic_folder(target) as work:
        target_format.write(replace(labelled, images=counted.images), work, problems)
        if not counted.image_count:
            raise DataError(f"{labelled.label}: none of {labelled.item_count} images has a label; nothing to write")
    return WriteReport(target_format.name, str(target), counted.image_count, counted.box_count, problems.counts())


def refuse_filled(target: Path) -> None:
    """Refuse a folder that holds something: a person's files must not go.

    Raises:
        ConfigError: It is there, and not an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: is there and not empty; name a new folder, or remove it first")


def split_folder(image: LabelledImage) -> str:
    """Return the name of the folder of an image's split."""
    return image.item.published_split or NO_SPLIT


def write_image(image: LabelledImage, folder: Path) -> str:
    """Write an image file, byte for byte, as `<key>.<extension>` and return that name; the folder is made.

    The key is the name of the source's file where all of these differ, see `write_as`.
    """
    data = image.image_bytes()
    name = image.item.key + extension_of(data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def note_crowds(image: LabelledImage, problems: Problems, format_name: str) -> None:
    """Note boxes of crowds in a format that cannot say so."""
    count = sum(box.is_crowd for box in image.item.boxes or ())
    if count:
        problems.add(
            "crowd_as_object",
            image.item.source,
            f"{count} boxes of crowds: {format_name} cannot say that they are; written as plain objects",
        )


def note_masks_left_out(image: LabelledImage, problems: Problems, format_name: str) -> None:
    """Note masks in a format that has boxes only."""
    count = sum(box.mask is not None for box in image.item.boxes or ())
    if count:
        problems.add(
            "mask_left_out", image.item.source, f"{count} masks: {format_name} has boxes only; the boxes were written"
        )


def note_boxes_of_masks(image: LabelledImage, problems: Problems, format_name: str) -> None:
    """Note objects whose box differs from their mask's, in a format that has one or the other."""
    count = sum(_has_own_box(box) for box in image.item.boxes or ())
    if count:
        problems.add(
            "box_of_mask",
            image.item.source,
            f"{count} objects have a box that is not their mask's: {format_name} has the mask only, so its box counts",
        )


def _has_own_box(box: Box) -> bool:
    around = box.mask.xyxy() if box.mask else None
    return around is not None and max(abs(a - b) for a, b in zip(around, box.xyxy, strict=True)) > _SAME_BOX_PX
