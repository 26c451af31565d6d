"""Threads that fetch what a reader is about to ask for."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from visionyard.errors import VisionyardError

# A store 40 ms away gives sixteen readers of half a mebibyte 200 MB/s.
THREAD_COUNT = 16
AHEAD_BYTES = 64 << 20


class ReadAhead:
    """Fetches runs in the order of their first use, so many bytes ahead of the reader; ends with its last run.

    A fetch that fails is left to the reader, which then meets the error where it can be told.
    """

    def __init__(self, runs: Sequence[int], sizes: np.ndarray, fetch: Callable[[int], None]) -> None:
        """Begin.

        Args:
            runs: Each once, in the order of first use.
            sizes: (len(runs),) int64, their bytes.
            fetch: Fetches one; called from several threads.
        """
        self._runs = list(runs)
        self._fetch = fetch
        self._places = {run: place for place, run in enumerate(self._runs)}
        self._starts = np.cumsum(sizes) - sizes
        self._next = 0
        self._allowed_bytes = AHEAD_BYTES
        self._changed = threading.Condition()
        for _ in range(min(THREAD_COUNT, len(self._runs))):
            threading.Thread(target=self._work, name="visionyard-read-ahead", daemon=True).start()

    def reached(self, run: int) -> None:
        """Tell that the reader is at a run; those it had not announced do not count."""
        place = self._places.get(run)
        if place is not None and self._starts[place] + AHEAD_BYTES > self._allowed_bytes:
            with self._changed:
                self._allowed_bytes = int(self._starts[place]) + AHEAD_BYTES
                self._changed.notify_all()

    def close(self) -> None:
        """Begin no further fetch."""
        with self._changed:
            self._next = len(self._runs)
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._next < len(self._runs) and self._starts[self._next] >= self._allowed_bytes:
                    self._changed.wait()
                if self._next >= len(self._runs):
                    return
                run = self._runs[self._next]
                self._next += 1
            try:
                self._fetch(run)
            except (VisionyardError, OSError):
                continue
