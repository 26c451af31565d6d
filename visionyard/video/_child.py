"""The decoder process: reads one request a line, extracts that clip, answers in lines; may die without harm.

Started as `python -m visionyard.video._child MEMORY_BYTES`. Requests on standard input: JSON objects with `path`,
`images_path`, `name`, `thread_count` and `settings`. Answers on standard output: an object of the kind `ready` once,
then for each request any number of `progress` and one of `done`, `unreadable`, `out_of_memory` and `os_error`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av.error

from visionyard.errors import MediaError
from visionyard.video.extraction import extract_clip
from visionyard.video.process import become_decoder, is_out_of_memory, out_of_memory_text
from visionyard.video.records import ExtractionSettings
from visionyard.video.retouching import Retouch

PROGRESS_INTERVAL_S = 0.2


def main(make_retouch: Callable[[], Retouch] | None = None) -> None:
    """Answer requests until standard input ends.

    Args:
        make_retouch: Makes what changes a frame before it is encoded; called once memory is bounded.
    """
    answers = os.fdopen(become_decoder(int(sys.argv[1])), "w", encoding="utf-8", buffering=1)

    def answer(kind: str, **values: Any) -> None:
        answers.write(json.dumps({"kind": kind, **values}) + "\n")

    parent = os.getppid()
    retouch = make_retouch() if make_retouch else None
    answer("ready")
    for line in sys.stdin:
        _serve(json.loads(line), answer, parent, retouch)


def _serve(request: dict[str, Any], answer: Callable[..., None], parent: int, retouch: Retouch | None) -> None:
    last_told = 0.0

    def tell(frame_count: int) -> None:
        nonlocal last_told
        now = time.monotonic()
        if now - last_told >= PROGRESS_INTERVAL_S:
            last_told = now
            if os.getppid() != parent:
                os._exit(1)  # nobody waits for the answer any more
            answer("progress", frame_count=frame_count)

    name = request["name"]
    try:
        extraction = extract_clip(
            Path(request["path"]),
            Path(request["images_path"]),
            ExtractionSettings(**request["settings"]),
            name=name,
            thread_count=request["thread_count"],
            on_progress=tell,
            retouch=retouch,
        )
    except MediaError as error:
        answer("unreadable", message=str(error).removeprefix(f"{name}: "))
    except (av.error.FFmpegError, MemoryError, OSError) as error:  # FFmpeg's own are of both kinds, or of neither
        if is_out_of_memory(error):
            answer("out_of_memory", message=out_of_memory_text(int(sys.argv[1])))
        elif isinstance(error, av.error.FFmpegError):
            answer("unreadable", message=f"cannot be decoded: {error.strerror or error}")
        elif isinstance(error, OSError):
            answer("os_error", errno=error.errno, message=error.strerror)
    else:
        answer("done", **extraction.to_json())


if __name__ == "__main__":
    main()
