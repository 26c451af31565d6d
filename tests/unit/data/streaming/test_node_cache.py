"""The node's cache: whole entries, under the limit, made once, whoever is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visionyard.data.streaming.node_cache import NodeCache
from visionyard.errors import ConfigError, StorageError


def _held_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "entries").rglob("*") if path.is_file())


def _cache(folder: Path, limit_bytes: int = 1000) -> NodeCache:
    return NodeCache(folder / "cache", limit_bytes=limit_bytes)


def test_an_entry_is_made_once_and_read_in_part(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    assert cache.read("a", 0, 3) is None
    assert cache.add("a", lambda: b"0123456789") == b"0123456789"
    assert cache.add("a", lambda: pytest.fail("made again")) is None
    assert cache.read("a", 2, 3) == b"234"
    assert cache.read("a", 8, 5) == b"89"
    cache.drop("a")
    cache.drop("a")
    assert cache.read("a", 0, 3) is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = _cache(tmp_path, limit_bytes=350)
    for name in "abc":
        cache.add(name, lambda: bytes(100))
        time.sleep(0.01)
    cache.read("a", 0, 1)
    cache.add("d", lambda: bytes(100))
    assert [name for name in "abcd" if cache.read(name, 0, 1) is not None] == ["a", "c", "d"]


@pytest.mark.parametrize("total", ["", "garbage", "999999"], ids=["empty", "no number", "too large"])
def test_the_limit_holds_whatever_the_total_says(tmp_path: Path, total: str) -> None:
    cache = _cache(tmp_path, limit_bytes=1000)
    for number in range(9):
        cache.add(f"old-{number}", lambda: bytes(100))
    (cache.folder / "total_bytes").write_text(total)
    for number in range(20):
        cache.add(f"new-{number}", lambda: bytes(100))
        assert _held_bytes(cache.folder) <= 1000
    assert cache.read("new-19", 0, 1) is not None
    assert _held_bytes(cache.folder) > 800


def test_what_is_larger_than_the_limit_is_returned_and_not_kept(tmp_path: Path) -> None:
    cache = _cache(tmp_path, limit_bytes=100)
    assert cache.add("a", lambda: bytes(101)) == bytes(101)
    assert cache.read("a", 0, 1) is None


def _add_many(folder: Path, first: int) -> None:
    cache = NodeCache(folder, limit_bytes=20_000)
    for number in range(80):
        name = f"{(first + number) % 60}"
        data = cache.read(name, 0, 1000)
        if data is None:
            data = cache.add(name, lambda name=name: (name * 1000).encode()[:1000]) or b""  # type: ignore[misc]
        assert data in (b"", (name * 1000).encode()[:1000])
        assert _held_bytes_of_process(folder) <= 20_000


def _held_bytes_of_process(folder: Path) -> int:
    held = 0
    for entry in os.scandir(folder / "entries"):
        try:
            held += entry.stat().st_size
        except FileNotFoundError:
            continue
    return held


def test_processes_share_it_and_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_many, args=(tmp_path / "cache", first)) for first in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_while_one_makes_an_entry_another_waits_or_leaves_it(tmp_path: Path) -> None:
    cache = _cache(tmp_path)

    def make() -> bytes:
        assert NodeCache(cache.folder, limit_bytes=1000).add("a", lambda: b"other", is_waiting=False) is None
        return b"first"

    assert cache.add("a", make) == b"first"
    assert cache.read("a", 0, 5) == b"first"


def _fill(folder: Path) -> None:
    (folder / "x").write_bytes(bytes(300))


def test_a_folder_is_made_once_and_stays_while_it_is_used(tmp_path: Path) -> None:
    cache = _cache(tmp_path, limit_bytes=500)
    with cache.folder_entry("set", 300, _fill) as folder:
        assert folder is not None
        assert (folder / "x").stat().st_size == 300
        for number in range(5):
            cache.add(f"file-{number}", lambda: bytes(150))
        assert (folder / "x").exists()
        with cache.folder_entry("other", 300, _fill) as other:
            assert other is None
    with cache.folder_entry("set", 300, lambda _: pytest.fail("made again")) as folder:
        assert folder is not None
    with cache.folder_entry("other", 300, _fill) as other:
        assert other is not None
    assert not (cache.folder / "entries/set").exists()


def test_a_folder_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    cache = _cache(tmp_path, limit_bytes=100)
    with cache.folder_entry("set", 300, lambda _: pytest.fail("made")) as folder:
        assert folder is None
    assert list((cache.folder / "entries").iterdir()) == []


def test_a_failed_folder_is_made_again(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    with pytest.raises(OSError, match="no"), cache.folder_entry("set", 300, _fail):
        pytest.fail("yielded")
    with cache.folder_entry("set", 300, _fill) as folder:
        assert folder is not None
        assert (folder / "x").exists()


def _fail(folder: Path) -> None:
    (folder / "half").write_bytes(bytes(10))
    raise OSError("no")


_KILLED = """
import pathlib, sys, time
from visionyard.data.streaming.node_cache import NodeCache

def fill(folder):
    (folder / "half").write_bytes(bytes(200))
    print("begun", flush=True)
    time.sleep(60)

cache = NodeCache(pathlib.Path(sys.argv[1]), limit_bytes=1000)
with cache.folder_entry("set", 300, fill):
    pass
"""


def test_a_killed_maker_leaves_nothing_taken_for_complete(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(cache.folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGKILL)
    with cache.folder_entry("set", 300, _fill) as folder:
        assert folder is not None
        assert sorted(path.name for path in folder.iterdir()) == [".size_bytes", "x"]


def test_what_a_killed_maker_left_is_evicted(tmp_path: Path) -> None:
    cache = _cache(tmp_path, limit_bytes=500)
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(cache.folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    cache.add("file", lambda: bytes(400))
    assert cache.read("file", 0, 1) is not None
    assert _held_bytes(cache.folder) == 400


def test_the_environment_names_folder_and_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONYARD_CACHE_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("VISIONYARD_CACHE_BYTES", "12345")
    cache = NodeCache.of_node()
    assert (cache.folder, cache.limit_bytes) == (tmp_path / "there", 12345)
    monkeypatch.setenv("VISIONYARD_CACHE_BYTES", "20 GB")
    with pytest.raises(ConfigError, match="VISIONYARD_CACHE_BYTES = '20 GB': expected a number of bytes"):
        NodeCache.of_node()


def test_a_usual_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("VISIONYARD_CACHE_DIR")
    (tmp_path / "visionyard-cache-12345").mkdir()
    with pytest.raises(StorageError, match=r"cache-12345: belongs to another user; name .* in VISIONYARD_CACHE_DIR"):
        NodeCache.of_node()
    monkeypatch.setenv("VISIONYARD_CACHE_DIR", str(tmp_path / "visionyard-cache-12345"))
    assert NodeCache.of_node().limit_bytes <= 20 << 30
