"""Shards: many small files in few tar files, each readable by one ranged read.

Artifact stores move one file at a time (2,000 images of 20 kB took 20 s, the same bytes as one tar 2 s), so no folder
between stages holds loose files. Headers carry no time, owner or host: same content, same bytes.
"""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Self

from visionyard.errors import ArtifactError

SHARD_BYTES = 256 << 20
_BLOCK_BYTES = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Blob:
    """Where bytes lie: `size` bytes from `offset` in the file `shard` of a folder."""

    shard: str
    offset: int
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class ShardWriter:
    """Write files into numbered tar shards `<prefix>-00000.tar`, one after another.

    Use as a context manager; the shards are complete after it ends well.
    """

    def __init__(self, folder: Path, prefix: str, *, shard_bytes: int = SHARD_BYTES) -> None:
        """Prepare to write.

        Args:
            folder: Where the shards go; made when missing.
            prefix: Start of the shards' names.
            shard_bytes: A new shard is begun when the next file would pass this size; a larger file has its own.
        """
        self._folder = folder
        self._prefix = prefix
        self._shard_bytes = shard_bytes
        self._tar: tarfile.TarFile | None = None
        self._shard = ""
        self.shard_count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, name: str, data: bytes) -> Blob:
        """Append one file and return where its bytes lie.

        Args:
            name: Path inside the tar, ASCII or UTF-8.
            data: Its bytes.
        """
        return self._append(self._tar_for(len(data)), name, io.BytesIO(data), len(data))

    def add_file(self, name: str, path: Path) -> tuple[Blob, str]:
        """Append a file from disk, read once and never whole; return where its bytes lie, and their SHA-256.

        Args:
            name: Path inside the tar, ASCII or UTF-8.
            path: The file.
        """
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            hashed = _Hashed(stream)
            blob = self._append(self._tar_for(size), name, hashed, size)
        return blob, hashed.digest.hexdigest()

    def add_together(self, files: Sequence[tuple[str, bytes]]) -> list[Blob]:
        """Append files that must stand in one shard, as the files of a WebDataset sample must.

        Args:
            files: Name and bytes of each.

        Returns:
            Where the bytes of each lie.
        """
        tar = self._tar_for(sum(_BLOCK_BYTES + _padded(len(data)) for _, data in files))
        return [self._append(tar, name, io.BytesIO(data), len(data)) for name, data in files]

    def _append(self, tar: tarfile.TarFile, name: str, data: "io.BytesIO | _Hashed", size: int) -> Blob:
        header = tarfile.TarInfo(name)
        header.size = size
        header.mode = 0o644
        tar.addfile(header, data)
        return Blob(shard=self._shard, offset=tar.offset - _padded(size), size=size)

    def _tar_for(self, size: int) -> tarfile.TarFile:
        if self._tar is not None and self._tar.offset and self._tar.offset + size > self._shard_bytes:
            self._close()
        if self._tar is None:
            self._shard = f"{self._prefix}-{self.shard_count:05d}.tar"
            self.shard_count += 1
            path = self._folder / self._shard
            self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 closed by _close
        return self._tar

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None


class _Hashed:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.digest = stream, sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def read_blob(folder: Path, blob: Blob) -> bytes:
    """Return the bytes of a blob by one ranged read.

    Raises:
        ArtifactError: The shard is missing or shorter than the index says.
    """
    try:
        descriptor = os.open(folder / blob.shard, os.O_RDONLY)
    except FileNotFoundError:
        raise ArtifactError(f"{folder / blob.shard}: the shard is missing; run the stage that wrote it again") from None
    try:
        data = os.pread(descriptor, blob.size, blob.offset)
    finally:
        os.close(descriptor)
    if len(data) != blob.size:
        raise ArtifactError(
            f"{folder / blob.shard}: expected {blob.size} bytes at {blob.offset}, got {len(data)}; the shard was cut "
            "short; run the stage that wrote it again"
        )
    return data


def copy_blob(folder: Path, blob: Blob, target: Path) -> None:
    """Copy a blob's bytes to a file of its own, 1 MiB at a time.

    Raises:
        ArtifactError: The shard is missing or shorter than the index says.
    """
    with target.open("wb") as out:
        for chunk in _chunks(folder, blob):
            out.write(chunk)


def _chunks(folder: Path, blob: Blob, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
    for start in range(0, blob.size, chunk_bytes):
        yield read_blob(folder, Blob(blob.shard, blob.offset + start, min(chunk_bytes, blob.size - start)))
