"""tf.train.Example: names to lists of bytes, floats or integers, in protobuf's wire format, without TensorFlow.

Example { features = 1 { feature = 1 { key = 1, value = 2 { bytes_list = 1 | float_list = 2 | int64_list = 3 }}}}, each
list being { repeated value = 1 }.

Source: tensorflow/core/example/feature.proto and example.proto; protobuf documentation, "Encoding".
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

from visionyard.errors import DataError

Values = tuple[bytes, ...] | tuple[float, ...] | tuple[int, ...]
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_FIXED_SIZES = {_FIXED_64: 8, _FIXED_32: 4}
_MAX_VARINT_BYTES = 10


def parse_example(data: bytes) -> dict[str, Values]:
    """Return the features of an example by their names; fields that are not of it are passed over, as protobuf does.

    Args:
        data: The message.

    Raises:
        DataError: It is no such message; says where and why, without the name of the file.
    """
    features: dict[str, Values] = {}
    for part in _messages(memoryview(data), 1):
        for entry in _messages(part, 1):
            key, value = "", memoryview(b"")
            for number, wire_type, content in _fields(entry):
                if number == 1 and wire_type == _LENGTH_DELIMITED:
                    key = _text(content)
                elif number == 2 and wire_type == _LENGTH_DELIMITED:
                    value = content
            features[key] = _feature(value)
    return features


def encode_example(features: Mapping[str, Sequence[bytes] | Sequence[str] | Sequence[int] | Sequence[float]]) -> bytes:
    """Return an example's message, its features in the order of their names: same features, same bytes.

    Args:
        features: Lists of one type each: texts and bytes, whole numbers, or floats (stored with 32 bits). Empty lists
            become features without values.
    """
    entries = []
    for name, values in sorted(features.items()):
        entry = _delimited(1, name.encode()) + _delimited(2, _encoded_feature(values))
        entries.append(_delimited(1, entry))
    return _delimited(1, b"".join(entries))


def _feature(data: memoryview) -> Values:
    values: Values = ()
    for kind, wire_type, content in _fields(data):
        if wire_type != _LENGTH_DELIMITED:
            continue
        if kind == _BYTES_LIST:
            values = tuple(bytes(each) for each in _messages(content, 1))
        elif kind == _FLOAT_LIST:
            values = tuple(_floats(content))
        elif kind == _INT64_LIST:
            values = tuple(_integers(content))
    return values


def _floats(data: memoryview) -> Iterator[float]:
    for number, wire_type, content in _fields(data):
        if number != 1 or wire_type not in {_LENGTH_DELIMITED, _FIXED_32}:
            continue
        if len(content) % 4:
            raise DataError(f"a list of floats has {len(content)} bytes, expected a multiple of 4")
        yield from struct.unpack(f"<{len(content) // 4}f", content)


def _integers(data: memoryview) -> Iterator[int]:
    for number, wire_type, content in _fields(data):
        if number != 1 or wire_type not in {_LENGTH_DELIMITED, _VARINT}:
            continue
        at = 0
        while at < len(content):
            value, at = _varint(content, at)
            yield value - (1 << 64) if value >> 63 else value


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, wire_type, content in _fields(data):
        if number == wanted and wire_type == _LENGTH_DELIMITED:
            yield content


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield number, wire type and bytes of each field."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        start = at
        if wire_type == _VARINT:
            _, at = _varint(data, at)
        elif wire_type in _FIXED_SIZES:
            at += _FIXED_SIZES[wire_type]
        elif wire_type == _LENGTH_DELIMITED:
            size, start = _varint(data, at)
            at = start + size
        else:
            raise DataError(f"not a tf.train.Example: wire type {wire_type} at byte {start}")
        if at > len(data) or not number:
            raise DataError(f"not a tf.train.Example: field {number} at byte {start} leads behind its end")
        yield number, wire_type, data[start:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise DataError(f"not a tf.train.Example: a number without end at byte {at}")


def _text(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise DataError(f"the feature name {bytes(data[:40])!r} is not UTF-8") from None


def _encoded_feature(values: Sequence[bytes] | Sequence[str] | Sequence[int] | Sequence[float]) -> bytes:
    if not values:
        return b""
    if isinstance(values[0], bytes | str):
        raw = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        return _delimited(_BYTES_LIST, b"".join(_delimited(1, value) for value in raw))
    if isinstance(values[0], int):
        packed = b"".join(_encoded_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values)
        return _delimited(_INT64_LIST, _delimited(1, packed))
    return _delimited(_FLOAT_LIST, _delimited(1, struct.pack(f"<{len(values)}f", *values)))


def _delimited(number: int, data: bytes) -> bytes:
    return _encoded_varint(number << 3 | _LENGTH_DELIMITED) + _encoded_varint(len(data)) + data


def _encoded_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
