"""Dataset preparation: items a second, and peak memory against the number of items.

    python benchmarks/data_packing.py [--counts 2000 20000] [--repeats 1] [--masks]

Makes frames of clips (20 each) as 320x240 JPEGs with three boxes (with --masks an ellipse in each), seed 0, then runs
the whole of `prepare_dataset` on them (check of each image by hash and reduced decoding, split, packing, leak audit),
each run in a process of its own whose peak resident memory is measured. Prints a Markdown table. Takes about two
minutes on two cores and 700 MB of the temporary folder.
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
from PIL import Image

from visionyard.data.artifacts import IMAGES, SHARDS, write_manifest
from visionyard.data.items import Box, Item, write_json_lines
from visionyard.data.prepare import prepare_dataset
from visionyard.data.shards import ShardWriter
from visionyard.digests import sha256_bytes
from visionyard.geometry import Mask

WIDTH, HEIGHT = 320, 240
FRAMES_A_CLIP = 20
BOXES_AN_IMAGE = 3
CLASSES = ("car", "bus", "bicycle", "person")


def make_jpeg(rng: np.random.Generator) -> bytes:
    """Encode a smooth random picture, about 18 kB."""
    coarse = rng.integers(0, 256, (HEIGHT // 12, WIDTH // 12, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def ellipse(left: float, top: float, width: float, height: float) -> Mask:
    """Return the mask of the ellipse in a box."""
    across = (np.arange(WIDTH) + 0.5 - left - width / 2) / (width / 2)
    down = (np.arange(HEIGHT) + 0.5 - top - height / 2) / (height / 2)
    return Mask.from_array(across[None] ** 2 + down[:, None] ** 2 < 1)


def make_items(shards: ShardWriter, count: int, *, has_masks: bool) -> Iterator[dict[str, Any]]:
    """Write `count` frames and yield their lines."""
    rng = np.random.default_rng(0)
    for number in range(count):
        clip, frame = divmod(number, FRAMES_A_CLIP)
        data = make_jpeg(rng)
        corners = rng.uniform(0, 100, (BOXES_AN_IMAGE, 2))
        boxes = [
            Box(
                CLASSES[int(rng.integers(len(CLASSES)))],
                (float(x), float(y), float(x) + 90, float(y) + 70),
                ellipse(x, y, 90, 70) if has_masks else None,
            )
            for x, y in corners
        ]
        key = f"clip-{clip:05d}-{frame:04d}"
        yield Item(
            key=key,
            source=f"videos/clip-{clip:05d}.mp4",
            group=f"videos/clip-{clip:05d}",
            sha256=sha256_bytes(data),
            width=WIDTH,
            height=HEIGHT,
            blob=shards.add(f"{key}.jpg", data),
            boxes=tuple(boxes),
            timestamp_s=frame / 2,
        ).to_json()


def make_artifacts(folder: Path, count: int, *, has_masks: bool) -> None:
    """Write empty sources and `count` frames."""
    for artifact, item_count in (("sources", 0), ("frames", count)):
        (folder / artifact).mkdir(parents=True)
        with ShardWriter(folder / artifact / SHARDS, artifact) as shards:
            write_json_lines(folder / artifact / IMAGES, make_items(shards, item_count, has_masks=has_masks))
        write_manifest(folder / artifact, artifact, {"classes": list(CLASSES)})


def measure(folder: Path) -> dict[str, float]:
    """Prepare the dataset in this process; return seconds and peak memory before and after, MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    prepare_dataset(folder / "sources", folder / "frames", folder / "dataset")
    elapsed = time.perf_counter() - start
    return {"elapsed_s": elapsed, "before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 20_000], help="items of each data set")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, of which the fastest counts")
    parser.add_argument("--masks", action="store_true", help="give each box a mask")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}\n")
    print("| items | MB | s | items/s | MB/s | peak memory, MiB | of which imports, MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in options.counts:
        with tempfile.TemporaryDirectory(prefix="visionyard-") as name:
            folder = Path(name)
            make_artifacts(folder, count, has_masks=options.masks)
            size_mb = sum(path.stat().st_size for path in (folder / "frames" / SHARDS).iterdir()) / 1e6
            command = [sys.executable, __file__, "--measure", str(folder)]
            runs = [json.loads(subprocess.check_output(command)) for _ in range(options.repeats)]
            best = min(runs, key=lambda run: float(run["elapsed_s"]))
            elapsed = best["elapsed_s"]
            rates = f"{count / elapsed:.0f} | {size_mb / elapsed:.1f}"
            print(f"| {count} | {size_mb:.0f} | {elapsed:.1f} | {rates} | {best['peak']:.0f} | {best['before']:.0f} |")


if __name__ == "__main__":
    main()
