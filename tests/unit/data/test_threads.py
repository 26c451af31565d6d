"""Work in threads: order, number at a time, and what an error leaves undone."""

import time
from collections.abc import Iterator
from threading import Lock

import pytest

from visionyard.data import threads
from visionyard.data.threads import in_threads


@pytest.mark.parametrize("count", [3, 1], ids=["three cores", "one core"])
def test_results_come_in_order_from_as_many_threads_as_there_are_cores(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "core_count", lambda: count)
    lock, running, peaks = Lock(), set[int](), list[int]()

    def work(position: int) -> int:
        with lock:
            running.add(position)
            peaks.append(len(running))
        time.sleep(0.002 * (position % 3))
        with lock:
            running.remove(position)
        return -position

    assert list(in_threads(work, range(150))) == [-position for position in range(150)]
    assert max(peaks) == count


def test_an_error_ends_the_work_and_what_waits_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "core_count", lambda: 2)
    begun: list[int] = []

    def work(position: int) -> None:
        begun.append(position)
        time.sleep(0.01)
        if position == 2:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        list(in_threads(work, range(10_000)))
    assert len(begun) < 60


def test_positions_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def positions() -> Iterator[int]:
        for position in range(1000):
            taken.append(position)
            yield position

    assert next(in_threads(lambda position: position, positions())) == 0
    assert len(taken) < 100
