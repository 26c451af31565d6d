"""Annotation formats, one module each, and the choice among them."""

from visionyard.data.formats import (
    class_folders,
    coco,
    csv_labels,
    cvat_images,
    cvat_video,
    idx,
    instance_masks,
    label_studio,
    pascal_voc,
    semantic_masks,
    tfrecord,
    yolo_txt,
)
from visionyard.data.formats.reading import Reading, SourceClip, SourceFormat, SourceImage
from visionyard.data.formats.source_tree import SourceTree
from visionyard.errors import ConfigError, DataError

# Formats with label files; a folder for each class is what remains when a source has none.
LABELLED = (
    coco.FORMAT,
    cvat_images.FORMAT,
    cvat_video.FORMAT,
    label_studio.FORMAT,
    pascal_voc.FORMAT,
    yolo_txt.FORMAT,
    csv_labels.FORMAT,
    idx.FORMAT,
    instance_masks.FORMAT,
    semantic_masks.FORMAT,
    tfrecord.FORMAT,
)
BY_FOLDER = (class_folders.CLIPS, class_folders.IMAGES)
FORMATS = {each.kind: each for each in (*LABELLED, *BY_FOLDER)}


def choose_format(tree: SourceTree, kind: str) -> tuple[SourceFormat, str]:
    """Return the format of a source and what shows it.

    Args:
        tree: The source.
        kind: A key of `FORMATS`, or `auto` to look.

    Raises:
        ConfigError: There is no such kind.
        DataError: Nothing shows a known format, or several; says what was seen and what is expected.
    """
    if kind != "auto":
        if kind not in FORMATS:
            raise ConfigError(f"data.kind = {kind!r}: expected auto, {', '.join(FORMATS)}")
        return FORMATS[kind], "set in data.kind"
    for candidates in (LABELLED, BY_FOLDER):
        found = [(each, evidence) for each in candidates if (evidence := each.evidence(tree))]
        if len(found) == 1:
            return found[0]
        if found:
            seen = "; ".join(f"{each.kind} ({evidence})" for each, evidence in found)
            raise DataError(f"{tree.label}: could be {seen}; set data.kind to the one that is meant")
    raise DataError(_unrecognised(tree))


def _unrecognised(tree: SourceTree) -> str:
    clips, images = len(tree.clips()), len(tree.images())
    gifs = sum(file.media_type == "image/gif" for file in tree.files)
    counts = f"{clips - gifs} videos, {images - gifs} images, {gifs} GIFs, {len(tree.files)} files in all"
    first = ", ".join(file.name for file in tree.files[:3])
    tables = tree.with_extension(".csv", ".tsv", ".parquet")
    hint = f"; if {tables[0].name} is what shall be learnt from, set data.kind: table and data.target" if tables else ""
    expected = "; ".join(f"{each.kind}: {each.expected}" for each in FORMATS.values())
    return (
        f"{tree.label}: the layout is not recognised: found {counts} (such as {first}); expected one of {expected}; "
        f"arrange the source so, or set data.kind{hint}"
    )


__all__ = ["FORMATS", "Reading", "SourceClip", "SourceFormat", "SourceImage", "SourceTree", "choose_format"]
