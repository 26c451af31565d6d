"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC, EXDEV
from pathlib import Path
from typing import BinaryIO

# Names a folder that outlives a killed try, where the next one has another target, as KFP's tasks do.
SCRATCH_VARIABLE = "VISIONYARD_SCRATCH"
_OF = ".of"


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
            with atomic_folder(path) as copy:  # the scratch folder is another file system
                shutil.copytree(work, copy, dirs_exist_ok=True)
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
    """Yield a stream whose content, flushed to disk, becomes `path` when the block ends well; parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.partial")
    try:
        with work.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it to `path`; parents are made."""
    with atomic_file(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)
