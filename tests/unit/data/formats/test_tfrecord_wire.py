"""Records and their check sums, against published values."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.data.formats import tfrecord_wire
from visionyard.data.formats.tfrecord_wire import Record, crc32c, framed, masked_crc32c, read_records


def records(data: bytes) -> list[Record]:
    return list(read_records(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", 0, id="empty"),
        pytest.param(bytes(32), 0x8A9136AA, id="RFC 3720: zeros"),
        pytest.param(b"\xff" * 32, 0x62A8AB43, id="RFC 3720: ones"),
        pytest.param(bytes(range(32)), 0x46DD794E, id="RFC 3720: incrementing"),
        pytest.param(bytes(range(31, -1, -1)), 0x113FDB5C, id="RFC 3720: decrementing"),
        pytest.param(b"123456789", 0xE3069283, id="the check value of the CRC catalogue"),
    ],
)
def test_published_check_sums(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def bitwise(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1023, 1024, 1025, 1027, 1028, 3000])
def test_blocks_join_as_bit_by_bit(size: int) -> None:
    data = bytes(number * 37 % 251 for number in range(size))
    assert crc32c(data) == bitwise(data)


def test_a_file_that_tensorflow_would_write() -> None:
    # tf.io.TFRecordWriter on b"" and b"abc": header, masked sums and all, from the documented formula by hand.
    length = struct.pack("<Q", 3)
    crc = bitwise(length)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(length) == masked
    assert framed(b"abc")[:12] == length + struct.pack("<I", masked)
    assert records(framed(b"") + framed(b"abc")) == [Record(1, b""), Record(2, b"abc")]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


GOOD = framed(b"first") + framed(b"second")


@pytest.mark.parametrize(
    ("data", "good", "fault"),
    [
        pytest.param(flipped(GOOD, 13), [2], "its bytes were altered; left out", id="a byte of the first record"),
        pytest.param(flipped(GOOD, 17), [2], "check sum 0x", id="its check sum"),
        pytest.param(flipped(GOOD, 0), [], "check sum of its length is wrong; this record and all behind", id="length"),
        pytest.param(GOOD[:-1], [1], "ends 1 bytes before the record does", id="last byte missing"),
        pytest.param(GOOD[:-7], [1], "ends 7 bytes before the record does", id="half a record"),
        pytest.param(GOOD + b"1234", [1, 2], "ends after 4 of a header's 12 bytes", id="half a header"),
        pytest.param(b"not a record at all", [], "check sum of its length is wrong", id="another file"),
    ],
)
def test_damage(data: bytes, good: list[int], fault: str) -> None:
    found = records(data)
    assert [record.number for record in found if not record.fault] == good
    (bad,) = [record for record in found if record.fault]
    assert fault in bad.fault
    assert bad.data == b""


def test_a_length_beyond_reason_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord_wire, "MAX_RECORD_BYTES", 4)
    (record,) = records(framed(b"12345"))
    assert record.fault.startswith("it has 5 bytes, expected at most 4")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(0, 400), st.binary(max_size=30))
def test_whatever_is_altered_no_altered_record_passes(contents: list[bytes], at: int, inserted: bytes) -> None:
    data = b"".join(map(framed, contents))
    assert [record.data for record in records(data)] == contents
    altered = data[:at] + inserted + data[at:]
    assert all(record.data in contents for record in records(altered) if not record.fault)
