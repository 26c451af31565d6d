"""What every decoder process has in common: how it is started and bounded, and how its end is told."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from errno import ENOMEM
from pathlib import Path
from typing import BinaryIO

# A frame takes milliseconds; two minutes without one is no slow disk any more.
NO_PROGRESS_TIMEOUT_S = 120.0
# Address space of one process. On two cores a 1080p clip takes 0.9 GiB of it, an 8K one 2.0 GiB (0.2 and 1.2 resident);
# a decoder has up to 16 threads, each with frames of its own.
MEMORY_LIMIT_BYTES = 6 << 30
OUT_OF_MEMORY = f"decoding it takes more than {MEMORY_LIMIT_BYTES >> 30} GiB of memory"


class DecoderProcess:
    """A process that decodes, seen from its parent; it may die without harm.

    Attributes:
        input: Its standard input, not buffered.
        output: Its standard output, not buffered.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Start it; what it prints on standard error is kept for `end`."""
        self._log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.input, self.output = self._process.stdin, self._process.stdout

    def end(self) -> str:
        """End the process when it still runs, close its streams, and say how it ended."""
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        self._log.seek(0)
        lines = self._log.read()[-4096:].decode(errors="replace").strip().splitlines()
        self.close()
        # Addresses differ from run to run, and this ends up in a file whose bytes must not.
        return f"{how} ({re.sub(r'0x[0-9a-fA-F]+', '0x...', lines[-1].strip())})" if lines else how

    def close(self) -> None:
        """End the process when it still runs, and close its streams."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self.input, self.output, self._log):
            stream.close()


def become_decoder(memory_bytes: int) -> int:
    """Make this process one that decodes: bounded in memory, and nothing but answers on its standard output.

    Args:
        memory_bytes: Most address space.

    Returns:
        The file descriptor that answers are written to.
    """
    # Ctrl-C reaches the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # what a decoder prints must not end up among the answers
    _limit_memory(memory_bytes)
    return answers


def _limit_memory(limit_bytes: int) -> None:
    if sys.platform != "linux":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is expected; no one reads its dump
    # In a container that runs out of memory the kernel shall end this process and not the stage.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory did not suffice.

    Loading a library beyond the limit is told as an error of the system, not as a MemoryError.
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == ENOMEM)
