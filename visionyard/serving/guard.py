"""Who may ask, and how often: API keys from a file and a token bucket for each caller. Both off unless configured."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from visionyard.config.serving_config import AuthConfig, RateLimitConfig
from visionyard.errors import ConfigError, DeniedError, OverloadedError

# How often the file is looked at; a mounted Secret takes up to a minute to change anyway.
_LOOK_INTERVAL_S = 1.0
# Callers remembered, about 200 bytes each. The one heard of longest ago is forgotten: its bucket is the fullest.
_MAX_CALLERS = 10_000
_HOW = "send `Authorization: Bearer KEY` or `X-API-Key: KEY`"


class KeyFile:
    """The API keys of a file: `name:key` or `key` a line; blank lines and those that begin with # are passed over.

    The file is read again when it changed, so that keys are added and withdrawn without a restart. Only hashes of the
    keys are kept.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Args:
            path: The file.
            clock: Seconds; for tests.

        Raises:
            ConfigError: It cannot be read, or holds no key.
        """
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[bytes, str] = {}
        if not self._read():
            raise ConfigError(f"auth.keys_file = {str(path)!r}: cannot be read; name a file with one key a line")
        if not self._names:
            raise ConfigError(f"auth.keys_file = {str(path)!r}: holds no key; write one a line, or `name:key`")

    def name_of(self, key: str) -> str | None:
        """Return the name of a key, None when it is not valid; takes equally long for each."""
        if self._clock() - self._looked_at >= _LOOK_INTERVAL_S:
            self._looked_at = self._clock()
            self._read()
        given, found = _hash(key), None
        for known, name in self._names.items():
            if hmac.compare_digest(given, known):
                found = name
        return found

    def _read(self) -> bool:
        """Read the file if it changed; a file that is gone for a moment leaves the keys as they are."""
        try:
            state = self._path.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            if seen == self._seen:
                return True
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        self._seen = seen
        self._names = {}
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.strip()
            if line and not line.startswith("#"):
                name, separator, key = line.partition(":")
                name, key = (name.strip(), key.strip()) if separator else (f"key on line {number}", line)
                if key:
                    self._names[_hash(key)] = name
        return True


class RateLimiter:
    """A token bucket for each caller, of bounded number."""

    def __init__(self, config: RateLimitConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets.

        Args:
            config: Rate and size of the buckets.
            clock: Seconds; for tests.
        """
        self._rate = config.requests_per_s
        self._burst = float(config.burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Take a token of a caller.

        Raises:
            OverloadedError: There is none; says when there will be.
        """
        if not self._rate:
            return
        now = self._clock()
        tokens, filled_at = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - filled_at) * self._rate)
        is_allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if is_allowed else tokens, now)
        if len(self._buckets) > _MAX_CALLERS:
            self._buckets.popitem(last=False)
        if not is_allowed:
            wait_s = (1.0 - tokens) / self._rate
            raise OverloadedError(
                f"more than {self._rate:g} requests a second (and {self._burst:.0f} at once); try again in "
                f"{wait_s:.1f} s",
                retry_after_s=wait_s,
                is_rate_limit=True,
            )


@dataclass(frozen=True)
class Caller:
    """Who asked.

    Attributes:
        key_name: Name of the key used; empty where none is asked for.
    """

    key_name: str = ""


class Guard:
    """Looks at each request before anything of its body is read."""

    def __init__(self, auth: AuthConfig, rate_limit: RateLimitConfig) -> None:
        """Read the keys, if any are asked for.

        Raises:
            ConfigError: The file of keys cannot be read, or holds none.
        """
        self._keys = KeyFile(Path(auth.keys_file)) if auth.keys_file else None
        self._limiter = RateLimiter(rate_limit)

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return who asks.

        Args:
            headers: Names in lower case; of gRPC the metadata.

        Raises:
            DeniedError: There is no key, or not a valid one.
        """
        if self._keys is None:
            return Caller()
        key = _key_of(headers)
        if not key:
            raise DeniedError(f"this server asks for a key: {_HOW}")
        name = self._keys.name_of(key)
        if name is None:
            raise DeniedError(f"the key is not valid: {_HOW}")
        return Caller(name)

    def limit(self, caller: Caller, address: str) -> None:
        """Count a request of a caller, or of its address where no keys are asked for.

        Raises:
            OverloadedError: Too many of them.
        """
        self._limiter.take(f"key {caller.key_name}" if caller.key_name else address)


def _key_of(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key", "").strip()


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
