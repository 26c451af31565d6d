"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO


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
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    work.mkdir(parents=True)
    try:
        yield work
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == ENOSPC and error.filename is None:
            error.filename = str(path)  # writing to an open file does not name it
        raise
    work.replace(path)


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
