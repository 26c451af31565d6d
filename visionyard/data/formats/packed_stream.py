"""A file of many records, plain or packed by gzip, read from front to back in bounded memory."""

import gzip
import os
import zlib
from pathlib import Path
from typing import Self

from visionyard.data.formats.archives import DEFAULT_LIMITS, UnpackLimits
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.errors import MediaError

GZIP = "application/gzip"
_CHUNK_BYTES = 1 << 20


class PackedStream:
    """Reads bytes one after another; what gzip or the disk has against them is a `MediaError` without the file's name.

    Use as a context manager.
    """

    def __init__(self, path: Path, *, is_packed: bool, limits: UnpackLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._packed_bytes = path.stat().st_size
        self._total_bytes = 0
        self._is_packed = is_packed
        self._stream = gzip.open(path, "rb") if is_packed else path.open("rb")  # noqa: SIM115 closed at exit

    @classmethod
    def of(cls, tree: SourceTree, file: SourceFile) -> Self:
        """Open a file of a source."""
        return cls(tree.path(file.name), is_packed=file.media_type == GZIP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer than asked for only at the end.

        Raises:
            MediaError: The packed data are damaged, end too early, or unpack to far more than they could honestly be.
        """
        try:
            data = self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MediaError(f"its gzip data are damaged ({error}); fetch it again") from None
        self._total_bytes += len(data)
        excess = self._limits.excess(self._total_bytes, self._packed_bytes)
        if excess:
            raise MediaError(f"unpacking it {excess}")
        return data

    def skip(self, size: int, /) -> None:
        """Pass over bytes; packed ones have to be unpacked for that.

        Raises:
            MediaError: As in `read`.
        """
        if not self._is_packed:
            self._stream.seek(size, os.SEEK_CUR)
            return
        while size > 0 and (data := self.read(min(size, _CHUNK_BYTES))):
            size -= len(data)
