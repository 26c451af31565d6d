"""Decoder processes that may crash, hang or eat memory without taking the run along.

A file from outside can make a decoder abort: `free(): invalid size` ends the process, and no `except` sees it. So clips
are decoded in processes of their own, used again from clip to clip and replaced when they die.
"""

import json
import os
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from visionyard.errors import VisionyardError
from visionyard.video.process import NO_PROGRESS_TIMEOUT_S, DecoderProcess, memory_limit_bytes
from visionyard.video.records import ClipExtraction, ExtractionSettings

# A crash may be the kernel's choice when memory was short; a clip that crashes a fresh process again, with no other
# clip beside it, is at fault.
_ATTEMPT_COUNT = 2
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Request:
    """One clip to extract.

    Attributes:
        name: What to call it.
        path: The clip's file.
        images_path: The file that the JPEGs are written to.
        settings: How frames are taken.
        thread_count: Threads of the decoder, 0: one a core.
    """

    name: str
    path: Path
    images_path: Path
    settings: ExtractionSettings
    thread_count: int = 0

    def to_line(self) -> bytes:
        """Return the request as the decoder process reads it."""
        values = {**asdict(self), "path": str(self.path), "images_path": str(self.images_path)}
        return json.dumps(values).encode() + b"\n"


@dataclass(frozen=True)
class Outcome:
    """What became of a request: either an extraction, or the code and the message of why there is none."""

    request: Request
    extraction: ClipExtraction | None
    code: str = ""
    message: str = ""


def default_command() -> list[str]:
    """Return the command of the decoder process."""
    return [sys.executable, "-m", "visionyard.video._child", str(memory_limit_bytes())]


@dataclass
class _Job:
    request: Request
    attempt_count: int = 0
    outcome: Outcome | None = None


class _Decoder:
    """One decoder process and what it is working on."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = DecoderProcess(command)
        self._unfinished = bytearray()
        self.is_ready = False
        self.job: _Job | None = None
        self.last_heard = time.monotonic()

    def start(self, job: _Job) -> None:
        self.job = job
        job.attempt_count += 1
        self.last_heard = time.monotonic()
        # It may have died between two clips; its end is then read from its output.
        with suppress(BrokenPipeError):
            self.process.input.write(job.request.to_line())

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the answers that have arrived, and whether the process has ended."""
        data = os.read(self.process.output.fileno(), _READ_BYTES)
        self.last_heard = time.monotonic()
        self._unfinished += data
        if b"\n" not in data:  # an answer may be megabytes long: looked through once
            return [], not data
        *lines, self._unfinished = self._unfinished.split(b"\n")
        return [json.loads(line) for line in lines], not data


