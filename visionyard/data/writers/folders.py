"""A folder for each class, below a folder for each split: `<split>/<class>/<key>.jpg`."""

from pathlib import Path

from visionyard.data.formats.source_tree import LITTER
from visionyard.data.items import Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.writing import TargetFormat, split_folder, write_image
from visionyard.errors import DataError

_MAX_NAME_BYTES = 255


def write(labelled: LabelledSet, folder: Path, _problems: Problems) -> None:
    """Write a set as class folders.

    Raises:
        DataError: A class name cannot name a folder, or some images have a split and others have none.
    """
    for name in labelled.classes:
        _check_name(name)
    splits = {image.item.published_split for image in labelled.images()}
    if None in splits and len(splits) > 1:
        raise DataError(
            f"{labelled.label}: some images have a split and others have none, which class folders cannot say; write "
            "csv or tfrecord"
        )
    for image in labelled.images():
        write_image(image, folder / split_folder(image) / str(image.item.class_name))


def _check_name(name: str) -> None:
    is_hidden = name.startswith(".") or name in LITTER
    if not name or is_hidden or "/" in name or "\0" in name or len(name.encode()) > _MAX_NAME_BYTES:
        raise DataError(
            f"the class name {name!r} cannot name a folder that is read again (empty, hidden, with a slash, or above "
            f"{_MAX_NAME_BYTES} bytes); rename it, or write csv or tfrecord"
        )


FORMAT = TargetFormat(
    name="folders",
    tasks=frozenset({"classification"}),
    described="<split>/<class>/<key>.jpg",
    read_as="images_by_class",
    write=write,
)
