"""What ONNX Runtime's settings do to the speed of a detector and a classifier, for one caller and for two at once.

    python benchmarks/onnx_settings.py                       about 3 minutes on two cores
    python benchmarks/onnx_settings.py --seconds 0.3 --rounds 1
    python benchmarks/onnx_settings.py --detector BUNDLE --classifier BUNDLE

Threads, arena, spinning and allocator are tried in all combinations; the graph level by itself, beside the defaults.
Each configuration runs in fresh processes, in turn, in an order that is turned round each round; the figures are the
medians over the rounds. Without bundles the models are yolo11n at 320 px and mobilenet_v3_small at 224 px with random
weights: the speed does not depend on what they learned.
"""

import argparse
import ctypes.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

_WARM_UP = 3
_KINDS = ("detector", "classifier")


@dataclass(frozen=True)
class Settings:
    """One configuration."""

    threads: int
    has_arena: bool
    is_spinning: bool
    level: str
    allocator: str

    def text(self) -> str:
        """Return it as cells of a table row."""
        words = {True: "on", False: "off"}
        return f"{self.threads} | {words[self.has_arena]} | {words[self.is_spinning]} | {self.level} | {self.allocator}"


def configurations(core_count: int, allocators: list[str]) -> list[Settings]:
    """Return what is tried."""
    threads = sorted({1, core_count})
    grid = [
        Settings(count, has_arena, is_spinning, "all", allocator)
        for count, has_arena, is_spinning, allocator in product(threads, (True, False), (False, True), allocators)
    ]
    levels = [Settings(core_count, True, False, level, "malloc") for level in ("none", "basic", "extended")]
    return [*grid, *levels]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--detector", type=Path, help="a model bundle")
    parser.add_argument("--classifier", type=Path, help="a model bundle")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return
    cores = len(os.sched_getaffinity(0))
    jemalloc = ctypes.util.find_library("jemalloc")
    tried = configurations(cores, ["malloc", *(["jemalloc"] if jemalloc else [])])
    print(f"{cores} cores, load {os.getloadavg()[0]:.2f}, {len(tried)} configurations, {options.rounds} rounds")
    if not jemalloc:
        print("jemalloc is not installed (apt-get install libjemalloc2): only the C library's malloc is tried")
    rows = []
    with tempfile.TemporaryDirectory(prefix="visionyard-settings-") as scratch:
        for kind in _KINDS:
            given: Path | None = getattr(options, kind)
            path, size_hw = from_bundle(given) if given else make_model(kind, Path(scratch))
            found: dict[Settings, list[dict[str, float]]] = {settings: [] for settings in tried}
            for turn in range(options.rounds):
                for settings in tried if turn % 2 == 0 else reversed(tried):
                    task = {"path": str(path), "size_hw": size_hw, "seconds": options.seconds, **asdict(settings)}
                    found[settings].append(ask(task, jemalloc))
            rows += [(kind, settings, medians(figures)) for settings, figures in found.items()]
            print_table(kind, [(settings, figures) for name, settings, figures in rows if name == kind])
    if options.json:
        values = [{"model": kind, **asdict(settings), **figures} for kind, settings, figures in rows]
        options.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def ask(task: dict[str, Any], jemalloc: str | None) -> dict[str, float]:
    """Measure one configuration in a process of its own: the allocator is chosen when a process starts."""
    environment = dict(os.environ)
    if task["allocator"] == "jemalloc" and jemalloc:
        environment["LD_PRELOAD"] = jemalloc
    command = [sys.executable, __file__, "--worker", json.dumps(task)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def work(task: dict[str, Any]) -> dict[str, float]:
    """Return p50 and images a second for one caller and for two, and the most memory held."""
    import numpy as np

    from visionyard.benchmark.worker import peak_memory_bytes
    from visionyard.inference.onnx_backend import OnnxBackend, OnnxOptions

    options = OnnxOptions(is_spinning=task["is_spinning"], has_arena=task["has_arena"], level=task["level"])
    backend = OnnxBackend(Path(task["path"]), task["threads"], options=options)
    batch = np.random.default_rng(0).random((1, 3, *task["size_hw"]), np.float32)
    for _ in range(_WARM_UP):
        backend.run_all(batch)
    one = call(lambda: backend.run_all(batch), 1, task["seconds"])
    two = call(lambda: backend.run_all(batch), 2, task["seconds"])
    return {
        "one_p50_ms": statistics.median(one) * 1000,
        "one_images_per_s": len(one) / task["seconds"],
        "two_p50_ms": statistics.median(two) * 1000,
        "two_images_per_s": len(two) / task["seconds"],
        "peak_mb": peak_memory_bytes() / 1e6,
    }


def call(run: Callable[[], object], callers: int, seconds: float) -> list[float]:
    """Call from several threads for a time; return how long each call took, seconds."""
    times: list[float] = []
    end = perf_counter() + seconds

    def repeat() -> None:
        while (start := perf_counter()) < end:
            run()
            times.append(perf_counter() - start)

    threads = [threading.Thread(target=repeat) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def medians(figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    return {name: statistics.median(one[name] for one in figures) for name in figures[0]}


def print_table(kind: str, rows: list[tuple[Settings, dict[str, float]]]) -> None:
    """Print a model's table, most images a second of two callers first."""
    print(f"\n{kind}\n")
    print("| threads | arena | spinning | level | allocator | one p50 ms | one img/s | two p50 ms | two img/s | MB |")
    print("| ---: | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for settings, figures in sorted(rows, key=lambda row: -row[1]["two_images_per_s"]):
        print(
            f"| {settings.text()} | {figures['one_p50_ms']:.2f} | {figures['one_images_per_s']:.0f} | "
            f"{figures['two_p50_ms']:.2f} | {figures['two_images_per_s']:.0f} | {figures['peak_mb']:.0f} |"
        )


def from_bundle(folder: Path) -> tuple[Path, tuple[int, int]]:
    """Return a bundle's ONNX file and the size of its input."""
    from visionyard.inference import Bundle

    bundle = Bundle.open(folder)
    return bundle.format_path("onnx"), bundle.manifest.preprocessing.size_hw


def make_model(kind: str, folder: Path) -> tuple[Path, tuple[int, int]]:
    """Write a model with random weights as ONNX."""
    import torch

    from visionyard.config import ModelConfig, TrainingConfig
    from visionyard.export.formats import write_onnx
    from visionyard.models import get_plugin
    from visionyard.training import make_plan

    name, preset, size_px = {
        "detector": ("yolo-detection", "yolo11n", 320),
        "classifier": ("torchvision-classification", "mobilenet_v3_small", 224),
    }[kind]
    plan = make_plan(
        ModelConfig(name=name, preset=preset),
        TrainingConfig(image_size_px=size_px),
        task="detection" if kind == "detector" else "classification",
        classes=[str(number) for number in range(10)],
    )
    torch.manual_seed(0)
    plugin = get_plugin(name)
    trained = plugin.load(plan, plugin.build(plan).state_dict())
    target = folder / kind
    target.mkdir()
    return write_onnx(trained.module, (3, size_px, size_px), target, opset=18).path, (size_px, size_px)


if __name__ == "__main__":
    main()
