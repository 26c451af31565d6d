"""Measure every format of a bundle at every batch size and thread count, in turns, so that none has the better hour."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionyard import events
from visionyard.benchmark.process import Worker
from visionyard.inference import Bundle

# A configuration is measured until it has its repeats, or this long when it has at least the fewest.
BUDGET_MS = 1500.0
FEWEST_REPEATS = 5
_ROUND_REPEATS = 5
# Warming up ends after this long: a model this slow has nothing left to warm.
_WARMUP_BUDGET_MS = 500.0


@dataclass(frozen=True)
class Measurement:
    """One format at one batch size and thread count; a call goes from encoded images to predictions.

    Attributes:
        format: As in the bundle.
        batch_size: Images a call.
        threads: Intra-operator threads.
        repeat_count: Calls that were timed.
        p50_ms: Half of the calls took at most this long.
        p95_ms: 95 of a hundred did.
        p99_ms: 99 of a hundred did.
        images_per_s: Images over the time of all calls.
        decode_ms: Of a call, on average: from encoded image to pixels.
        preprocess_ms: From pixels to the model's input.
        infer_ms: The model.
        postprocess_ms: From its output to predictions.
        load_ms: From file to a model that is ready, its library already imported.
        peak_memory_bytes: The most that the process held, its libraries included.
        file_bytes: Size of the format's file.
    """

    format: str
    batch_size: int
    threads: int
    repeat_count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    images_per_s: float
    decode_ms: float
    preprocess_ms: float
    infer_ms: float
    postprocess_ms: float
    load_ms: float
    peak_memory_bytes: int
    file_bytes: int


@dataclass
class _Run:
    worker: Worker
    format: str
    load_ms: float
    calls: list[list[float]]
    asked: int = 0
    peak_memory_bytes: int = 0

    def call(self, batch_size: int, count: int) -> list[list[float]]:
        answer = self.worker.ask(do="call", batch_size=batch_size, count=count, first=self.asked)
        self.asked += count
        self.peak_memory_bytes = answer["peak_memory_bytes"]
        calls: list[list[float]] = answer["calls"]
        return calls

    @property
    def spent_ms(self) -> float:
        return sum(sum(call) for call in self.calls)


def measure(
    bundle: Bundle,
    images: Path,
    *,
    batch_sizes: Sequence[int],
    threads: Sequence[int],
    repeat_count: int,
    warmup_count: int,
) -> Iterator[Measurement]:
    """Yield a measurement of each format at each batch size and thread count.

    For a thread count each format has one fresh process; their calls alternate. Batch sizes go up, so that the peak
    memory of each is its own.

    Args:
        bundle: Its formats are measured.
        images: Folder of encoded images that are used in turn.
        batch_sizes: Images a call.
        threads: Intra-operator threads.
        repeat_count: Timed calls of each combination, fewer when they take more than `BUDGET_MS`.
        warmup_count: Calls before the timed ones, fewer when they take long.

    Raises:
        ModelError: A format cannot be run.
    """
    sizes = sorted(set(batch_sizes))
    total, done = len(bundle.manifest.formats) * len(sizes) * len(set(threads)), 0
    for thread_count in sorted(set(threads)):
        with ExitStack() as opened:
            runs = _start(bundle, images, thread_count, opened)
            for batch_size in sizes:
                _alternate(runs, batch_size, repeat_count, warmup_count)
                for run in runs:
                    done += 1
                    events.progress(done, total, unit="configuration", label=f"{run.format} x{batch_size}")
                    yield _measurement(bundle, run, batch_size, thread_count)


def _start(bundle: Bundle, images: Path, threads: int, opened: ExitStack) -> list[_Run]:
    """Start all workers at once, since imports take longest, then load one after the other."""
    names = list(bundle.manifest.formats)
    workers = [opened.enter_context(Worker(bundle.folder, name, threads, images)) for name in names]
    for worker in workers:
        worker.answer()
    return [
        _Run(worker, name, worker.ask(do="load")["load_ms"], []) for name, worker in zip(names, workers, strict=True)
    ]


def _alternate(runs: list[_Run], batch_size: int, repeat_count: int, warmup_count: int) -> None:
    """Let the formats take turns, the order turned round each time, until each has its repeats or its time is up."""
    for run in runs:
        run.calls, run.asked = [], 0
        _warm_up(run, batch_size, warmup_count)
    order, open_runs = list(runs), list(runs)
    while open_runs:
        for run in order:
            if run in open_runs:
                run.calls += run.call(batch_size, min(_ROUND_REPEATS, repeat_count - len(run.calls)))
        order.reverse()
        open_runs = [
            run
            for run in open_runs
            if len(run.calls) < repeat_count and (run.spent_ms < BUDGET_MS or len(run.calls) < FEWEST_REPEATS)
        ]


def _warm_up(run: _Run, batch_size: int, count: int) -> None:
    spent_ms = 0.0
    for _ in range(count):
        spent_ms += sum(run.call(batch_size, 1)[0])
        if spent_ms > _WARMUP_BUDGET_MS:
            return


def _measurement(bundle: Bundle, run: _Run, batch_size: int, threads: int) -> Measurement:
    phases = np.array(run.calls)
    total = phases.sum(axis=1)
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(total, [50, 95, 99]))
    decode, preprocess, infer, postprocess = (round(float(value), 3) for value in phases.mean(axis=0))
    return Measurement(
        format=run.format,
        batch_size=batch_size,
        threads=threads,
        repeat_count=len(total),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        images_per_s=round(float(batch_size * len(total) / total.sum() * 1000), 1),
        decode_ms=decode,
        preprocess_ms=preprocess,
        infer_ms=infer,
        postprocess_ms=postprocess,
        load_ms=round(run.load_ms, 1),
        peak_memory_bytes=run.peak_memory_bytes,
        file_bytes=bundle.manifest.formats[run.format].bytes,
    )
