"""The near end of a benchmark worker: start it, send a command, read the answer."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from visionyard.errors import ModelError

# Characters of what a dead worker said that go into the message.
_LAST_WORDS = 2000


class Worker:
    """One worker process; a context manager that ends it."""

    def __init__(self, bundle: Path, format_name: str, threads: int, images: Path) -> None:
        """Start the process; it imports its libraries while others start.

        Args:
            bundle: The model bundle.
            format_name: Of the bundle's formats.
            threads: Intra-operator threads.
            images: Folder of encoded images.
        """
        self.name = f"{format_name} with {threads} {'thread' if threads == 1 else 'threads'}"
        task = {"bundle": str(bundle), "format": format_name, "threads": threads, "images": str(images)}
        self._errors = TemporaryFile()  # noqa: SIM115 (open as long as the process; closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "visionyard.benchmark.worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # Libraries with a pool of their own obey this one, and only at their start.
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes, see above
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        with suppress(BrokenPipeError):  # a dead one cannot be told the last, unsent command
            self._input.close()
        self._process.wait()
        self._output.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return the answer.

        Raises:
            ModelError: The worker ended; the message holds its last words.
            MemoryError: It was killed, as the system does when memory ends.
        """
        try:
            self._input.write(json.dumps(command) + "\n")
            self._input.flush()
        except BrokenPipeError:
            raise self._death() from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            ModelError: The worker ended; the message holds its last words.
            MemoryError: It was killed, as the system does when memory ends.
        """
        line = self._output.readline()
        if not line:
            raise self._death()
        values: dict[str, Any] = json.loads(line)
        return values

    def _death(self) -> Exception:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return MemoryError(f"benchmark of {self.name}: the process was killed, most likely out of memory")
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-_LAST_WORDS:]
        return ModelError(f"benchmark of {self.name}: the process ended with code {code}: {words or 'it said nothing'}")
