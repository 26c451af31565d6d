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

from visionyard.stage_resources import held_resources

# A frame takes milliseconds; two minutes without one is no slow disk any more.
NO_PROGRESS_TIMEOUT_S = 120.0
# With 16 threads, the most there are, a 1080p clip takes 0.4 GiB and an 8K one 1.1 GiB (0.2 and 0.9 resident).
_MEMORY_LIMIT_BYTES = 6 << 30
# Of what a container holds, which a kubelet ends whole when it runs out. The rest is for the parent (0.3 GiB) and for
# clips beside: two that are hungry at once are more than there is.
_MEMORY_SHARE = 0.75


def memory_limit_bytes() -> int:
    """Return the most memory of one decoder process: 6 GiB, or three quarters of what the container holds."""
    held = held_resources().memory_bytes
    return min(_MEMORY_LIMIT_BYTES, int(held * _MEMORY_SHARE)) if held else _MEMORY_LIMIT_BYTES


def out_of_memory_text(limit_bytes: int) -> str:
    """Return what is said of a video that takes more memory than there may be."""
    return f"decoding it takes more than {limit_bytes / (1 << 30):.3g} GiB of memory"


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
        memory_bytes: Most memory of its own, as `memory_limit_bytes`.

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

    # Not address space alone, of which 16 threads reserve 1 GiB that they do not use; it is the bound where a sandbox
    # counts no data.
    for kind, most in ((resource.RLIMIT_DATA, limit_bytes), (resource.RLIMIT_AS, _MEMORY_LIMIT_BYTES)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is expected; no one reads its dump
    # In a container that runs out of memory the kernel shall end this process and not the stage.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory did not suffice.

    Loading a library beyond the limit is told as an error of the system, not as a MemoryError.
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == ENOMEM)
