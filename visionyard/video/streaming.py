"""Frames of a video, decoded in a process of its own: a file that makes a decoder abort ends that process alone.

Pixels arrive as the decoder made them, one frame after another, whatever the length of the video: the process waits
while nobody takes its frames.
"""

import os
import selectors
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from visionyard.errors import MediaError, VisionyardError
from visionyard.video.process import NO_PROGRESS_TIMEOUT_S, DecoderProcess, memory_limit_bytes

# Kind, seconds, frame index, height, width of what follows; a fault's message has its length as height. READY comes
# before the first frame is decoded and after each.
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


def stream_frames(
    path: Path,
    rate_hz: float,
    *,
    name: str = "",
    command: Sequence[str] | None = None,
    timeout_s: float = NO_PROGRESS_TIMEOUT_S,
) -> Iterator[StreamedFrame]:
    """Yield the frame on the screen at each instant of a rate.

    Args:
        path: The video.
        rate_hz: Frames per second of video, above 0.
        name: What to call it in errors; empty takes `path`.
        command: Starts a process that speaks the protocol of `visionyard.video._stream_child`; None takes ours.
        timeout_s: A process that gives no frame for this long is ended.

    Raises:
        MediaError: The video cannot be read, not one frame decoded, or it ended its decoder.
        VisionyardError: The process ended before it was ready to work.
    """
    name = name or str(path)
    command = command or [sys.executable, "-m", "visionyard.video._stream_child"]
    process = DecoderProcess([*command, str(path), repr(rate_hz), str(memory_limit_bytes()), name])
    try:
        yield from _frames(name, process, timeout_s)
    finally:
        process.close()


def _frames(name: str, process: DecoderProcess, timeout_s: float) -> Iterator[StreamedFrame]:
    is_ready = False
    while True:
        header = _read(name, process.output, HEADER.size, timeout_s)
        if len(header) < HEADER.size:
            raise _ended(name, process, is_ready=is_ready)
        kind, time_s, frame_index, height, width = HEADER.unpack(header)
        if kind == END:
            return
        if kind == READY:
            is_ready = True
            continue
        size = height if kind == FAULT else height * width * 3
        data = _read(name, process.output, size, timeout_s)
        if len(data) < size:
            raise _ended(name, process, is_ready=True)
        if kind == FAULT:
            raise MediaError(data.decode())
        yield StreamedFrame(time_s, frame_index, np.frombuffer(data, np.uint8).reshape(height, width, 3))


def _read(name: str, stream: IO[bytes], size: int, timeout_s: float) -> bytearray:
    """Return `size` bytes, fewer when the process ended."""
    data = bytearray(size)
    view, filled, deadline = memoryview(data), 0, time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:  # select.select refuses descriptors from 1024 on
        selector.register(stream, selectors.EVENT_READ)
        while filled < size:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise MediaError(
                    f"{name}: no frame was decoded for {timeout_s:g} s; convert it, to H.264 in MP4 for instance"
                )
            count = os.readv(stream.fileno(), [view[filled:]])
            if not count:
                break
            filled += count
    view.release()
    del data[filled:]
    return data


def _ended(name: str, process: DecoderProcess, *, is_ready: bool) -> VisionyardError:
    how = process.end()
    if not is_ready:
        return VisionyardError(
            f"{name}: the decoder process {how} before it was ready; check that PyAV can be imported"
        )
    return MediaError(f"{name}: the decoder process {how}; convert it with another tool, to H.264 in MP4 for instance")
