import os
from pathlib import Path

import pytest

from visionyard.config.serving_config import AuthConfig, RateLimitConfig
from visionyard.errors import ConfigError, DeniedError, OverloadedError
from visionyard.serving import guard
from visionyard.serving.guard import Caller, Guard, KeyFile, RateLimiter


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("line", "key", "name"),
    [
        pytest.param("alice:abc", "abc", "alice", id="named"),
        pytest.param("abc", "abc", "key on line 1", id="bare"),
        pytest.param("  alice : abc  ", "abc", "alice", id="spaces"),
        pytest.param("alice:a:b", "a:b", "alice", id="colon-in-key"),
        pytest.param("alice:abc", "alice:abc", None, id="whole-line-is-no-key"),
        pytest.param("alice:abc", "ab", None, id="beginning"),
        pytest.param("alice:abc", "", None, id="empty"),
        pytest.param("alice:abc", "\ud800", None, id="lone-surrogate"),
    ],
)
def test_keys_have_names(line: str, key: str, name: str | None, tmp_path: Path) -> None:
    assert KeyFile(write(tmp_path / "keys", line)).name_of(key) == name


@pytest.mark.parametrize("text", ["", "# only this\n\n", "alice:\n"])
def test_a_file_without_a_key_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no key"):
        KeyFile(write(tmp_path / "keys", text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope"):
        KeyFile(tmp_path / "nope")


def test_a_changed_file_is_read_again_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", "old")
    keys = KeyFile(path, clock=clock)

    path.write_text("brand-new")
    assert keys.name_of("old") is not None
    clock.now += 1
    assert (keys.name_of("old"), keys.name_of("brand-new")) == (None, "key on line 1")


def test_a_file_that_is_gone_leaves_the_keys_and_an_emptied_one_withdraws_them(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", "abc")
    keys = KeyFile(path, clock=clock)

    path.rename(tmp_path / "away")
    clock.now += 1
    assert keys.name_of("abc") is not None

    path.write_text("")
    clock.now += 1
    assert keys.name_of("abc") is None


def test_a_file_with_the_same_size_and_another_content_is_noticed(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", "abc")
    keys = KeyFile(path, clock=clock)

    path.write_text("xyz")
    os.utime(path, ns=(1, 1))
    clock.now += 1

    assert (keys.name_of("abc"), keys.name_of("xyz")) == (None, "key on line 1")


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(RateLimitConfig(requests_per_s=2.0, burst=3), clock=clock)

    for _ in range(3):
        limiter.take("a")
    with pytest.raises(OverloadedError, match="more than 2 requests a second") as caught:
        limiter.take("a")
    assert caught.value.is_rate_limit
    assert caught.value.retry_after_s == pytest.approx(0.5)

    clock.now += 0.5
    limiter.take("a")
    with pytest.raises(OverloadedError):
        limiter.take("a")
    limiter.take("b")


def test_a_rested_caller_has_no_more_than_a_burst() -> None:
    clock = Clock()
    limiter = RateLimiter(RateLimitConfig(requests_per_s=2.0, burst=3), clock=clock)
    limiter.take("a")

    clock.now += 1e6
    for _ in range(3):
        limiter.take("a")

    with pytest.raises(OverloadedError):
        limiter.take("a")


def test_no_rate_is_no_limit() -> None:
    limiter = RateLimiter(RateLimitConfig(requests_per_s=0, burst=1))

    for _ in range(100):
        limiter.take("a")


def test_callers_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_MAX_CALLERS", 10)
    limiter = RateLimiter(RateLimitConfig(requests_per_s=1, burst=1), clock=Clock())
    for number in range(1000):
        limiter.take(str(number))

    assert len(limiter._buckets) == 10
    with pytest.raises(OverloadedError):
        limiter.take("999")
    limiter.take("0")


def test_without_keys_everyone_may_ask_and_is_counted_by_address() -> None:
    door = Guard(AuthConfig(), RateLimitConfig(requests_per_s=0.001, burst=1))

    caller = door.identify({})
    door.limit(caller, "10.0.0.1")
    door.limit(caller, "10.0.0.2")
    with pytest.raises(OverloadedError):
        door.limit(caller, "10.0.0.1")


def test_with_keys_callers_are_counted_by_key(tmp_path: Path) -> None:
    path = write(tmp_path / "keys", "alice:abc\n")
    door = Guard(AuthConfig(keys_file=str(path)), RateLimitConfig(requests_per_s=0.001, burst=1))

    caller = door.identify({"authorization": "Bearer abc"})

    assert caller == Caller("alice")
    door.limit(caller, "10.0.0.1")
    with pytest.raises(OverloadedError):
        door.limit(caller, "10.0.0.2")
    with pytest.raises(DeniedError, match="asks for a key"):
        door.identify({})
    with pytest.raises(DeniedError, match="not valid"):
        door.identify({"x-api-key": "abd"})
