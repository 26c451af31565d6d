"""Run events and exit reports in an object store, which knows no appending.

<prefix>/<run>/<stage>.exit.json                the exit report of the last try that failed
<prefix>/<run>/<stage>/<attempt>/00001.jsonl    events, a part a flush; never written again
                                 beat.jsonl     the last heartbeat and progress; written anew every ten seconds

A killed stage leaves its beginning and its last sign of life. A store that is away ends no stage: that is told once on
standard error, and what was not written goes with the next part.
"""

import sys
import threading
from collections.abc import Mapping
from typing import Any

from visionyard.errors import StorageError
from visionyard.events import ExitReport, event_line, report_text
from visionyard.storage.addresses import join, shown
from visionyard.storage.transfer import list_objects, read_bytes, write_bytes

_BEAT = "beat.jsonl"


class EventLog:
    """The events of one try of a stage."""

    def __init__(self, prefix: str, *, run: str, stage: str, attempt: str) -> None:
        """Open the log of one try.

        Args:
            prefix: The address that all runs share.
            run: The run's name; empty: its events lie directly below the prefix.
            stage: The stage's name; empty for events of the run itself.
            attempt: Another for each try.
        """
        self._run_folder = _folder(prefix, run)
        self._folder = join(self._run_folder, f"{stage or 'run'}/{attempt}")
        self._waiting: list[str] = []
        self._progress = ""
        self._part = 0
        self._is_told = False
        self._state, self._writing = threading.Lock(), threading.Lock()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add an event: progress waits for the next heartbeat, everything else is written at once."""
        line, kind = event_line(record), record["kind"]
        if kind == "progress":
            self._progress = line
            return
        if kind == "heartbeat":
            self._put(_BEAT, line + self._progress)
            return
        with self._state:
            self._waiting.append(line)
        with self._writing:
            with self._state:
                lines, self._waiting = self._waiting, []
            if lines and self._put(f"{self._part + 1:05d}.jsonl", "".join(lines)):
                self._part += 1
            else:
                with self._state:
                    self._waiting = lines + self._waiting

    def keep_report(self, report: ExitReport) -> None:
        """Write the exit report."""
        write_bytes(join(self._run_folder, f"{report.stage}.exit.json"), report_text(report).encode())

    def _put(self, name: str, text: str) -> bool:
        try:
            write_bytes(join(self._folder, name), text.encode())
        except StorageError as error:
            if not self._is_told:
                sys.stderr.write(f"run events are not written: {error}\n")
                self._is_told = True
            return False
        self._is_told = False
        return True


def read_text(prefix: str, *, run: str = "") -> str:
    """Return the lines of all events of a run, in no order.

    Args:
        prefix: The address that all runs share.
        run: The run's name; empty: everything below the prefix.

    Raises:
        StorageError: The store refused or timed out.
    """
    parts = [info.address for info in list_objects(_folder(prefix, run)) if info.key.endswith(".jsonl")]
    return "".join(read_bytes(address).decode("utf-8", errors="replace") for address in parts)


def _folder(prefix: str, run: str) -> str:
    if "/" in run or run in {".", ".."}:
        raise StorageError(f"run {run!r}: expected a name without slashes, as it names a folder below {shown(prefix)}")
    return join(prefix, run)
