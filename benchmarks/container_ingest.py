"""Ingest of images out of container files and of tables: speed, and peak memory against their number.

    python benchmarks/container_ingest.py [--idx ../shared/data/fashion-mnist] [--counts 10000 60000] [--rows 100000]

IDX takes the first images of the set's training file, gzip and all; TFRecord the same images as PNG in
`tf.train.Example`; the table has ten columns of numbers and texts made with seed 0 (30 MB at 300,000 rows). Each run is
a process of its own whose peak resident memory is measured. Prints a Markdown table.
"""

import argparse
import gzip
import io
import platform
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from visionyard.data.formats.tf_example import encode_example
from visionyard.data.formats.tfrecord_wire import framed
from visionyard.data.ingest import ingest

PIXELS, SIDE = 784, 28


def make_idx(folder: Path, source: Path, count: int) -> None:
    """Write the first images of a set and their labels, packed as the original is."""
    for name, header_bytes, item_bytes in (("images-idx3", 16, PIXELS), ("labels-idx1", 8, 1)):
        file = f"train-{name}-ubyte.gz"
        with gzip.open(source / file) as stream:
            header, data = stream.read(header_bytes), stream.read(count * item_bytes)
        (folder / file).write_bytes(gzip.compress(header[:4] + struct.pack(">I", count) + header[8:] + data, 6))


def make_tfrecord(folder: Path, source: Path, count: int) -> None:
    """Write the same images as one TFRecord file."""
    with gzip.open(source / "train-images-idx3-ubyte.gz") as images, (folder / "train.tfrecord").open("wb") as out:
        images.read(16)
        for number in range(count):
            stream = io.BytesIO()
            Image.frombytes("L", (SIDE, SIDE), images.read(PIXELS)).save(stream, "PNG")
            example = {"image/encoded": [stream.getvalue()], "image/class/label": [number % 10]}
            out.write(framed(encode_example(example)))


def make_table(folder: Path, count: int) -> None:
    """Write a CSV of six columns of numbers, three of texts and a target of three classes."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "NA"])
    with (folder / "table.csv").open("w") as out:
        out.write(",".join([*(f"x{column}" for column in range(6)), "a", "b", "c", "kind"]) + "\n")
        for start in range(0, count, 10_000):
            rows = min(10_000, count - start)
            numbers, texts = rng.normal(size=(rows, 6)), words[rng.integers(0, 4, (rows, 3))]
            kinds = rng.integers(0, 3, rows)
            for row in range(rows):
                out.write(",".join([*(f"{x:.5f}" for x in numbers[row]), *texts[row], f"k{kinds[row]}"]) + "\n")


def run_one(kind: str, folder: Path) -> None:
    """Ingest a folder (a table is prepared, too) and print seconds, CPU seconds and peak megabytes."""
    started = time.perf_counter()
    if kind == "table":
        from visionyard.data.split import Splitting
        from visionyard.data.tables import ingest_table, prepare_table

        ingest_table(folder, folder / "out" / "sources", target_column="kind")
        prepare_table(folder / "out" / "sources", folder / "out" / "dataset", Splitting("group", 0.15, 0.2, 0))
    else:
        ingest(str(folder), folder.with_name("out") / "sources")
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which remembers the size of the process that this one was forked from.
    status = Path("/proc/self/status").read_text().split()
    peak_kb = int(status[status.index("VmHWM:") + 1])
    print(f"RESULT {seconds:.2f} {used.ru_utime + used.ru_stime:.2f} {peak_kb / 1024:.0f}")


def measure(kind: str, count: int, source: Path) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and peak megabytes of one run in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "in"
        folder.mkdir()
        if kind == "table":
            make_table(folder, count)
        else:
            {"idx": make_idx, "tfrecord": make_tfrecord}[kind](folder, source, count)
        command = [sys.executable, __file__, "--run", kind, str(folder)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in printed.splitlines() if line.startswith("RESULT"))
    seconds, cpu_seconds, peak_mb = map(float, line.split()[1:])
    return seconds, cpu_seconds, peak_mb


def main() -> None:
    """Measure each kind and count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--idx", type=Path, default=Path("../shared/data/fashion-mnist"))
    parser.add_argument("--counts", type=int, nargs="*", default=[10_000, 60_000])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--run", nargs=2)
    options = parser.parse_args()
    if options.run:
        run_one(options.run[0], Path(options.run[1]))
        return
    print(f"{platform.python_version()}, {platform.machine()}\n")
    print("| kind | items | s | items/s | CPU s, with imports | peak MB |\n|---|---|---|---|---|---|")
    counts = [("idx", count) for count in options.counts] + [("tfrecord", count) for count in options.counts]
    for kind, count in [*counts, *(("table", count) for count in options.rows)]:
        seconds, cpu_seconds, peak_mb = measure(kind, count, options.idx)
        figures = f"{seconds:.1f} | {count / seconds:,.0f} | {cpu_seconds:.1f} | {peak_mb:.0f}"
        print(f"| {kind} | {count:,} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
