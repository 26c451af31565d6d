"""The process that is measured: one format at one thread count, from encoded images, or rows, to predictions.

It is a process of its own so that memory and load time are those of the format alone. Its argument is a JSON object
with `bundle`, `format`, `threads`, `images`. It imports what it needs, answers `is_ready`, then each line of its input:

{"do": "load"}                                    {"load_ms"}
{"do": "call", "batch_size", "count", "first"}    {"calls": [[ms of each phase], ...], "peak_memory_bytes"}

The end of its input ends it.
"""

import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import cv2

from visionyard.inference import Bundle, Predictor
from visionyard.inference.openvino_backend import load_openvino
from visionyard.transforms import Content

PHASES = ("decode", "preprocess", "infer", "postprocess")


def main() -> None:
    """Serve the commands on standard input until it ends."""
    task = json.loads(sys.argv[1])
    # What a library prints must not mix with the answers: these go to a copy, standard output to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    cv2.setNumThreads(task["threads"])
    _import_runtime(task["format"])
    bundle = Bundle.open(Path(task["bundle"]))
    images = sorted(Path(task["images"]).iterdir())
    _answer(answers, {"is_ready": True})
    predictor: Predictor | None = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "load":
            start = perf_counter()
            backend = bundle.backend(task["format"], threads=task["threads"])
            load_ms = (perf_counter() - start) * 1000
            manifest = bundle.manifest
            predictor = Predictor(backend, manifest.preprocessing, manifest.postprocessing, manifest.classes)
            _answer(answers, {"load_ms": load_ms})
        elif predictor is not None:
            calls = list(_calls(predictor, images, command["batch_size"], command["count"], command["first"]))
            _answer(answers, {"calls": calls, "peak_memory_bytes": peak_memory_bytes()})


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, bytes.

    Linux carries `ru_maxrss` over from the process that started this one; VmHWM is this program's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _import_runtime(name: str) -> None:
    # Its import is not the model's load time.
    if name == "torchscript":
        import torch  # noqa: F401
    elif name == "openvino":
        load_openvino()
    else:
        import onnxruntime  # noqa: F401


def _calls(
    predictor: Predictor, images: list[Path], batch_size: int, count: int, first: int
) -> Iterator[tuple[float, ...]]:
    """Yield the milliseconds of each phase of `count` calls; call k takes the images after those of call k - 1."""
    for number in range(first, first + count):
        chosen = [images[(number * batch_size + place) % len(images)] for place in range(batch_size)]
        encoded = [path.read_bytes() for path in chosen]
        times = [perf_counter()]
        decoded: list[Content] = [predictor.preprocessing.decode(data) for data in encoded]
        times.append(perf_counter())
        batch, placements = predictor.preprocessing.apply_all(decoded)
        times.append(perf_counter())
        outputs = predictor.backend.run_all(batch)
        times.append(perf_counter())
        predictor.interpret(outputs, placements)
        times.append(perf_counter())
        yield tuple((end - start) * 1000 for start, end in pairwise(times))


def _answer(stream: TextIO, values: dict[str, Any]) -> None:
    stream.write(json.dumps(values) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
