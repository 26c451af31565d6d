"""Which image of the source a label file means: names are looked up among the files listed, never opened as paths."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from visionyard.data.formats.reading import split_of_path
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems, Split

_DRIVE = re.compile(r"^[A-Za-z]:")
_SHOWN_LENGTH = 120


@dataclass(frozen=True)
class NotFound:
    """Why a name means no image: a problem code and what is wrong."""

    code: str
    message: str


class ImageLookup:
    """The images of a source by their names."""

    def __init__(self, tree: SourceTree) -> None:
        self._by_path = {file.path: file for file in tree.images()}
        # By the last one and two parts of their paths: a folder for each scene often holds images of one and the same
        # name, and looking through all of them for each would take the square of their number.
        self._by_ending: dict[tuple[str, ...], list[SourceFile]] = defaultdict(list)
        for path, file in self._by_path.items():
            for ending in {path.parts[-1:], path.parts[-2:]}:
                self._by_ending[ending].append(file)

    def resolve(
        self,
        references: Sequence[str],
        *,
        beside: PurePosixPath,
        split: Split | Sequence[Split | None] | None = None,
    ) -> list[SourceFile | NotFound]:
        """Return the image that each name in a label file means.

        A name is taken from the label file's folder or one above it; else the image is taken whose path ends like the
        name, or with which the name ends. What is left is looked for by file name alone, where only one image and only
        one name can be meant: the folders of another machine say nothing.

        Args:
            references: As written, all those of the label file.
            beside: The label file's folder.
            split: The split that the label file says they are of, all of them or each. An image in the folder of
                another one is not meant, unless its whole path is written.

        Returns:
            An entry for each reference; two may have the same image.
        """
        paths = [_as_path(reference) for reference in references]
        splits = [split] * len(paths) if split is None or isinstance(split, str) else split
        found = [self._by_suffix(path, split, beside) for path, split in zip(paths, splits)]
        taken = {each.name for each in found if isinstance(each, SourceFile)}
        left = Counter(path.name for path, each in zip(paths, found) if each is None)
        free = {name: [file for file in self._by_ending.get((name,), ()) if file.name not in taken] for name in left}
        return [
            each or _by_file_name(path, reference, split, free[path.name], is_only=left[path.name] == 1)
            for path, reference, split, each in zip(paths, references, splits, found)
        ]

    def _by_suffix(
        self, path: PurePosixPath, split: Split | None, beside: PurePosixPath
    ) -> SourceFile | NotFound | None:
        for base in (beside, *beside.parents):
            exact = self._by_path.get(base / path)
            if exact is not None:
                return exact
        alike = [(_common(path, file.path), file) for file in self._by_ending.get(path.parts[-2:], ())]
        whole = [
            (count, file)
            for count, file in alike
            if count == len(path.parts) or 1 < count == len(file.path.parts)
            if not _is_of_another_split(split, file)
        ]
        most = max((count for count, _ in whole), default=0)
        best = [file for count, file in whole if count == most]
        if len(best) > 1:
            best = [file for file in best if file.path.is_relative_to(beside)] or best
        if len(best) > 1 and split is not None:
            best = [file for file in best if split_of_path(file.path) == split] or best
        if len(best) > 1:
            names = ", ".join(file.name for file in best[:3])
            return NotFound("ambiguous_image", f"{_shown(str(path))} could be {names}; write its folder, too")
        return best[0] if best else None


def _by_file_name(
    path: PurePosixPath, reference: str, split: Split | None, free: Sequence[SourceFile], *, is_only: bool
) -> SourceFile | NotFound:
    """Return the image of a name of which only the file name may be right.

    Args:
        path: The name.
        reference: As written, for messages.
        split: The split it is said to be of.
        free: The images of its file name that no other name means.
        is_only: Whether no other name that is left has its file name.
    """
    if len(free) == 1 and is_only and not _is_of_another_split(split or split_of_path(path), free[0]):
        return free[0]
    if free:
        names = ", ".join(file.name for file in free[:3])
        return NotFound("ambiguous_image", f"{_shown(reference)} is not in the source; not clear whether {names}")
    return NotFound("image_not_found", f"there is no image {_shown(reference)} in the source")


class Claims:
    """Which label file each image has its labels from: the first that names it."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._owners: dict[str, str] = {}

    def take(self, image: SourceFile | NotFound, file: str, item: str) -> SourceFile | None:
        """Return an image that an entry of a label file is of; None, and a note, where none is or it is taken.

        Args:
            image: As `ImageLookup` found it.
            file: The label file.
            item: The entry, for messages.
        """
        if isinstance(image, NotFound):
            self._problems.add(image.code, file, f"{image.message}; its labels are left out", item)
            return None
        if image.name in self._owners:
            message = f"{image.name} has its labels from {self._owners[image.name]}; left out"
            self._problems.add("image_labelled_twice", file, message, item)
            return None
        self._owners[image.name] = file
        return image


def _as_path(reference: str) -> PurePosixPath:
    text = _DRIVE.sub("", reference.replace("\\", "/"))
    return PurePosixPath(*(part for part in text.split("/") if part not in {"", ".", ".."}))


def _common(first: PurePosixPath, second: PurePosixPath) -> int:
    count = 0
    for one, other in zip(reversed(first.parts), reversed(second.parts)):
        if one != other:
            break
        count += 1
    return count


def _is_of_another_split(split: Split | None, file: SourceFile) -> bool:
    return split is not None and split_of_path(file.path) not in {None, split}


def _shown(reference: str) -> str:
    return repr(reference if len(reference) <= _SHOWN_LENGTH else f"{reference[:_SHOWN_LENGTH]}...")
