"""Annotation formats to write, one module each, and the choice among them."""

from visionyard.data.writers import coco, csv_rows, cvat, folders, label_studio, mask_pairs, tfrecord, voc, yolo
from visionyard.data.writers.writing import TargetFormat, WriteReport, refuse_filled, write_as
from visionyard.errors import ConfigError

FORMATS: dict[str, TargetFormat] = {
    each.FORMAT.name: each.FORMAT
    for each in (coco, yolo, voc, cvat, label_studio, tfrecord, csv_rows, folders, mask_pairs)
}


def choose_target(name: str) -> TargetFormat:
    """Return the format of a name.

    Raises:
        ConfigError: There is none; names those that there are.
    """
    if name not in FORMATS:
        raise ConfigError(f"{name!r} is no format to write: expected {', '.join(FORMATS)}")
    return FORMATS[name]


__all__ = ["FORMATS", "TargetFormat", "WriteReport", "choose_target", "refuse_filled", "write_as"]
