"""The messages of the Open Inference Protocol v2, as far as this client speaks it, made from a table of their fields.

In a descriptor pool of their own: the server's generated module, or another client's, may be in the same process, and
one pool refuses two definitions of a name. No generated code and no package of another project is needed.

Source: Open Inference Protocol, gRPC specification, message definitions.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"/{PACKAGE}.GRPCInferenceService"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _FIELD.TYPE_BOOL,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
# Message: its fields as (number, name, type); `*` marks repeated ones, other types are messages. A map is, on the wire,
# a repeated message of key and value.
_TENSOR = ((1, "name", "string"), (2, "datatype", "string"), (3, "shape", "*int64"), (5, "contents", "Contents"))
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "Empty": (),
    "Ready": ((1, "ready", "bool"),),
    "ModelName": ((1, "name", "string"),),
    "ModelMetadata": (
        (1, "name", "string"),
        (2, "versions", "*string"),
        (3, "platform", "string"),
        (4, "inputs", "*TensorMetadata"),
        (5, "outputs", "*TensorMetadata"),
    ),
    "TensorMetadata": ((1, "name", "string"), (2, "datatype", "string"), (3, "shape", "*int64")),
    "Parameter": ((1, "bool_param", "bool"), (2, "int64_param", "int64"), (3, "string_param", "string")),
    "ParameterEntry": ((1, "key", "string"), (2, "value", "Parameter")),
    "Contents": ((8, "bytes_contents", "*bytes"),),
    "Tensor": _TENSOR,
    "RequestedOutput": ((1, "name", "string"),),
    "InferRequest": (
        (1, "model_name", "string"),
        (3, "id", "string"),
        (4, "parameters", "*ParameterEntry"),
        (5, "inputs", "*Tensor"),
        (6, "outputs", "*RequestedOutput"),
        (7, "raw_input_contents", "*bytes"),
    ),
    "InferResponse": (
        (1, "model_name", "string"),
        (3, "id", "string"),
        (5, "outputs", "*Tensor"),
        (6, "raw_output_contents", "*bytes"),
    ),
}


@cache
def message(name: str) -> Any:
    """Return the class of a message, by its name in the table above."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="visionyard_client.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            plain = kind.lstrip("*")
            label = _FIELD.LABEL_REPEATED if kind.startswith("*") else _FIELD.LABEL_OPTIONAL
            field = described.field.add(name=field_name, number=number, label=label)
            if plain in _TYPES:
                field.type = _TYPES[plain]
            else:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
        if name == "Parameter":  # only the one that is set is sent, whatever its value
            described.oneof_decl.add(name="parameter_choice")
            for field in described.field:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
