"""The response cache: what a key depends on, its bounds, that answers come back bit for bit, and Redis up and down."""

import json
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from visionyard.config.serving_config import CacheConfig
from visionyard.errors import ConfigError
from visionyard.geometry import Mask
from visionyard.serving.cache import CachedAnswer, MemoryTexts, RedisTexts, ResponseCache, open_cache
from visionyard.serving.options import PredictOptions
from visionyard.transforms import Classification, Detections

DETECTIONS = CachedAnswer(
    640,
    480,
    Detections(
        np.array([[0.1, 1 / 3, 639.9, 480.0], [1e-9, 2.0, 3.0, 4.0]]),
        np.array([3, 0], np.int64),
        np.array([0.9, 0.1], np.float32),
    ),
)
EMPTY = CachedAnswer(1, 2, Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.float32)))
OBJECTS = CachedAnswer(
    6,
    5,
    Detections(
        np.array([[0.0, 1.0, 2.0, 3.0]]),
        np.array([1], np.int64),
        np.array([0.5], np.float32),
        masks=[Mask.from_array(np.arange(30).reshape(5, 6) % 4 == 0)],
        keypoints=np.array([[[1.0, 2.0, 0.5], [3.0, 4.0, 0.1]]]),
    ),
)
CLASSIFICATION = CachedAnswer(5, 7, Classification(np.array([0.25, 0.7, 0.05], np.float32)))


def assert_equal(found: CachedAnswer | None, expected: CachedAnswer) -> None:
    assert found is not None
    assert (found.width, found.height, type(found.prediction)) == (
        expected.width,
        expected.height,
        type(expected.prediction),
    )
    for name, value in vars(expected.prediction).items():
        got = getattr(found.prediction, name)
        if not isinstance(value, np.ndarray):
            assert got == value
            continue
        assert got.dtype == value.dtype
        assert np.array_equal(got, value)


def memory(max_mib: float = 1.0, ttl_s: float = 100.0) -> ResponseCache:
    cache = open_cache(CacheConfig(max_mib=max_mib, ttl_s=ttl_s), on_failure=lambda: None)
    assert cache is not None
    return cache


def test_off_by_default() -> None:
    assert open_cache(CacheConfig(), on_failure=lambda: None) is None


@pytest.mark.parametrize(
    "answer", [DETECTIONS, EMPTY, OBJECTS, CLASSIFICATION], ids=["boxes", "none", "masks", "class"]
)
def test_answers_come_back_bit_for_bit(answer: CachedAnswer) -> None:
    cache = memory()
    assert cache.get("a") is None
    cache.put("a", answer)
    assert_equal(cache.get("a"), answer)


def test_an_answer_with_something_else_in_it_is_not_kept() -> None:
    cache = memory()
    cache.put("a", CachedAnswer(1, 1, Classification(np.array([object()]))))
    assert cache.get("a") is None


def test_a_key_is_the_content_the_bundle_and_what_was_asked() -> None:
    cache = memory()
    plain = cache.key(b"image", "d" * 64, PredictOptions())
    assert plain == cache.key(b"image", "d" * 64, PredictOptions(top_k=3)), "the list is cut when it is shown"
    others = [
        cache.key(b"other", "d" * 64, PredictOptions()),
        cache.key(b"image", "e" * 64, PredictOptions()),
        cache.key(b"image", "d" * 64, PredictOptions(confidence=0.5)),
        cache.key(b"image", "d" * 64, PredictOptions(iou=0.5)),
        cache.key(b"image", "d" * 64, PredictOptions(max_detections=5)),
    ]
    assert len({plain, *others}) == 6


def test_the_least_recently_used_go_first_and_bytes_are_bounded() -> None:
    texts = MemoryTexts(4000, 100.0)
    for name in "abc":
        texts.put(name, b"x" * 900)
    assert texts.get("a") is not None
    texts.put("d", b"x" * 900)
    assert [texts.get(name) is not None for name in "abcd"] == [True, False, True, True]
    assert texts.size_bytes <= 4000
    texts.put("a", b"y")
    texts.put("b", b"x" * 900)
    assert texts.get("a") == b"y", "a smaller text made room"
    texts.put("huge", b"x" * 4000)
    assert texts.get("huge") is None
    assert texts.get("a") == b"y", "what cannot be kept pushes nothing out"
    texts.close()
    assert texts.size_bytes == 0


def test_texts_are_forgotten_after_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("visionyard.serving.cache.time.monotonic", lambda: now)
    texts = MemoryTexts(4000, 10.0)
    texts.put("a", b"x")
    now = 109.9
    assert texts.get("a") == b"x"
    now = 110.0
    assert texts.get("a") is None
    assert texts.size_bytes == 0


