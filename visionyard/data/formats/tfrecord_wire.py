"""TFRecord framing: records one after another, each between its length and check sums.

| bytes | content |
| --- | --- |
| 8 | length, little endian |
| 4 | masked CRC32C of the length |
| length | the record |
| 4 | masked CRC32C of the record |

Source: TensorFlow, "TFRecord and tf.train.Example", section "TFRecords format details"; the mask is that of LevelDB's
log format. CRC32C: Castagnoli polynomial, RFC 3720 appendix B.4 (test values) and 12.1.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

# As much as the largest image file that ingest reads, and room for its labels.
MAX_RECORD_BYTES = 640 << 20
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_POLYNOMIAL_REVERSED = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
# Bytes that are looked up at once: tables of 1 MiB, which stay in a core's cache.
_BLOCK_BYTES = 1024
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        number: Its place in the file, from 1.
        data: Its bytes; empty when it cannot be read.
        fault: What is wrong with it, for a person; empty when nothing is.
    """

    number: int
    data: bytes
    fault: str = ""


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the CRC of each byte value at each place of a block, and where in it the values of a place begin.

    Returns:
        (1024 * 256,) uint32, 256 values for each count of zero bytes behind the byte; (1024,) int64, the first byte of
        a block first.
    """
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL_REVERSED), table >> 1).astype(np.uint32)
    tables = np.empty((_BLOCK_BYTES, 256), dtype=np.uint32)
    tables[0] = table
    for row in range(1, _BLOCK_BYTES):
        tables[row] = (tables[row - 1] >> 8) ^ table[tables[row - 1] & 0xFF]
    return tables.ravel(), np.arange(_BLOCK_BYTES - 1, -1, -1, dtype=np.int64) * 256


def crc32c(data: bytes) -> int:
    """Return the CRC32C of some bytes, 0 to 2^32 - 1.

    A CRC is linear: that of a block is the exclusive or of those of its bytes, each looked up by its place. The state
    before a block acts as if it were added to its first four bytes.
    """
    (table, starts), state = _tables(), 0xFFFFFFFF
    values = np.frombuffer(data, dtype=np.uint8)
    for start in range(0, len(values), _BLOCK_BYTES):
        block = values[start : start + _BLOCK_BYTES].copy()
        carried = np.frombuffer(struct.pack("<I", state), dtype=np.uint8)
        overlap = min(len(block), len(carried))
        block[:overlap] ^= carried[:overlap]
        found = table.take(starts[_BLOCK_BYTES - len(block) :] + block)
        # What a block shorter than the state does not reach stays in it.
        state = int(np.bitwise_xor.reduce(found)) ^ (state >> (8 * overlap))
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """Return the check sum that stands in the file: a CRC of bytes that hold CRCs would be weak, hence the mask."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """Return a record as it stands in a file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))


def _length_of(header: bytes) -> int | None:
    """Return the length that a record's 12 header bytes give; None when they are short or the check sum is wrong."""
    if len(header) != _HEADER_BYTES:
        return None
    length, crc = struct.unpack("<QI", header)
    return int(length) if masked_crc32c(header[:8]) == crc else None


class Source(Protocol):
    """Bytes that come one after another."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer only at the end."""

    def skip(self, size: int, /) -> None:
        """Pass over bytes."""


def record_numbers(stream: Source) -> Iterator[int]:
    """Yield 1, 2 ... for the records, good or not, that `read_records` would yield; their bytes are passed over."""
    number = 0
    while header := stream.read(_HEADER_BYTES):
        number += 1
        yield number
        length = _length_of(header)
        if length is None or length > MAX_RECORD_BYTES:
            return
        stream.skip(length + _FOOTER_BYTES)


def read_records(stream: Source) -> Iterator[Record]:
    """Yield the records of a file, one at a time in memory.

    A record whose check sum is wrong is yielded with its fault, and the reading goes on. A length that is wrong, or
    that leads behind the end, ends it, since no one knows where the next record begins.

    Args:
        stream: At the start of the file, unpacked.
    """
    number = 0
    while header := _read(stream, _HEADER_BYTES):
        number += 1
        length = _length_of(header)
        fault = _fault_of_header(header, length)
        if length is None or fault:
            yield Record(number, b"", f"{fault}; this record and all behind it are left out")
            return
        data = _read(stream, length)
        footer = _read(stream, _FOOTER_BYTES)
        if len(data) + len(footer) < length + _FOOTER_BYTES:
            missing = length + _FOOTER_BYTES - len(data) - len(footer)
            yield Record(number, b"", f"the file ends {missing} bytes before the record does; left out")
            return
        expected, found = struct.unpack("<I", footer)[0], masked_crc32c(data)
        if expected == found:
            yield Record(number, data)
        else:
            message = f"check sum {found:#010x}, expected {expected:#010x}: its bytes were altered; left out"
            yield Record(number, b"", message)


def _fault_of_header(header: bytes, length: int | None) -> str:
    if len(header) < _HEADER_BYTES:
        return f"the file ends after {len(header)} of a header's {_HEADER_BYTES} bytes"
    if length is None:
        return "the check sum of its length is wrong"
    if length > MAX_RECORD_BYTES:
        return f"it has {length} bytes, expected at most {MAX_RECORD_BYTES}"
    return ""


def _read(stream: Source, size: int) -> bytes:
    """Return up to `size` bytes; memory is taken as they come, not as the length claims."""
    if size <= _CHUNK_BYTES:
        return stream.read(size)
    chunks = []
    while size and (chunk := stream.read(min(size, _CHUNK_BYTES))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
