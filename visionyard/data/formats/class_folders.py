"""A folder for each class, of clips or of images; optionally below `train`, `valid` and `test` folders."""

from dataclasses import dataclass

from visionyard.data.formats.reading import Reading, SourceClip, SourceFormat, SourceImage, split_of_folder
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems, Split
from visionyard.data.media import GIF
from visionyard.errors import DataError

# Folders of these names hold what belongs together by name, not a class each.
_NO_CLASSES = {"image", "images", "mask", "masks", "label", "labels", "annotation", "annotations"}


@dataclass(frozen=True)
class _Layout:
    """Where in a path the class stands.

    Attributes:
        class_at: Index of the folder that names the class.
        split_at: Index of the folder that names the split; None when there is none.
    """

    class_at: int
    split_at: int | None = None

    def class_of(self, file: SourceFile) -> str | None:
        """Return the class of a file; None for one that lies above the class folders."""
        folders = file.path.parts[:-1]
        return folders[self.class_at] if len(folders) > self.class_at else None

    def split_of(self, file: SourceFile) -> Split | None:
        """Return the published split of a file."""
        return None if self.split_at is None else split_of_folder(file.path.parts[self.split_at])


def _layout(files: list[SourceFile]) -> _Layout | None:
    """Return where the classes stand; None when the files lie in no class folders.

    Folders that all files share (`images/` in `images/<class>/`) are passed over, unless they name a split.
    """
    paths = {file.path.parts[:-1] for file in files} - {()}
    if not paths:
        return None
    at = 0
    shallowest = min(map(len, paths))
    while (
        at + 1 < shallowest
        and len({path[at] for path in paths}) == 1
        and split_of_folder(next(iter(paths))[at]) is None
    ):
        at += 1
    if any(split_of_folder(path[at]) is None for path in paths):
        return _Layout(class_at=at)
    return _Layout(class_at=at + 1, split_at=at) if shallowest > at + 1 else None


def _evidence(files: list[SourceFile], others: list[SourceFile], noun: str) -> str:
    layout = _layout(files)
    if layout is None or others:
        return ""
    classes = sorted({name for file in files if (name := layout.class_of(file)) is not None})
    if any(name.lower() in _NO_CLASSES for name in classes):
        return ""
    shown = ", ".join(classes[:8]) + (" ..." if len(classes) > 8 else "")
    splits = " below split folders" if layout.split_at is not None else ""
    return f"{len(files)} {noun} in {len(classes)} folders ({shown}){splits}, no label files"


def _placed(
    tree: SourceTree, files: list[SourceFile], problems: Problems, noun: str
) -> list[tuple[SourceFile, str, Split | None]]:
    layout = _layout(files)
    if layout is None:
        raise DataError(
            f"{tree.label}: expected a folder for each class with {noun} in it, optionally below train, valid and "
            f"test; found {len(files)} {noun} and no class folder"
        )
    placed = []
    for file in files:
        class_name = layout.class_of(file)
        if class_name is None:
            problems.add("file_without_class", file.name, "lies above the class folders; left out")
        else:
            placed.append((file, class_name, layout.split_of(file)))
    return placed


def clips_evidence(tree: SourceTree) -> str:
    """Return what shows clips by class: clips in folders, and no image but GIF animations."""
    clips = tree.clips()
    if all(file.media_type == GIF for file in clips):
        return ""
    return _evidence(clips, [file for file in tree.images() if file.media_type != GIF], "clips")


def images_evidence(tree: SourceTree) -> str:
    """Return what shows images by class: images in folders, and no video."""
    return _evidence(tree.images(), [file for file in tree.clips() if file.media_type != GIF], "images")


def read_clips(tree: SourceTree, problems: Problems) -> Reading:
    """Read a folder of clips for each class.

    Raises:
        DataError: There are no class folders.
    """
    placed = _placed(tree, tree.clips(), problems, "clips")
    clips = (SourceClip(file, class_name=name, published_split=split) for file, name, split in placed)
    return Reading(len(placed), clips=clips)


def read_images(tree: SourceTree, problems: Problems) -> Reading:
    """Read a folder of images for each class.

    Raises:
        DataError: There are no class folders.
    """
    placed = _placed(tree, tree.images(), problems, "images")
    images = (SourceImage(file, class_name=name, published_split=split) for file, name, split in placed)
    return Reading(len(placed), images=images)


CLIPS = SourceFormat(
    kind="clips_by_class",
    task="classification",
    expected="a folder of clips for each class",
    evidence=clips_evidence,
    read=read_clips,
)
IMAGES = SourceFormat(
    kind="images_by_class",
    task="classification",
    expected="a folder of images for each class, optionally below train, valid and test",
    evidence=images_evidence,
    read=read_images,
)