class DecoderPool:
    """A few decoder processes that work through requests; a context manager that ends them."""

    def __init__(
        self,
        worker_count: int,
        *,
        command: Sequence[str] | None = None,
        timeout_s: float = NO_PROGRESS_TIMEOUT_S,
        window: int = 0,
        on_progress: Callable[[str, int], None] = lambda _name, _frame_count: None,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """Prepare; processes start with the first requests.

        Args:
            worker_count: Most processes at a time.
            command: Starts a decoder process that speaks the protocol of `visionyard.video._child`; None takes ours.
            timeout_s: A process that tells no progress for this long is ended.
            window: Most requests that are unfinished or wait for one before them; 0: two a process. A wide one keeps
                the processes busy beside a long clip.
            on_progress: Called with a request's name and the number of its frames decoded so far.
            on_outcome: Called with each outcome as soon as it is known, in any order.
        """
        self._worker_count = worker_count
        self._command = list(command or default_command())
        self._timeout_s = timeout_s
        self._window = window or 2 * worker_count
        self._on_progress, self._on_outcome = on_progress, on_outcome
        self._decoders: list[_Decoder] = []
        self._selector = selectors.DefaultSelector()
        self._again: deque[_Job] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in list(self._decoders):
            self._retire(decoder)
        self._selector.close()

    def run(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcome of each request, in their order whatever finishes first.

        Requests are drawn when a process is free and the window has room, so that scratch files stay few.

        Raises:
            OSError: A process could not read or write its scratch files, for instance because the disk is full.
            VisionyardError: A process ended before it was ready to work.
        """
        source = iter(requests)
        pending: deque[_Job] = deque()
        while True:
            self._assign(source, pending)
            if not pending:
                return
            if pending[0].outcome is not None:
                yield pending.popleft().outcome  # type: ignore[misc]
                continue
            self._listen()

    def _assign(self, source: Iterator[Request], pending: deque[_Job]) -> None:
        while not any(decoder.job is not None and decoder.job.attempt_count > 1 for decoder in self._decoders):
            idle = next((decoder for decoder in self._decoders if decoder.job is None), None)
            if idle is None and len(self._decoders) >= self._worker_count:
                return
            job = self._next_job(source, pending)
            if job is None:
                return
            (idle or self._hire()).start(job)

    def _next_job(self, source: Iterator[Request], pending: deque[_Job]) -> _Job | None:
        request = next(source, None) if len(pending) < self._window else None
        if request is not None:
            pending.append(_Job(request))
            return pending[-1]
        is_alone = all(decoder.job is None for decoder in self._decoders)
        return self._again.popleft() if self._again and is_alone else None

    def _hire(self) -> _Decoder:
        decoder = _Decoder(self._command)
        self._decoders.append(decoder)
        self._selector.register(decoder.process.output, selectors.EVENT_READ, decoder)
        return decoder

    def _retire(self, decoder: _Decoder) -> None:
        self._selector.unregister(decoder.process.output)
        self._decoders.remove(decoder)
        decoder.process.close()

    def _listen(self) -> None:
        """Wait for answers, handle them, and end processes that have been silent for too long."""
        busy = [decoder for decoder in self._decoders if decoder.job is not None]
        deadline = min(decoder.last_heard + self._patience_s(decoder) for decoder in busy)
        for key, _ in self._selector.select(max(0.0, deadline - time.monotonic())):
            decoder: _Decoder = key.data
            answers, has_ended = decoder.read()
            for answer in answers:
                self._handle(decoder, answer)
            if has_ended:
                self._bury(decoder)
        for decoder in list(self._decoders):
            if decoder.job is not None and time.monotonic() - decoder.last_heard > self._patience_s(decoder):
                if not decoder.is_ready:
                    raise VisionyardError(
                        f"the decoder process was not ready within {self._patience_s(decoder):g} s; check that "
                        f"`{' '.join(self._command)}` starts"
                    )
                self._give_up(decoder, decoder.job, f"no frame was decoded for {self._timeout_s:g} s")

    def _patience_s(self, decoder: _Decoder) -> float:
        """Return how long a process may be silent. Before it is ready that is its imports, no fault of the clip."""
        return self._timeout_s if decoder.is_ready else max(self._timeout_s, NO_PROGRESS_TIMEOUT_S)

    def _handle(self, decoder: _Decoder, answer: dict[str, Any]) -> None:
        kind = answer.pop("kind")
        if kind == "ready":
            decoder.is_ready = True
        job = decoder.job
        if job is None or kind == "ready":
            return
        request = job.request
        if kind == "progress":
            self._on_progress(request.name, answer["frame_count"])
        elif kind == "out_of_memory":
            self._give_up(decoder, job, answer["message"])
        elif kind == "os_error":
            raise OSError(answer["errno"], answer["message"], str(request.images_path))
        else:
            decoder.job = None
            if kind == "done":
                self._settle(job, Outcome(request, ClipExtraction.from_json(answer)))
            else:
                self._settle(job, Outcome(request, None, "clip_undecodable", answer["message"]))

    def _bury(self, decoder: _Decoder) -> None:
        how, job = decoder.process.end(), decoder.job
        if not decoder.is_ready:
            raise VisionyardError(
                f"the decoder process {how} before it was ready; check that `{' '.join(self._command)}` starts"
            )
        self._retire(decoder)
        if job is None:
            return
        if job.attempt_count < _ATTEMPT_COUNT:
            self._again.append(job)
            return
        self._crash(job, f"the decoder process {how}, at {job.attempt_count} attempts")

    def _give_up(self, decoder: _Decoder, job: _Job, why: str) -> None:
        self._retire(decoder)
        self._crash(job, why)

    def _crash(self, job: _Job, why: str) -> None:
        message = f"{why}; the clip was left out; convert it with another tool, to H.264 in MP4 for instance"
        self._settle(job, Outcome(job.request, None, "clip_crashed_decoder", message))

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        job.outcome = outcome
        self._on_outcome(outcome)
