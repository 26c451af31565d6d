"""tf.train.Example, against Google's protobuf on the published schema."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.data.formats.tf_example import encode_example, parse_example
from visionyard.errors import DataError


def example_class() -> Any:
    """Build the class of tensorflow/core/example/{example,feature}.proto."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label=field.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        type_name = ".t." + name.title().replace("_", "")
        feature.field.add(
            name=name, number=number, label=1, type=field.TYPE_MESSAGE, type_name=type_name, oneof_index=0
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=1, type=field.TYPE_MESSAGE, type_name=".t.Feature")
    features.field.add(name="feature", number=1, label=3, type=field.TYPE_MESSAGE, type_name=".t.Features.FeatureEntry")
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=1, type=field.TYPE_MESSAGE, type_name=".t.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = example_class()
FEATURES: dict[str, Any] = {
    "image/encoded": (b"\xff\xd8\xff\0",),
    "image/object/bbox/xmin": (0.25, 0.5),
    "image/object/class/label": (1, -1, 2**63 - 1, -(2**63)),
    "naïve": (),
}


def by_protobuf(features: dict[str, Any]) -> Any:
    message = EXAMPLE()
    for name, values in features.items():
        feature = message.features.feature[name]
        if values:
            kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
            getattr(feature, kind).value.extend(values)
    return message


def test_reads_what_protobuf_writes() -> None:
    assert parse_example(by_protobuf(FEATURES).SerializeToString()) == FEATURES
    assert parse_example(b"") == {}


def test_protobuf_reads_what_it_writes() -> None:
    assert EXAMPLE.FromString(encode_example(FEATURES)) == by_protobuf(FEATURES)
    assert encode_example({"a": ["é"], "b": [1]}) == encode_example({"b": [1], "a": ["é".encode()]})


def test_lists_that_are_not_packed_and_unknown_fields() -> None:
    int64_list = bytes.fromhex("0805 0807")  # value = 5, value = 7, each with its tag
    feature = b"\x1a" + bytes([len(int64_list)]) + int64_list + bytes.fromhex("f80601")  # field 111 = 1
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert parse_example(b"\x0a" + bytes([len(features)]) + features) == {"x": (5, 7)}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        pytest.param(b"\x0a\x7f\x00", "field 1 at byte 2 leads behind its end", id="cut short"),
        pytest.param(b"hello, world", "wire type 4 at byte 3", id="text"),
        pytest.param(b"\xff" * 20, "a number without end at byte 0", id="endless number"),
        pytest.param(b"\x0b", "wire type 3 at byte 1", id="a group"),
        pytest.param(bytes.fromhex("0a0b 0a09 0a01ff 1204 1202 0a00"), "name b'.xff' is not UTF-8", id="name"),
        pytest.param(bytes.fromhex("0a0d 0a0b 0a0178 1206 1204 0a02 0000"), "2 bytes, expected a multiple", id="float"),
    ],
)
def test_what_is_no_example(data: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        parse_example(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 200), st.binary(max_size=12))
def test_altered_messages_are_read_or_refused(at: int, inserted: bytes) -> None:
    data = encode_example(FEATURES)
    altered = data[:at] + inserted + data[at + len(inserted) :]
    try:
        assert isinstance(parse_example(altered), dict)
    except DataError as error:
        assert str(error)
