"""Answers kept by content: SHA-256 of the image, the bundle's digest and what was asked for.

Nothing ever has to be removed for being wrong: another image, another bundle or another threshold is another key. In
memory the least recently used go first; Redis, which several servers can share, forgets by time and by its own limit.
A Redis that is slow or down fails no request: it is left alone for a while, said once in the log, and counted.
"""

import base64
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Protocol, get_args

import numpy as np

from visionyard.config.serving_config import CacheConfig
from visionyard.errors import ConfigError
from visionyard.geometry import Mask
from visionyard.serving.options import PredictOptions
from visionyard.transforms import Prediction

# Of an entry's key and places in the table, beside its text.
_ENTRY_BYTES = 300
# A cache that takes longer than a small inference is none.
_REDIS_TIMEOUT_S = 0.05
_REDIS_CONNECT_TIMEOUT_S = 0.25
_REDIS_PAUSE_S = 5.0
_PREFIX = "visionyard:answer:1:"
_log = logging.getLogger(__name__)
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Prediction)}


@dataclass(frozen=True)
class CachedAnswer:
    """What is kept of an answer.

    Attributes:
        width: Of the image, pixels.
        height: Of the image, pixels.
        prediction: Bit for bit as it was.
    """

    width: int
    height: int
    prediction: Prediction


class _Texts(Protocol):
    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, text: bytes) -> None: ...

    def close(self) -> None: ...


class ResponseCache:
    """Answers by content; its methods may block on Redis, so they are called outside of the event loop."""

    def __init__(self, stores: list[_Texts]) -> None:
        """Take the places to look, the nearest first; see `open_cache`."""
        self._stores = stores

    def key(self, data: bytes, digest: str, options: PredictOptions) -> str:
        """Return the key of a question.

        Args:
            data: The encoded image.
            digest: Of the bundle.
            options: What was asked for; `top_k` only chooses what is listed, so it is no part.
        """
        asked = (digest, options.confidence, options.iou, options.max_detections)
        return f"{_PREFIX}{sha256(data).hexdigest()}:{sha256(repr(asked).encode()).hexdigest()[:32]}"

    def get(self, key: str) -> CachedAnswer | None:
        """Return the answer to a question, None when it is not there."""
        for position, store in enumerate(self._stores):
            text = store.get(key)
            answer = None if text is None else _from_text(text)
            if text is not None and answer is not None:
                for nearer in self._stores[:position]:
                    nearer.put(key, text)
                return answer
        return None

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keep an answer, if it consists of numbers and masks."""
        text = _to_text(answer)
        if text is None:
            return
        for store in self._stores:
            store.put(key, text)

    def close(self) -> None:
        """Close what is open."""
        for store in self._stores:
            store.close()


def open_cache(config: CacheConfig, *, on_failure: Callable[[], None]) -> ResponseCache | None:
    """Return the cache that a config asks for, None when it asks for none.

    Args:
        config: Memory, Redis, time.
        on_failure: Called each time Redis did not answer.

    Raises:
        ConfigError: Redis is asked for and its client is not installed.
    """
    stores: list[_Texts] = []
    if config.max_mib > 0:
        stores.append(MemoryTexts(int(config.max_mib * 2**20), config.ttl_s))
    if config.redis_url:
        stores.append(RedisTexts(config.redis_url, config.ttl_s, on_failure=on_failure))
    return ResponseCache(stores) if stores else None


class MemoryTexts:
    """Texts in memory: bounded by bytes and time, the least recently used go first."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        """Start empty.

        Args:
            max_bytes: Of keys and texts together.
            ttl_s: How long one is kept, seconds.
        """
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes in use."""
        return self._bytes

    def get(self, key: str) -> bytes | None:
        """Return a text, None when there is none or its time is over."""
        with self._lock:
            found = self._texts.get(key)
            if found is None:
                return None
            if time.monotonic() >= found[0]:
                self._drop(key)
                return None
            self._texts.move_to_end(key)
            return found[1]

    def put(self, key: str, text: bytes) -> None:
        """Keep a text; one that is larger than all of the memory is not kept."""
        with self._lock:
            self._drop(key)
            if len(text) + _ENTRY_BYTES > self._max_bytes:
                return
            self._texts[key] = (time.monotonic() + self._ttl_s, text)
            self._bytes += len(text) + _ENTRY_BYTES
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._texts)))

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._texts.clear()
            self._bytes = 0

    def _drop(self, key: str) -> None:
        found = self._texts.pop(key, None)
        if found is not None:
            self._bytes -= len(found[1]) + _ENTRY_BYTES


