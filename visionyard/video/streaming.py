"""Frames of a video, decoded in a process of its own: a file that makes a decoder abort ends that process alone.

Pixels arrive as the decoder made them, one frame after another, whatever the length of the video: the process waits
while nobody takes its frames.
"""

import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from visionyard.errors import MediaError, VisionyardError
from visionyard.video.pool import MEMORY_LIMIT_BYTES, NO_PROGRESS_TIMEOUT_S

# Kind, seconds, frame index, height, width of what follows; a fault's message has its length as height.
HEADER = struct.Struct("=cdQII")
FRAME, FAULT, READY, END = b"F", b"X", b"R", b"E"


@dataclass(frozen=True)
class StreamedFrame:
    """One frame.

    Attributes:
        time_s: Presentation time from the first frame.
        frame_index: Place among the decoded frames, from 0.
        image: (H, W, 3) uint8 RGB, upright.
    """

    time_s: float
    frame_index: int
    image: np.ndarray


def stream_command() -> list[str]:
    """Return the command of the decoder process, without its arguments."""
    return [sys.executable, "-m", "visionyard.video._stream_child"]


def stream_frames(
    path: Path, rate_hz: float, *, command: Sequence[str] | None = None, timeout_s: float = NO_PROGRESS_TIMEOUT_S
) -> Iterator[StreamedFrame]:
    """Yield the frame on the screen at each instant of a rate.

    Args:
        path: The video.
        rate_hz: Frames per second of video, above 0.
        command: Starts a process that speaks the protocol of `visionyard.video._stream_child`; None takes ours.
        timeout_s: A process that gives no frame for this long is ended.

    Raises:
        MediaError: The video cannot be read, not one frame decoded, or it ended its decoder.
        VisionyardError: The process ended before it was ready to work.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*(command or stream_command()), str(path), repr(rate_hz), str(MEMORY_LIMIT_BYTES)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
        )
        assert process.stdout is not None
        try:
            yield from _frames(path, process, process.stdout, log, timeout_s)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _frames(
    path: Path, process: "subprocess.Popen[bytes]", stream: IO[bytes], log: IO[bytes], timeout_s: float
) -> Iterator[StreamedFrame]:
    is_ready = False
    while True:
        header = _read(path, stream, HEADER.size, timeout_s)
        if len(header) < HEADER.size:
            raise _ended(path, process, log, is_ready=is_ready)
        kind, time_s, frame_index, height, width = HEADER.unpack(header)
        if kind == END:
            return
        if kind == READY:
            is_ready = True
            continue
        size = height if kind == FAULT else height * width * 3
        data = _read(path, stream, size, timeout_s)
        if len(data) < size:
            raise _ended(path, process, log, is_ready=True)
        if kind == FAULT:
            raise MediaError(data.decode())
        yield StreamedFrame(time_s, frame_index, np.frombuffer(data, np.uint8).reshape(height, width, 3))


def _read(path: Path, stream: IO[bytes], size: int, timeout_s: float) -> bytearray:
    """Return `size` bytes, fewer when the process ended."""
    data = bytearray(size)
    view, filled, deadline = memoryview(data), 0, time.monotonic() + timeout_s
    while filled < size:
        if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise MediaError(
                f"{path}: no frame was decoded for {timeout_s:g} s; convert it, to H.264 in MP4 for instance"
            )
        count = os.readv(stream.fileno(), [view[filled:]])
        if not count:
            break
        filled += count
    view.release()
    del data[filled:]
    return data


def _ended(path: Path, process: "subprocess.Popen[bytes]", log: IO[bytes], *, is_ready: bool) -> VisionyardError:
    code = process.wait()
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    log.seek(0)
    last = (log.read()[-4096:].decode(errors="replace").strip().splitlines() or [""])[-1]
    why = f"{how} ({last})" if last else how
    if not is_ready:
        return VisionyardError(
            f"{path}: the decoder process {why} before it was ready; check that PyAV can be imported"
        )
    return MediaError(f"{path}: the decoder process {why}; convert it with another tool, to H.264 in MP4 for instance")
