"""Look into the messages of an Arrow IPC stream before Arrow itself does.

A stream is messages: 0xFFFFFFFF, the length of the metadata, the metadata (a FlatBuffers table `Message`), the body. Of
the metadata three things are read: what kind of message it is, how long its body, and whether that is compressed.

Source: Apache Arrow, Columnar Format, "Encapsulated message format", and format/Message.fbs; FlatBuffers, "Internals".
"""

import struct

_CONTINUATION = 0xFFFFFFFF
# Places of fields in their tables, and of the header's types, as Message.fbs numbers them.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_BATCH_COMPRESSION, _DICTIONARY_DATA = 3, 1


def is_compressed(stream: bytes) -> bool:
    """Return whether any batch of a stream says that its body is compressed.

    Raises:
        ValueError: It is no such stream, or ends within a message.
    """
    view, place = memoryview(stream), 0
    try:
        while place + 8 <= len(view):
            marker, size = struct.unpack_from("<II", view, place)
            if marker != _CONTINUATION:
                raise ValueError("its messages do not begin as those of Arrow 0.15 and later do")
            if not size:
                return False
            table = _Table(view[place + 8 : place + 8 + size])
            if table.says_compressed():
                return True
            place += 8 + size + table.body_length()
    except (struct.error, IndexError):
        raise ValueError("its metadata are cut short or damaged") from None
    return False


class _Table:
    """A FlatBuffers table; every read is within the bytes of its message, or an error."""

    def __init__(self, view: memoryview, place: int | None = None) -> None:
        self._view = view
        self._place = self._unsigned(0) if place is None else place

    def body_length(self) -> int:
        """Return the bytes of the message's body."""
        field = self._field(_BODY_LENGTH)
        (length,) = struct.unpack_from("<q", self._view, field) if field else (0,)
        if length < 0:
            raise ValueError("a message says that its body is shorter than nothing")
        return int(length)

    def says_compressed(self) -> bool:
        """Return whether the message is a batch with compression."""
        kind = self._field(_HEADER_TYPE)
        header = self._child(_HEADER)
        if not kind or header is None:
            return False
        if self._view[kind] == _DICTIONARY_BATCH:
            header = header._child(_DICTIONARY_DATA)
        elif self._view[kind] != _RECORD_BATCH:
            return False
        return header is not None and bool(header._field(_BATCH_COMPRESSION))

    def _child(self, number: int) -> "_Table | None":
        field = self._field(number)
        return _Table(self._view, field + self._unsigned(field)) if field else None

    def _field(self, number: int) -> int:
        """Return where a field of the table lies; 0 where it is not there."""
        (back,) = struct.unpack_from("<i", self._view, self._at(self._place))
        entries = self._at(self._place - back)
        (size,) = struct.unpack_from("<H", self._view, entries)
        place = 4 + 2 * number
        if place + 2 > size:
            return 0
        (offset,) = struct.unpack_from("<H", self._view, entries + place)
        return self._place + offset if offset else 0

    def _unsigned(self, place: int) -> int:
        (value,) = struct.unpack_from("<I", self._view, self._at(place))
        return int(value)

    def _at(self, place: int) -> int:
        if not 0 <= place < len(self._view):
            raise IndexError(place)
        return place
