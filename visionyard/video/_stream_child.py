"""The process behind `visionyard.video.streaming`: decodes one video and writes its frames to standard output.

Started as `python -m visionyard.video._stream_child PATH RATE_HZ MEMORY_BYTES NAME`; errors call the video NAME.
"""

import os
import sys
from pathlib import Path

import numpy as np

from visionyard.errors import MediaError
from visionyard.video.decoding import VideoReader
from visionyard.video.process import become_decoder, is_out_of_memory, out_of_memory_text
from visionyard.video.sampling import every, shown_at
from visionyard.video.streaming import END, FAULT, FRAME, HEADER, READY


def main() -> None:
    """Write every frame that is due, then the end; a video that cannot be read is told as a fault."""
    path, rate_hz, memory_bytes, name = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    out = os.fdopen(become_decoder(memory_bytes), "wb", buffering=0)

    def put(
        kind: bytes,
        data: bytes | memoryview = b"",
        *,
        time_s: float = 0.0,
        index: int = 0,
        height: int = 0,
        width: int = 0,
    ) -> None:
        for part in (memoryview(HEADER.pack(kind, time_s, index, height, width)), memoryview(data)):
            while part:
                part = part[out.write(part) :]

    def put_fault(message: str) -> None:
        data = message.encode()
        put(FAULT, data, height=len(data))

    put(READY)
    try:
        # At a low rate minutes may lie between two frames that are due.
        with VideoReader(path, name=name, on_progress=lambda _: put(READY)) as reader:
            for frame in shown_at(reader.frames(), every(rate_hz), tick_s=reader.tick_s):
                image = np.ascontiguousarray(reader.to_rgb(frame))
                height, width = image.shape[:2]
                put(
                    FRAME,
                    image.reshape(-1).data,
                    time_s=float(frame.time_s),
                    index=frame.frame_index,
                    height=height,
                    width=width,
                )
    except MediaError as error:
        put_fault(str(error))
    except (MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        put_fault(f"{name}: {out_of_memory_text(memory_bytes)}; scale it down")
    else:
        put(END)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # nobody takes the frames any more
        os._exit(0)
