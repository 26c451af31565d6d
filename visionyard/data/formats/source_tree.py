"""The files of a source folder: listed once, in order, each with its sniffed media type."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visionyard import events
from visionyard.data.items import Problems
from visionyard.data.media import (
    ARCHIVE_TYPES,
    DECODED_IMAGE_TYPES,
    HEAD_BYTES,
    MEDIA_EXTENSIONS,
    PLAYLIST,
    extension_differs,
    is_clip_type,
    is_image_type,
    sniff_media_type,
)
from visionyard.errors import DataError, MediaError

# The largest image that is decoded at all has 540 MB of pixels; a longer file is something else.
MAX_IMAGE_BYTES = 600 << 20
# Beside dot files, what Windows, macOS and network drives leave about.
LITTER = {"Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: Path within the source, POSIX.
        size: Bytes.
        media_type: As sniffed; None when its bytes show none that matters.
    """

    name: str
    size: int
    media_type: str | None

    @property
    def path(self) -> PurePosixPath:
        """The name as a path, for its parts."""
        return PurePosixPath(self.name)


class SourceTree:
    """The files of a source, in the order of their names; names are held in memory, contents never."""

    def __init__(self, root: Path, files: list[SourceFile], label: str) -> None:
        self.root = root
        self.label = label
        self.files = files
        self._by_name = {file.name: file for file in files}
        self._folders = {str(parent) for file in files for parent in file.path.parents}

    @classmethod
    def scan(cls, root: Path, problems: Problems, *, label: str = "") -> "SourceTree":
        """List a folder. Hidden files are passed over; links that lead outside are left out, and said to be.

        Args:
            root: The folder; or a file, which is then the only one.
            problems: Where to note what is left out.
            label: What messages call it; its own name when empty.

        Raises:
            DataError: The folder is missing or empty.
        """
        label = label or root.name
        root = root.resolve()
        if root.is_file():
            only = _look_at(root.parent, root.name, root, problems)
            return cls(root.parent, [only] if only else [], label)
        if not root.is_dir():
            raise DataError(f"{label}: expected a folder or a file, found neither; check data.source")
        files = []
        for done, (name, path) in enumerate(_walk(root, root, problems)):
            events.progress(done, None, unit="file", label="listing")
            file = _look_at(root, name, path, problems)
            if file is not None:
                files.append(file)
        if not files:
            raise DataError(f"{label}: the folder is empty; expected clips, or images with labels")
        return cls(root, sorted(files, key=lambda file: file.name), label)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def has_folder(self, name: str) -> bool:
        """Return whether any file lies below a folder of that name."""
        return name in self._folders

    def path(self, name: str) -> Path:
        """Return where a file of the source lies on disk."""
        return self.root / name

    def read_image(self, file: SourceFile) -> bytes:
        """Return the bytes of an image, or of a picture of labels.

        Raises:
            MediaError: It is larger than any that is decoded, or gone.
        """
        if file.size > MAX_IMAGE_BYTES:
            raise MediaError(f"the file has {file.size} bytes, expected at most {MAX_IMAGE_BYTES}")
        try:
            return self.path(file.name).read_bytes()
        except FileNotFoundError:
            raise MediaError("it went away after the folder was listed") from None

    def with_extension(self, *extensions: str) -> list[SourceFile]:
        """Return the files whose name ends so, letter case aside."""
        return [file for file in self.files if file.path.suffix.lower() in extensions]

    def images(self) -> list[SourceFile]:
        """Return the files that are images of a format we decode."""
        return [file for file in self.files if file.media_type in DECODED_IMAGE_TYPES]

    def clips(self) -> list[SourceFile]:
        """Return the files that are videos, or GIF animations."""
        return [file for file in self.files if is_clip_type(file.media_type)]

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def report_unused(
    tree: SourceTree, problems: Problems, *, wants_clips: bool, is_container: Callable[[SourceFile], bool] | None = None
) -> None:
    """Say which files of a source are not what it is read for, or not what their name claims.

    Texts, licences, check sums and the like are passed over in silence; what looks like media and is not, is said.

    Args:
        tree: The source.
        problems: Where to say so.
        wants_clips: Whether it is read for clips rather than images.
        is_container: Whether a file holds images itself; such files are passed over too.
    """
    for file in tree.files:
        if is_container and is_container(file):
            continue
        is_wanted = is_clip_type(file.media_type) if wants_clips else file.media_type in DECODED_IMAGE_TYPES
        if is_wanted:
            if file.media_type and extension_differs(file.name, file.media_type):
                problems.add(
                    "extension_differs", file.name, f"its bytes are {file.media_type}, unlike its extension; kept"
                )
        elif (reason := _reason_left_out(file, wants_clips=wants_clips)) is not None:
            problems.add(*reason)


def _reason_left_out(file: SourceFile, *, wants_clips: bool) -> tuple[str, str, str] | None:
    claims_media = file.path.suffix.lower() in MEDIA_EXTENSIONS
    wanted = "a clip" if wants_clips else "an image"
    if file.size == 0:
        return ("empty_file", file.name, "the file has 0 bytes; left out") if claims_media else None
    if is_clip_type(file.media_type) or is_image_type(file.media_type):
        kind = "not_a_clip" if wants_clips else "not_an_image"
        if not wants_clips and is_image_type(file.media_type):
            return "unsupported_image", file.name, f"it is {file.media_type}; convert it to JPEG or PNG; left out"
        return kind, file.name, f"expected {wanted}, its bytes are {file.media_type}; left out"
    if file.media_type is not None and file.media_type.startswith("audio/"):
        message = f"expected {wanted}, its bytes are {file.media_type}, sound without pictures; left out"
        return "sound_left_out", file.name, message
    if file.media_type == PLAYLIST:
        message = f"expected {wanted}, it is a list of others; put the clips themselves there; left out"
        return "playlist_left_out", file.name, message
    if claims_media:
        found = file.media_type or "of no known type"
        return "not_media", file.name, f"its extension claims media, its bytes are {found}; left out"
    if file.media_type in ARCHIVE_TYPES:
        return "archive_left_out", file.name, "an archive inside the source is not unpacked; left out"
    return None


def _walk(root: Path, folder: Path, problems: Problems) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name in LITTER:
            continue
        path = Path(entry.path)
        name = path.relative_to(root).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:
            readable = os.fsencode(name).decode(errors="backslashreplace")
            problems.add("name_not_utf8", readable, "its name is not UTF-8; rename it; left out")
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path, problems)
        else:
            yield name, path


def _look_at(root: Path, name: str, path: Path, problems: Problems) -> SourceFile | None:
    if path.is_symlink():
        resolved = path.resolve()
        if not (resolved.is_relative_to(root) and resolved.is_file()):
            problems.add("link_left_out", name, "a link that leads to a folder, to nothing or outside; left out")
            return None
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        problems.add("not_a_file", name, "neither a file nor a folder (a device, pipe or socket); left out")
        return None
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except PermissionError:
        problems.add("unreadable_file", name, "no right to read it; left out")
        return None
    return SourceFile(name, status.st_size, sniff_media_type(head))
