"""Work on many things in threads: OpenCV, Pillow, hashing and reading let go of Python's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from visionyard.stage_resources import core_count

Position = TypeVar("Position")
Result = TypeVar("Result")
# Calls ahead of the one waited for: enough to keep the threads busy. What a call holds is gone when it ends; what it
# returns should be small.
_WAITING = 64


def in_threads(work: Callable[[Position], Result], positions: Iterable[Position]) -> Iterator[Result]:
    """Yield the result of `work` for each position, in order, as many at a time as the container has cores."""
    remaining = iter(positions)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(core_count()) as pool:
        waiting.extend(pool.submit(work, position) for position in islice(remaining, _WAITING))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, position) for position in islice(remaining, 1))
        finally:
            for call in waiting:
                call.cancel()
