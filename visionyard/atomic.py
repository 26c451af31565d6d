"""Files and folders that appear whole or not at all."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC, EXDEV
from pathlib import Path
from typing import BinaryIO

# Names a folder that outlives a killed try, where the next one has another target, as KFP's tasks do.
SCRATCH_VARIABLE = "VISIONYARD_SCRATCH"
_OF = ".of"
_PARTIAL = ".partial"


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a working folder beside `path` that becomes `path` when the block ends well.

    What an earlier, killed try left under either name is removed first: a KFP retry writes to the same place.

    Args:
        path: The folder to make; its parents are made.

    Yields:
        The empty working folder.
    """
    work = path.with_name(f".{path.name}.partial")
    for leftover in (work, path):
        _remove(leftover)
    work.mkdir(parents=True)
    try:
        with _naming_a_full_disk(path):
            yield work
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.replace(path)


@contextmanager
def resumable_folder(path: Path, *, of: str) -> Iterator[Path]:
    """Yield a working folder that becomes `path` when the block ends well, and is found again when it does not.

    Args:
        path: The folder to make; its parents are made.
        of: Digest of all that decides the content: what another one left is removed.

    Yields:
        The working folder: empty, or as an earlier, ended try of the same left it. It lies beside `path`, or where
        VISIONYARD_SCRATCH says.
    """
    scratch = os.environ.get(SCRATCH_VARIABLE)
    work = Path(scratch) / f"{path.name}.partial" if scratch else path.with_name(f".{path.name}.partial")
    _remove(path)
    if not (work / _OF).is_file() or (work / _OF).read_text(encoding="ascii") != of:
        _remove(work)
        write_atomic(work / _OF, of)
    with _naming_a_full_disk(path):
        yield work
        (work / _OF).unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            work.replace(path)
        except OSError as error:
            if error.errno != EXDEV:
                raise
            write_atomic(work / _OF, of)  # the scratch folder is another file system: a killed copy is made again
            with atomic_folder(path) as copy:
                shutil.copytree(work, copy, dirs_exist_ok=True)
                (copy / _OF).unlink()
            shutil.rmtree(work)


def _remove(leftover: Path) -> None:
    if leftover.is_dir():
        shutil.rmtree(leftover)
    else:
        leftover.unlink(missing_ok=True)


@contextmanager
def _naming_a_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == ENOSPC and error.filename is None:
            error.filename = str(path)  # writing to an open file does not name it
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose content, flushed to disk, becomes `path` when the block ends well; parents are made.

    What a killed writer left is taken over by the next; several processes may write the same path at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work, stream = open_partial(path)
    with stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            work.replace(path)  # while it is locked, as below: afterwards the name is free for another
        except BaseException:
            work.unlink(missing_ok=True)
            raise


def partial_path(path: Path, version: str = "") -> Path:
    """Return where a file is written until it is whole, or that version of it."""
    return path.with_name(f".{path.name}.{version}{_PARTIAL}" if version else f".{path.name}{_PARTIAL}")


def partial_versions(path: Path) -> list[str]:
    """Return the versions of a file that stand beside it unfinished, sorted."""
    start = f".{path.name}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(_PARTIAL)]
    return sorted(name[len(start) : -len(_PARTIAL)] for name in names if name != partial_path(path).name)


def is_leftover(key: str) -> bool:
    """Return whether a file is an unfinished one, by its name or its path."""
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(_PARTIAL)


def open_partial(path: Path, version: str = "") -> tuple[Path, BinaryIO]:
    """Return the empty file that is to become `path`, claimed; of another name while another process writes that."""
    work = partial_path(path, version)
    stream = claim(work, make=True)
    if stream is None:
        work = partial_path(path, uuid.uuid4().hex)
        return work, work.open("xb")
    stream.truncate(0)
    return work, stream


def claim(path: Path, *, make: bool = False) -> BinaryIO | None:
    """Open a file for writing, unaltered, so that no other process claims it until it is closed.

    Args:
        path: The file.
        make: Make it where there is none.

    Returns:
        None where there is none, where another process has it, and on a file system without locks.
    """
    try:
        stream = os.fdopen(os.open(path, os.O_WRONLY | (os.O_CREAT if make else 0), 0o666), "wb")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, another may have finished and renamed this very file.
        if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            return stream
    except (BlockingIOError, FileNotFoundError):  # locked by another, or gone
        pass
    except OSError:  # a file system without locks, where none of this name is ever written to
        if not os.fstat(stream.fileno()).st_size:
            path.unlink(missing_ok=True)
    stream.close()
    return None


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it to `path`; parents are made."""
    with atomic_file(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def flush_to_disk(path: Path) -> None:
    """Return when a file that is closed would outlive the power."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
