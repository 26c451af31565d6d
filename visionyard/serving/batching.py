"""Dynamic batching: requests that meet share an inference, and more than a bound of them are turned away.

One queue a model. Each of a few threads takes what is queued, at most `max_size` rows of it, runs the model and hands
every item its own rows of the outputs. With no delay nothing ever waits for company, yet what arrived while all
inferences were taken goes together, so batches grow by themselves as the load does.

Admission comes before any work: an image counts from `admit` (before it is decoded) to `release` (when it is answered),
and what would go over `queue_size` is refused at once. That bounds the memory of a server: bodies by queue_size times
limits.max_body_mib, inputs by queue_size times the model's input.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from visionyard.errors import DeadlineError, OverloadedError, ShapeError

Run = Callable[[np.ndarray], list[np.ndarray]]
# How fast the measured throughput follows a change: the newest second has this weight.
_NEWEST_WEIGHT = 0.3
_MIN_RETRY_S, _MAX_RETRY_S = 0.1, 30.0


def _ignore(_first: float, _second: float) -> None:
    """Take no notice."""


class BatchItem:
    """Rows that belong together, and the future of their outputs.

    The future keeps its callbacks, so these must not refer to the item: a ring of references would keep the rows of
    every request in memory until Python looks for such rings.

    Attributes:
        rows: (N, ...) float32, C-contiguous.
        deadline: On the clock of `time.monotonic`; past it the item is not run any more. None: it waits for ever.
        on_run: Called with the seconds that the item was queued and those of the inference it was in.
        outputs: The rows of every output that belong to the item. Cancelling it takes the item out of the queue.
        queued_at: When it was queued, on the clock of `time.perf_counter`.
    """

    __slots__ = ("deadline", "on_run", "outputs", "queued_at", "rows")

    def __init__(
        self, rows: np.ndarray, deadline: float | None, *, on_run: Callable[[float, float], None] = _ignore
    ) -> None:
        """Queue nothing yet; see `DynamicBatcher.submit`."""
        self.rows = rows
        self.deadline = deadline
        self.on_run = on_run
        self.outputs: Future[list[np.ndarray]] = Future()
        self.queued_at = time.perf_counter()

    def __len__(self) -> int:
        return len(self.rows)


class DynamicBatcher:
    """The queue of one model and the threads that empty it."""

    def __init__(
        self,
        run: Run,
        *,
        name: str,
        instances: int,
        max_size: int,
        max_delay_s: float,
        queue_size: int,
        on_batch: Callable[[int, int], None] = _ignore,
        item: str = "image",
    ) -> None:
        """Start the threads.

        Args:
            run: From (N, ...) float32 to outputs of N rows each; called by `instances` threads at once.
            name: For messages and thread names.
            instances: Inferences at the same time.
            max_size: Most rows of an inference.
            max_delay_s: How long a thread waits for a batch to fill once it has one item.
            queue_size: Most rows admitted and not yet released.
            on_batch: Called before each inference with its rows and the rows left in the queue.
            item: What people call what a row stands for.
        """
        self._run = run
        self._item = item
        self._name = name
        self._instances = instances
        self._max_size = max_size
        self._max_delay_s = max_delay_s
        self._queue_size = queue_size
        self._on_batch = on_batch
        self._condition = threading.Condition()
        self._items: deque[BatchItem] = deque()
        self._queued_count = 0
        self._running_count = 0
        self._admitted_count = 0
        self._is_refusing = False
        self._is_closed = False
        self._throughput = _Throughput()
        self._threads = [
            threading.Thread(target=self._work, name=f"infer-{name}-{number}", daemon=True)
            for number in range(instances)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def admitted_count(self) -> int:
        """Rows admitted and not yet released."""
        return self._admitted_count

    @property
    def queued_count(self) -> int:
        """Rows waiting for an inference."""
        return self._queued_count

    @property
    def is_refusing(self) -> bool:
        """Whether the batcher takes no new work any more."""
        return self._is_refusing

    def admit(self, count: int) -> None:
        """Count rows in, all or none of them; pair it with `release`.

        Raises:
            OverloadedError: There is no room for them, or the batcher is closing; it says when to try again.
        """
        with self._condition:
            if self._is_refusing:
                raise OverloadedError(f"model {self._name} is being unloaded; try again, or another server")
            if self._admitted_count + count > self._queue_size:
                raise OverloadedError(
                    f"model {self._name} has {self._admitted_count} {self._item}s in work, at most {self._queue_size} "
                    "are admitted; try again later",
                    retry_after_s=self._throughput.seconds_for(self._admitted_count + count - self._queue_size),
                )
            self._admitted_count += count

    def release(self, count: int) -> None:
        """Count rows out that were admitted and are answered, refused or given up."""
        with self._condition:
            self._admitted_count -= count
            self._throughput.add(count)
            if self._is_refusing:
                self._condition.notify_all()

    def submit(self, item: BatchItem, *, here: bool = False) -> None:
        """Queue an item; its future gets the outputs.

        The future's callbacks run in an inference thread: they have to be short, or hand on.

        Args:
            item: Its rows, at most `max_size`.
            here: The calling thread may run it, which it does when nothing is queued and an inference is free. The rows
                are then still in the processor's cache and no thread has to be woken.

        Raises:
            OverloadedError: The batcher is closed.
        """
        with self._condition:
            if self._is_closed:
                raise OverloadedError(f"model {self._name} is unloaded; try another server")
            item.queued_at = time.perf_counter()
            here = here and not self._items and self._running_count < self._instances
            if here:
                self._running_count += 1
            else:
                self._items.append(item)
                self._queued_count += len(item)
                self._wake()
        if here:
            self._run_batch([item], 0)

    def close(self, *, timeout_s: float | None = None) -> bool:
        """Refuse new work, finish what was admitted, end the threads.

        Args:
            timeout_s: How long what was admitted may take; what is still queued then fails with OverloadedError. None
                waits as long as it takes.

        Returns:
            Whether all was finished; if not, an inference may still run.
        """
        latest = None if timeout_s is None else time.monotonic() + timeout_s
        with self._condition:
            self._is_refusing = True
            self._condition.wait_for(self._is_done, timeout_s)
            self._is_closed = True
            left = list(self._items)
            self._items.clear()
            self._queued_count = 0
            self._condition.notify_all()
        for item in left:
            if item.outputs.set_running_or_notify_cancel():
                item.outputs.set_exception(OverloadedError(f"model {self._name} was unloaded before its turn"))
        for thread in self._threads:
            thread.join(None if latest is None else max(0.0, latest - time.monotonic()))
        return self._admitted_count == 0 and not any(thread.is_alive() for thread in self._threads)

    def _is_done(self) -> bool:
        return self._is_closed or (self._admitted_count == 0 and not self._items)

    def _work(self) -> None:
        while True:
            with self._condition:
                taken = self._take_when_ready()
                if taken is None:
                    return
                depth = self._queued_count
            self._run_batch(taken, depth)
            del taken  # not until the next ones come: their rows may be large

    def _run_batch(self, taken: list[BatchItem], depth: int) -> None:
        """Run those of the taken items that are still wanted; the caller has counted the inference in."""
        try:
            # Futures run their callbacks here, so outside the lock.
            batch = [item for item in taken if _is_wanted(item, self._name)]
            if batch:
                self._on_batch(sum(len(item) for item in batch), depth)
                self._answer(batch)
        finally:
            with self._condition:
                self._running_count -= 1
                self._wake()

    def _take_when_ready(self) -> list[BatchItem] | None:
        condition = self._condition
        while not self._items or self._running_count >= self._instances:
            if self._is_closed:
                return None
            condition.wait()
        if self._max_delay_s > 0:
            full_by = self._items[0].queued_at + self._max_delay_s
            while 0 < self._queued_count < self._max_size and not self._is_closed:
                remaining_s = full_by - time.perf_counter()
                if remaining_s <= 0 or not condition.wait(remaining_s):
                    break
        taken: list[BatchItem] = []
        count = 0
        while self._items and (not taken or count + len(self._items[0]) <= self._max_size):
            # A batch has one shape of rows.
            if taken and self._items[0].rows.shape[1:] != taken[0].rows.shape[1:]:
                break
            item = self._items.popleft()
            count += len(item)
            taken.append(item)
        self._queued_count -= count
        self._running_count += 1
        self._wake()
        return taken

    def _wake(self) -> None:
        """Wake a thread for the next inference when there is work and room for it."""
        if self._items and self._running_count < self._instances:
            # Who waits in `close` could take a single call for itself.
            self._condition.notify(len(self._threads) + 1 if self._is_refusing else 1)

    def _answer(self, batch: list[BatchItem]) -> None:
        started_at = time.perf_counter()
        try:
            outputs = self._infer(batch)
        except Exception as error:  # whatever it is, the callers have to learn of it and the thread has to go on
            if len(batch) == 1:
                batch[0].outputs.set_exception(error)
                return
            # One bad item must not fail its neighbours.
            for item in batch:
                self._answer([item])
            return
        infer_s = time.perf_counter() - started_at
        first = 0
        for item in batch:
            item.on_run(started_at - item.queued_at, infer_s)
            last = first + len(item)
            item.outputs.set_result([output[first:last] for output in outputs])
            first = last

    def _infer(self, batch: list[BatchItem]) -> list[np.ndarray]:
        rows = batch[0].rows if len(batch) == 1 else np.concatenate([item.rows for item in batch])
        outputs = self._run(rows)
        for output in outputs:
            if not output.ndim or len(output) != len(rows):
                raise ShapeError(
                    f"model {self._name}: expected outputs of {len(rows)} rows for a batch of {len(rows)}, got "
                    f"{output.shape}; export it with a free batch size"
                )
        return outputs


def _is_wanted(item: BatchItem, name: str) -> bool:
    """Return whether an item is still to be run; an expired one gets its error."""
    if not item.outputs.set_running_or_notify_cancel():
        return False
    if item.deadline is not None and time.monotonic() >= item.deadline:
        item.outputs.set_exception(DeadlineError(f"model {name}: the deadline passed while the image was queued"))
        return False
    return True


class _Throughput:
    """How many rows are answered a second, of late."""

    def __init__(self) -> None:
        self._rate_per_s = 0.0
        self._count = 0
        self._since = time.monotonic()

    def add(self, count: int) -> None:
        self._count += count
        elapsed_s = time.monotonic() - self._since
        if elapsed_s >= 1.0:
            newest = self._count / elapsed_s
            self._rate_per_s = (
                newest if not self._rate_per_s else self._rate_per_s + _NEWEST_WEIGHT * (newest - self._rate_per_s)
            )
            self._count = 0
            self._since = time.monotonic()

    def seconds_for(self, count: int) -> float:
        """Return how long rows take at the present rate, within bounds; a second while nothing is known."""
        if not self._rate_per_s:
            return 1.0
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, count / self._rate_per_s))
