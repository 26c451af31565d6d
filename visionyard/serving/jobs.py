"""One request on its way through the threads: its parts, and the one future that its caller awaits."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from visionyard.errors import DeadlineError
from visionyard.serving.batching import BatchItem

Part = TypeVar("Part")


class Request(Generic[Part]):
    """The parts of one request. Each part ends once: answered, failed or dropped.

    The caller's event loop is woken once, by the last answer or the first error, whatever the number of parts.

    Attributes:
        deadline: On the clock of `time.monotonic`; infinite when there is none.
    """

    def __init__(self, weights: Sequence[int], deadline: float, *, on_end: Callable[[int], None]) -> None:
        """Start waiting; call it in the event loop of the caller.

        Args:
            weights: Of each part, the rows it stands for.
            deadline: When the answer is of no use any more.
            on_end: Called with the weight of each part that ended, from any thread.
        """
        self.deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._weights = weights
        self._answers: list[Part | None] = [None] * len(weights)
        self._left_count = len(weights)
        self._on_end = on_end
        self._lock = threading.Lock()
        self._items: list[BatchItem] = []
        self._is_given_up = False

    @property
    def is_wanted(self) -> bool:
        """Whether someone still waits for the answer."""
        return not self._is_given_up and time.monotonic() < self.deadline

    def attach(self, item: BatchItem) -> None:
        """Have an item cancelled when the request is given up."""
        with self._lock:
            self._items.append(item)
            is_late = self._is_given_up
        if is_late:
            item.outputs.cancel()

    def answer(self, index: int, part: Part) -> None:
        """Take the answer of a part."""
        with self._lock:
            self._answers[index] = part
            self._left_count -= 1
            is_last = self._left_count == 0
        self._on_end(self._weights[index])
        if is_last:
            self._wake(None)

    def fail(self, index: int, error: BaseException) -> None:
        """End a part, and with it the request, by an error."""
        self._give_up()
        self._on_end(self._weights[index])
        self._wake(error)

    def drop(self, index: int) -> None:
        """End a part that no one waits for any more."""
        self._on_end(self._weights[index])

    async def answers(self) -> list[Part]:
        """Return the answers of all parts, in order.

        Raises:
            DeadlineError: They were not there in time; what has not begun is dropped.
        """
        try:
            # No timer for ever: uvloop cannot set one.
            left_s = None if math.isinf(self.deadline) else self.deadline - time.monotonic()
            async with asyncio.timeout(left_s):
                await self._future
        except TimeoutError:
            raise DeadlineError("the answer was not ready by the request's deadline; try again later") from None
        finally:
            # Also when the caller was cancelled, as by a client that hung up.
            self._give_up()
        return [part for part in self._answers if part is not None]

    def _give_up(self) -> None:
        with self._lock:
            self._is_given_up = True
            items, self._items = self._items, []
        for item in items:
            item.outputs.cancel()

    def _wake(self, error: BaseException | None) -> None:
        # The caller's loop may be gone at the end of the process.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: BaseException | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)
