"""Inspecting, comparing and converting a dataset version: items a second, and peak memory against the number of items.

    python benchmarks/dataset_looking.py [--counts 10000 200000]

Makes dataset versions whose rows, five boxes each, all point to one JPEG of 64x48 px but have hashes of their own; then
runs each command's library function in a process of its own, whose peak resident memory is measured. Prints a Markdown
table. Takes about ten minutes on two busy cores and 1.6 GB of the temporary folder.
"""

import argparse
import io
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from visionyard.data.artifacts import SHARDS, write_manifest
from visionyard.data.dataset import DATASET, INDEX, index_schema
from visionyard.data.inspection import inspect_images
from visionyard.data.inspection.difference import compare
from visionyard.data.items import SPLITS, Problems
from visionyard.data.labelled import version_images
from visionyard.data.shards import ShardWriter
from visionyard.data.writers import choose_target, write_as

CLASSES = ["car", "bus", "bicycle"]
WIDTH, HEIGHT = 64, 48
BOXES_AN_IMAGE = 5
ROWS_A_BATCH = 5000
COMMANDS = ("inspect", "diff", "convert")


def make_version(folder: Path, count: int, *, moved_every: int = 0) -> None:
    """Write a dataset version; of every `moved_every` items the boxes of one lie elsewhere."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    folder.mkdir()
    with ShardWriter(folder / SHARDS, "train") as writer:
        blob = writer.add("image.jpg", stream.getvalue())
    where = {"shard": blob.shard, "image_name": "image.jpg", "image_offset": blob.offset, "image_size": blob.size}
    with pq.ParquetWriter(folder / INDEX, index_schema()) as index:
        for start in range(0, count, ROWS_A_BATCH):
            rows = list(make_rows(range(start, min(start + ROWS_A_BATCH, count)), count, where, moved_every))
            index.write_table(pa.Table.from_pylist(rows, schema=index_schema()))
    values = {"task": "detection", "classes": CLASSES, "digest": str(count), "leak": {"is_leaky": False}}
    write_manifest(folder, "dataset", values, name=DATASET)


def make_rows(numbers: range, count: int, where: dict[str, Any], moved_every: int) -> Iterator[dict[str, Any]]:
    """Yield rows of the index, the first half for train, a quarter each for val and test."""
    for number in numbers:
        shift = 1.5 if moved_every and number % moved_every == 0 else 0.0
        boxes = [(4.0 * place + shift, 3.0 * place, 4.0 * place + 20 + shift, 30.0) for place in range(BOXES_AN_IMAGE)]
        yield {
            "key": f"item-{number:07d}",
            "split": SPLITS[max(0, 4 * number // count - 1)],
            "group": f"group-{number // 10}",
            "source": f"clips/{number // 10}/{number}.jpg",
            "timestamp_s": None,
            "width": WIDTH,
            "height": HEIGHT,
            "sha256": f"{number:064x}",
            "class_ids": [(number + place) % len(CLASSES) for place in range(BOXES_AN_IMAGE)],
            "boxes": [value for box in boxes for value in box],
            **where,
        }


def run(command: str, folder: Path) -> None:
    """Run one command's library function and print its seconds and peak memory as JSON."""
    started = time.perf_counter()
    labelled = version_images(folder / "one")
    if command == "inspect":
        inspect_images(labelled)
    elif command == "diff":
        compare(labelled, version_images(folder / "two"))
    else:
        with tempfile.TemporaryDirectory(dir=folder) as target:
            write_as(labelled, Path(target, "coco"), choose_target("coco"), Problems())
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"elapsed_s": time.perf_counter() - started, "peak_bytes": peak_bytes}))


def main() -> None:
    """Measure each command at each count and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--run", nargs=2, metavar=("COMMAND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run[0], Path(arguments.run[1]))
        return
    lines = [f"{platform.processor() or platform.machine()}, Python {platform.python_version()}", ""]
    lines += ["| command | items | s | items/s | peak MB |", "| --- | --- | --- | --- | --- |"]
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            make_version(Path(folder, "one"), count)
            make_version(Path(folder, "two"), count, moved_every=1000)
            for command in COMMANDS:
                done = subprocess.run(
                    [sys.executable, __file__, "--run", command, folder], check=True, capture_output=True, text=True
                )
                values = json.loads(done.stdout)
                elapsed_s, peak_mb = values["elapsed_s"], values["peak_bytes"] / 1e6
                lines.append(f"| {command} | {count:,} | {elapsed_s:.1f} | {count / elapsed_s:,.0f} | {peak_mb:.0f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
