"""What a caller puts into JSON: images as base64, addresses or pixels, and parameters. For `/predict` and for v1."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from visionyard.errors import RequestError, TooLargeError
from visionyard.serving.inputs import ImageInput
from visionyard.serving.tensors import decode_base64, kinds_of

_FORMS = '{"b64": "..."}, {"url": "..."}, base64 text or pixels as lists (H, W, 3)'
# Above this, decoding takes a thread: the event loop answers health checks meanwhile.
THREAD_BYTES = 128 * 1024


@dataclass(frozen=True)
class Payload:
    """Images of a request, and its parameters as they were sent."""

    images: list[ImageInput]
    parameters: Mapping[str, object]


@dataclass(frozen=True)
class _Url:
    text: str


class PayloadReader:
    """Reads images out of JSON values."""

    def __init__(self, max_images: int, fetch: Callable[[str], Awaitable[bytes]]) -> None:
        """Prepare to read.

        Args:
            max_images: Most of a request.
            fetch: Returns what is at an address, or raises why not.
        """
        self._max_images = max_images
        self._fetch = fetch

    async def read(self, values: Any, key: str) -> Payload:
        """Read `{key: [image, ...], "parameters": {...}}`.

        Args:
            values: What the JSON holds.
            key: `images` of /predict, `instances` of v1.

        Raises:
            RequestError: It is not that.
            TooLargeError: It holds too many images.
            DeniedError: It holds an address, and those are not allowed.
        """
        entries = values.get(key) if isinstance(values, dict) else None
        if not isinstance(entries, list) or not entries:
            raise RequestError(f'expected JSON such as {{"{key}": [{{"b64": "..."}}]}} with at least one image')
        unknown = sorted(set(values) - {key, "parameters"})
        if unknown:
            raise RequestError(f"unknown keys {', '.join(unknown)[:80]}; expected {key} and parameters")
        self.check_count(len(entries))
        parameters = values.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise RequestError(f"parameters: expected an object, got {type(parameters).__name__}")
        found = await asyncio.to_thread(lambda: [_read(each, f"{key}[{n}]") for n, each in enumerate(entries)])
        images = await asyncio.gather(*(self._resolve(each) for each in found))
        return Payload(list(images), parameters or {})

    def check_count(self, count: int) -> None:
        """Refuse too many images before any is read.

        Raises:
            TooLargeError: More than limits.max_images.
        """
        if count > self._max_images:
            raise TooLargeError(f"the request holds {count} images; at most {self._max_images} are taken")

    async def _resolve(self, found: "ImageInput | _Url") -> ImageInput:
        return await self._fetch(found.text) if isinstance(found, _Url) else found


async def load_json(body: bytes) -> Any:
    """Return the values of a JSON text.

    Raises:
        RequestError: It is none.
    """
    try:
        return await asyncio.to_thread(orjson.loads, body) if len(body) > THREAD_BYTES else orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is no JSON: {error}") from None


def _read(entry: Any, where: str) -> "ImageInput | _Url":
    if isinstance(entry, dict) and set(entry) == {"image"}:
        entry = entry["image"]
    if isinstance(entry, str):
        return decode_base64(entry, where)
    if isinstance(entry, dict) and set(entry) == {"b64"}:
        return decode_base64(entry["b64"], f"{where}.b64")
    if isinstance(entry, dict) and set(entry) == {"url"} and isinstance(entry["url"], str):
        return _Url(entry["url"])
    if isinstance(entry, list):
        return _pixels(entry, where)
    raise RequestError(f"{where}: expected {_FORMS}")


def _pixels(entry: list[Any], where: str) -> np.ndarray:
    # Before numpy sees them: it makes every element as wide as the longest text among them.
    if kinds_of(entry) != {int}:
        raise RequestError(f"{where}: expected pixels (H, W, 3) of whole numbers from 0 to 255, or {_FORMS}")
    try:
        values = np.asarray(entry)
    except ValueError:
        raise RequestError(f"{where}: lists of different lengths; expected pixels (H, W, 3)") from None
    is_pixels = values.ndim == 3 and values.shape[2] == 3 and values.size and values.dtype.kind in "iu"
    if not is_pixels or values.min() < 0 or values.max() > 255:
        raise RequestError(f"{where}: expected pixels (H, W, 3) of whole numbers from 0 to 255, or {_FORMS}")
    return values.astype(np.uint8)
