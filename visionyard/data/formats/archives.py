"""Unpack an archive from outside: zip, tar, and tar packed by gzip, bzip2 or xz. All of it is hostile until shown.

Refused as a whole, with the member's name: absolute paths and paths with `..`, links, devices, encrypted members, two
members of one name, and bombs (too many files, too many bytes, or far more bytes than the archive has).
"""

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL, ENAMETOOLONG
from pathlib import Path
from typing import IO

from visionyard import events
from visionyard.data.media import ARCHIVE_TYPES, HEAD_BYTES, sniff_media_type
from visionyard.errors import DataError

_CHUNK_BYTES = 1 << 20
_DRIVE = re.compile(r"^[A-Za-z]:")
_OPENERS: dict[str, Callable[[Path, str], IO[bytes]]] = {
    "application/gzip": gzip.open,  # type: ignore[dict-item]  # with "rb" they all give bytes
    "application/x-bzip2": bz2.open,  # type: ignore[dict-item]
    "application/x-xz": lzma.open,  # type: ignore[dict-item]
}
_NAME_TYPES = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}
_MAX_NAME_BYTES = 1 << 20
# What zipfile and tarfile raise on bytes that are not what they seem; found by feeding them altered archives.
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, ValueError, IndexError, OverflowError, struct.error),
)


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may hold.

    Attributes:
        max_file_count: Members, folders included.
        max_total_bytes: Of all files, unpacked.
        max_ratio: Unpacked bytes to the archive's. Pictures and videos hardly shrink (below 2), labels by 50 at most.
        free_bytes: `max_ratio` is looked at beyond this many unpacked bytes: a small archive may hold blank images.
    """

    max_file_count: int = 2_000_000
    max_total_bytes: int = 2 << 40
    max_ratio: float = 100.0
    free_bytes: int = 256 << 20

    def excess(self, total_bytes: int, packed_bytes: int) -> str:
        """Return what is too much about unpacked bytes so far, to follow a name; empty when nothing is.

        Args:
            total_bytes: Unpacked.
            packed_bytes: Size of the archive.
        """
        if total_bytes > self.max_total_bytes:
            return f"brings the total above the {self.max_total_bytes} bytes allowed"
        ratio = total_bytes / max(1, packed_bytes)
        if total_bytes > self.free_bytes and ratio > self.max_ratio:
            times = f"{ratio:.0f} times the archive's, above {self.max_ratio:g}"
            return f"brings the unpacked size to {times}: taken for a bomb"
        return ""


DEFAULT_LIMITS = UnpackLimits()


class _Member(tarfile.TarInfo):
    """A tar member whose name cannot fill the memory: tarfile reads the records of long names whole."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _NAME_TYPES and self.size > _MAX_NAME_BYTES:
            raise tarfile.ReadError(f"a name of {self.size} bytes, at most {_MAX_NAME_BYTES} are read")
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]  # the hook that TarInfo has for this


def is_archive(path: Path) -> bool:
    """Return whether a file's first bytes are those of an archive that `unpack` takes.

    A packed file that is no tar inside (gzip of anything else) is none; one that cannot be unpacked is, so that its
    damage is told.
    """
    media_type = _media_type(path)
    if media_type not in _OPENERS:
        return media_type in ARCHIVE_TYPES
    try:
        with _OPENERS[media_type](path, "rb") as stream:
            head = stream.read(tarfile.BLOCKSIZE)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _media_type(path: Path) -> str | None:
    with path.open("rb") as stream:
        return sniff_media_type(stream.read(HEAD_BYTES))


def unpack(archive: Path, target: Path, *, limits: UnpackLimits = DEFAULT_LIMITS) -> None:
    """Unpack an archive into an existing empty folder. After an error the folder holds what was unpacked before it.

    Args:
        archive: The file.
        target: The folder.
        limits: What it may hold.

    Raises:
        DataError: It is no archive, damaged, or holds something that is refused; names the member.
    """
    unpacker = _Unpacker(archive, target, limits)
    with _explained(archive):
        if _media_type(archive) == "application/zip":
            unpacker.unpack_zip()
        else:
            unpacker.unpack_tar()


class _Unpacker:
    def __init__(self, archive: Path, target: Path, limits: UnpackLimits) -> None:
        self._archive, self._target, self._limits = archive, target, limits
        self._file_count = 0
        self._total_bytes = 0
        self._archive_bytes = archive.stat().st_size

    def unpack_zip(self) -> None:
        with zipfile.ZipFile(self._archive) as packed:
            members = packed.infolist()
            for done, member in enumerate(members):
                events.progress(done, len(members), unit="file", label=f"unpacking {member.filename}")
                path = self._begin(member.filename)
                mode = member.external_attr >> 16
                if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise self._refused(member.filename, "is a link or a device")
                if member.is_dir():
                    self._make_folder(member.filename, path)
                    continue
                if member.flag_bits & 0x1:
                    raise self._refused(member.filename, "is encrypted")
                with packed.open(member) as content:
                    self._write(member.filename, path, content)

    def unpack_tar(self) -> None:
        with tarfile.open(self._archive, "r:*", tarinfo=_Member) as packed:
            for done, member in enumerate(packed):
                packed.members = []  # type: ignore[attr-defined]  # else the headers of all members gather in memory
                events.progress(done, None, unit="file", label=f"unpacking {member.name}")
                path = self._begin(member.name)
                if member.isdir():
                    self._make_folder(member.name, path)
                    continue
                content = packed.extractfile(member) if member.isreg() else None
                if content is None:
                    raise self._refused(member.name, "is a link or a device")
                with content:
                    self._write(member.name, path, content)

    def _begin(self, name: str) -> Path:
        self._file_count += 1
        if self._file_count > self._limits.max_file_count:
            raise self._refused(name, f"is more than the {self._limits.max_file_count} members allowed")
        posix = name.replace("\\", "/")
        parts = [part for part in posix.split("/") if part not in {"", "."}]
        if posix.startswith("/") or _DRIVE.match(posix) or ".." in parts or "\0" in name:
            raise self._refused(name, "leads outside the archive's folder")
        return self._target.joinpath(*parts)

    def _make_folder(self, name: str, path: Path) -> None:
        with self._placed(name):
            path.mkdir(parents=True, exist_ok=True)

    def _write(self, name: str, path: Path, content: IO[bytes]) -> None:
        with self._placed(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                while chunk := content.read(_CHUNK_BYTES):
                    self._total_bytes += len(chunk)
                    if excess := self._limits.excess(self._total_bytes, self._archive_bytes):
                        raise self._refused(name, excess)
                    stream.write(chunk)

    @contextmanager
    def _placed(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise self._refused(name, "has the name of another member") from None
        except OSError as error:
            if error.errno != ENAMETOOLONG:
                raise
            raise self._refused(f"{name[:60]}...", "has too long a name") from None

    def _refused(self, name: str, reason: str) -> DataError:
        return DataError(
            f"{self._archive.name}: the member {name!r} {reason}; the archive is refused; unpack it by hand, look at "
            "it, and give the folder"
        )


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise _unreadable(archive, error) from None
    except OSError as error:
        # gzip and bz2 report damaged data as an OSError without a number; a damaged zip makes zipfile seek anywhere.
        if error.errno not in {None, EINVAL}:
            raise
        raise _unreadable(archive, error) from None


def _unreadable(archive: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
    return DataError(
        f"{archive.name}: the archive cannot be read: {reason}; expected a whole zip, tar, tar.gz, tar.bz2 or tar.xz; "
        "pack or fetch it again"
    )