def test_threads_share_it() -> None:
    texts = MemoryTexts(20_000, 100.0)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for number in rng.integers(0, 100, 2000):
            texts.put(str(number), bytes(int(number) * 10))
            texts.get(str(99 - number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < texts.size_bytes <= 20_000


def a_text(kind: str, **arrays: list) -> bytes:
    return json.dumps({"width": 1, "height": 1, "kind": kind, "arrays": arrays, "masks": {}}).encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no keys"),
        pytest.param(b"\xff", id="not text"),
        pytest.param(a_text("os"), id="unknown kind"),
        pytest.param(a_text("Classification"), id="no array"),
        pytest.param(a_text("Classification", probabilities=["|O", [1], "QUFBQUFBQUE="]), id="objects"),
        pytest.param(a_text("Classification", probabilities=["<f4", [9], "AAAAAA=="]), id="other shape"),
        pytest.param(a_text("Classification", probabilities=["<f4", [1], "AAAAAA=="], x=["<f4", [0], ""]), id="more"),
    ],
)
def test_a_text_that_is_none_of_ours_is_no_answer(text: bytes) -> None:
    texts = MemoryTexts(4000, 10.0)
    texts.put("a", text)
    assert ResponseCache([texts]).get("a") is None


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[tuple[int, Callable[[], None], Callable[[], None]]]:
    """A Redis of this test's own: its port, and how to stop and start it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server (apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(
            subprocess.Popen(
                [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
                stdout=subprocess.DEVNULL,
            )
        )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        pytest.fail("redis-server did not start")

    def stop() -> None:
        process = running.pop()
        process.terminate()
        process.wait(10)

    start()
    yield port, stop, start
    if running:
        stop()


def test_redis_is_shared_and_memory_is_asked_first(redis_port: tuple) -> None:
    port, stop, _ = redis_port
    failures: list[int] = []
    config = CacheConfig(max_mib=1, redis_url=f"redis://127.0.0.1:{port}/0", ttl_s=60)
    first = open_cache(config, on_failure=lambda: failures.append(1))
    second = open_cache(config, on_failure=lambda: failures.append(1))
    assert first is not None
    assert second is not None
    key = first.key(b"image", "d" * 64, PredictOptions())
    first.put(key, DETECTIONS)
    assert_equal(second.get(key), DETECTIONS)
    stop()
    assert_equal(second.get(key), DETECTIONS)  # kept in memory when it came from Redis
    assert failures == []
    first.close()
    second.close()


def test_redis_forgets(redis_port: tuple) -> None:
    import redis

    port, _, _ = redis_port
    cache = open_cache(CacheConfig(redis_url=f"redis://127.0.0.1:{port}", ttl_s=60), on_failure=lambda: None)
    assert cache is not None
    cache.put("a", CLASSIFICATION)
    with redis.Redis(port=port) as client:
        assert 0 < client.pttl("a") <= 60_000
    cache.close()


def test_a_redis_that_goes_away_fails_nothing_is_said_once_and_counted(
    redis_port: tuple, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, stop, start = redis_port
    now = 1000.0
    monkeypatch.setattr("visionyard.serving.cache.time.monotonic", lambda: now)
    failures: list[int] = []
    texts = RedisTexts(f"redis://:secret@127.0.0.1:{port}/0", 60, on_failure=lambda: failures.append(1))
    cache = ResponseCache([texts])
    with caplog.at_level(logging.INFO, logger="visionyard.serving.cache"):
        cache.put("a", CLASSIFICATION)
        assert_equal(cache.get("a"), CLASSIFICATION)
        stop()
        assert cache.get("a") is None
        assert len(failures) == 1
        for _ in range(100):  # left alone for a while: no connection is tried
            cache.put("a", CLASSIFICATION)
            assert cache.get("a") is None
        assert len(failures) == 1
        now += 5.0
        assert cache.get("a") is None
        assert len(failures) == 2
        start()
        now += 5.0
        cache.put("a", CLASSIFICATION)
        assert_equal(cache.get("a"), CLASSIFICATION)
    texts.close()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the cache's Redis does not answer (ConnectionError); going on without it",
        "the cache's Redis answers again",
    ]
    assert "secret" not in caplog.text


def test_a_silent_redis_costs_little() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        texts = RedisTexts(f"redis://127.0.0.1:{listener.getsockname()[1]}", 60, on_failure=lambda: None)
        start = time.perf_counter()
        assert texts.get("a") is None
        assert texts.get("a") is None
        assert time.perf_counter() - start < 2.0
        texts.close()


def test_a_url_that_is_none_and_a_client_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="not a Redis URL"):
        RedisTexts("redis://host:port", 60, on_failure=lambda: None)
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'visionyard\[redis\]'"):
        RedisTexts("redis://127.0.0.1", 60, on_failure=lambda: None)