class RedisTexts:
    """Texts in a Redis; while it does not answer there are none, and it is asked again every few seconds."""

    def __init__(self, url: str, ttl_s: float, *, on_failure: Callable[[], None]) -> None:
        """Prepare; the first question connects.

        Args:
            url: redis:// or rediss://, with the password in it if need be.
            ttl_s: How long a text is kept, seconds.
            on_failure: Called each time it did not answer.

        Raises:
            ConfigError: The client is not installed, or the URL is none.
        """
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ModuleNotFoundError:
            raise ConfigError("cache.redis_url: needs the Redis client; pip install 'visionyard[redis]'") from None
        self._errors = (redis.RedisError, OSError)
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._on_failure = on_failure
        self._quiet_until = 0.0
        self._is_down = False
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_timeout=_REDIS_TIMEOUT_S,
                socket_connect_timeout=_REDIS_CONNECT_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            # The URL may hold a password, so the message does not repeat it.
            raise ConfigError("cache.redis_url: not a Redis URL; expected redis://host:port/database") from None

    def get(self, key: str) -> bytes | None:
        """Return a text, None when there is none or Redis does not answer."""
        found = self._ask(lambda: self._client.get(key))
        return found if isinstance(found, bytes) else None

    def put(self, key: str, text: bytes) -> None:
        """Keep a text, if Redis answers."""
        self._ask(lambda: self._client.set(key, text, px=self._ttl_ms))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, question: Callable[[], Any]) -> Any:
        if time.monotonic() < self._quiet_until:
            return None
        try:
            answer = question()
        except self._errors as error:
            self._quiet_until = time.monotonic() + _REDIS_PAUSE_S
            self._on_failure()
            if not self._is_down:
                self._is_down = True
                # Not the error's text, in which a URL with its password may stand.
                _log.warning("the cache's Redis does not answer (%s); going on without it", type(error).__name__)
            return None
        if self._is_down:
            self._is_down = False
            _log.info("the cache's Redis answers again")
        return answer


def _to_text(answer: CachedAnswer) -> bytes | None:
    """Return an answer as JSON, None when it holds something else than numbers and masks."""
    arrays, masks = {}, {}
    for field in fields(answer.prediction):
        value = getattr(answer.prediction, field.name)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            arrays[field.name] = [value.dtype.str, value.shape, base64.b64encode(value.tobytes()).decode()]
        elif isinstance(value, Sequence) and all(isinstance(each, Mask) for each in value):
            masks[field.name] = [each.to_json() for each in value]
        elif value is not None:
            return None
    kind = type(answer.prediction).__name__
    size = {"width": answer.width, "height": answer.height}
    return json.dumps({**size, "kind": kind, "arrays": arrays, "masks": masks}).encode()


def _from_text(text: bytes) -> CachedAnswer | None:
    """Return the answer of a text, None when it is none of ours: others may write to a shared Redis."""
    try:
        values = json.loads(text)
        arrays = {
            name: np.frombuffer(base64.b64decode(data), np.dtype(kind)).reshape(shape)
            for name, (kind, shape, data) in values["arrays"].items()
        }
        masks = {name: [Mask.from_json(each) for each in listed] for name, listed in values["masks"].items()}
        return CachedAnswer(int(values["width"]), int(values["height"]), _KINDS[values["kind"]](**arrays, **masks))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
