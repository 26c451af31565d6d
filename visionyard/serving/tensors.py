"""Tensors of the Open Inference Protocol: from what a request carries to numpy; `output_tensors` is the way back.

The same for REST and gRPC; only how bytes lie on the wire differs, and that is `binary_tensors` and KServe's gRPC.
"""

import base64
import binascii
import math
import struct
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from visionyard.errors import RequestError, TooLargeError
from visionyard.inference.bundle import BundleManifest
from visionyard.serving.kserve_sdk import InferInput

IMAGE = "image"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
BYTES = "BYTES"
_MOST_ELEMENTS = 2**40


def read_tensor(given: InferInput) -> np.ndarray | list[bytes]:
    """Return what a tensor of a request holds.

    Args:
        given: A tensor with raw bytes (gRPC, REST binary extension) or a list of values (JSON, typed gRPC contents).

    Returns:
        The values in the shape that was sent, a view on the raw bytes where there are some; of BYTES the elements.
        Texts among them, which only JSON has, are read as base64.

    Raises:
        RequestError: The datatype is unknown, or the values do not fit it or the shape.
    """
    count = _count(given)
    raw, name = given._raw_data, given.name
    if given.datatype == BYTES:
        elements = _split(raw, name) if raw is not None else _decode(given.data, name)
        _check_count(name, count, len(elements), given.shape)
        return elements
    dtype = DTYPES.get(given.datatype)
    if dtype is None:
        raise RequestError(
            f"input {name!r}: datatype {given.datatype[:40]!r} is unknown; known: {', '.join(DTYPES)}, BYTES"
        )
    if raw is not None:
        if len(raw) != count * dtype.itemsize:
            raise RequestError(
                f"input {name!r}: {given.datatype} of shape {given.shape} has {count * dtype.itemsize} bytes, "
                f"got {len(raw)}"
            )
        return np.frombuffer(raw, dtype).reshape(given.shape)
    values = _numbers(given.data, dtype, given.datatype, name)
    _check_count(name, count, values.size, given.shape)
    return values.reshape(given.shape)


def _count(given: InferInput) -> int:
    """Return the number of elements that the shape tells."""
    shape = given.shape
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise RequestError(f"input {given.name!r}: shape {str(shape)[:80]}: expected whole numbers, none below 0")
    if len(shape) > 8:
        raise RequestError(f"input {given.name!r}: shape of {len(shape)} dimensions: expected at most 8")
    # Also with a side of 0 numpy refuses what it could not address.
    if math.prod(size or 1 for size in shape) > _MOST_ELEMENTS:
        raise RequestError(f"input {given.name!r}: shape {str(shape)[:80]}: more than any request holds")
    return math.prod(shape)


def _check_count(name: str, expected: int, got: int, shape: list[int]) -> None:
    if expected != got:
        raise RequestError(f"input {name!r}: shape {shape} has {expected} elements, got {got}")


def _split(raw: Any, name: str) -> list[bytes]:
    """Return the elements of a raw BYTES tensor: each with its length before it, four bytes, little endian."""
    view, place = memoryview(raw), 0
    elements: list[bytes] = []
    while place < len(view):
        if place + 4 > len(view):
            raise RequestError(f"input {name!r}: BYTES end within the length of element {len(elements)}")
        (length,) = struct.unpack_from("<I", view, place)
        place += 4
        if place + length > len(view):
            raise RequestError(
                f"input {name!r}: element {len(elements)} of BYTES says {length} bytes, only {len(view) - place} follow"
            )
        elements.append(bytes(view[place : place + length]))
        place += length
    return elements


def _decode(data: Any, name: str) -> list[bytes]:
    return [
        value if isinstance(value, bytes) else decode_base64(value, f"input {name!r}, element {index}")
        for index, value in enumerate(_flat(data, name))
    ]


def _flat(data: Any, name: str) -> Iterable[Any]:
    if not isinstance(data, list):
        raise RequestError(f"input {name!r}: data: expected a list")
    if any(isinstance(value, list) for value in data):
        return [each for value in data for each in (value if isinstance(value, list) else [value])]
    return data


def decode_base64(text: object, where: str) -> bytes:
    """Return the bytes of a base64 text; a `data:...;base64,` prefix, as browsers make, may stand before it.

    Args:
        text: What a caller sent.
        where: What it is, for the message.

    Raises:
        RequestError: It is no base64 text.
    """
    if not isinstance(text, str):
        raise RequestError(f"{where}: expected base64 text, got {type(text).__name__}")
    if text[:5] == "data:":
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{where}: not base64 ({str(error)[:80]}); encode the file's bytes") from None


def _numbers(data: Any, dtype: np.dtype[Any], datatype: str, name: str) -> np.ndarray:
    if not isinstance(data, list):
        raise RequestError(f"input {name!r}: data: expected a list of numbers")
    # Before numpy sees them: it makes every element as wide as the longest text among them.
    if not kinds_of(data) <= {bool, int, float}:
        raise RequestError(f"input {name!r}: data: expected numbers of datatype {datatype}")
    try:
        values = np.asarray(data)
    except ValueError:
        raise RequestError(f"input {name!r}: data: lists of different lengths; expected a whole tensor") from None
    if not values.size:
        return values.astype(dtype)
    fits = values.dtype.kind in ("b" if dtype.kind == "b" else "iuf" if dtype.kind == "f" else "iu")
    if fits and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        fits = bool(values.min() >= limits.min and values.max() <= limits.max)
    if not fits:
        raise RequestError(f"input {name!r}: data: expected numbers of datatype {datatype}")
    return values.astype(dtype)


def kinds_of(values: list[Any]) -> set[type]:
    """Return the types of what lists in lists hold; with `list` among them when they are not all equally deep."""
    kinds = set(map(type, values))
    while kinds == {list}:
        values = list(chain.from_iterable(values))
        kinds = set(map(type, values))
    return kinds


def is_image(given: InferInput) -> bool:
    """Whether a tensor holds images rather than the model's own input."""
    return bool(given.name == IMAGE and given.datatype in {BYTES, "UINT8"})


def read_images(given: InferInput, max_images: int | None = None) -> list[bytes | np.ndarray]:
    """Return the images of a tensor `image`: BYTES [N], UINT8 [H, W, 3] or UINT8 [N, H, W, 3].

    Args:
        given: The tensor.
        max_images: More are refused before any is read: empty ones cost nothing to send. None: any number.

    Raises:
        RequestError: It does not hold images.
        TooLargeError: It holds too many.
    """
    elements = _count(given)
    count = elements if given.datatype == BYTES else given.shape[0] if len(given.shape) == 4 else 1
    if max_images is not None and count > max_images:
        raise TooLargeError(f"the request holds {count} images; at most {max_images} are taken")
    values = read_tensor(given)
    if isinstance(values, list):
        return list(values)
    if values.ndim not in {3, 4} or values.shape[-1] != 3:
        raise RequestError(
            f"input {IMAGE!r}: UINT8 of shape {given.shape}: expected [H, W, 3] or [N, H, W, 3] RGB; encoded files go "
            "as BYTES"
        )
    return [values] if values.ndim == 3 else list(values)


def describe_inputs(manifest: BundleManifest) -> list[dict[str, Any]]:
    """Return what a model takes, as model metadata list it."""
    own = manifest.input
    images = [{"name": IMAGE, "datatype": BYTES, "shape": [-1]}]
    return [*images, {"name": own.name, "datatype": "FP32", "shape": own.shape}]
