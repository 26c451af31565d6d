"""Dataset versions against one object an image, both ways, through a store with latency.

    python benchmarks/dataset_store.py [--count 20000] [--part 1000] [--latency-ms 10]

Makes a dataset of `--count` images of 20 kB (random bytes, seed 0), starts SeaweedFS and before it, as a process of its
own, the proxy of tests/fixtures, which holds each request back for `--latency-ms`. Measures push and pull of a version,
a push of the same again and of one that differs in ten items, random reads with the requests each takes, and uploading
and fetching one object an image: one after another and with eight threads, on `--part` images, scaled to all (each
costs the same). Prints Markdown tables. Takes about three minutes on two cores and 3 GB of the temporary folder.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fixtures.fault_proxy import fault_proxy
from tests.fixtures.s3_server import s3_client
from tests.fixtures.seaweed import Seaweed
from visionyard import storage
from visionyard.data.artifacts import SHARDS, write_manifest
from visionyard.data.dataset import DATASET, INDEX, Dataset, Sample, index_schema
from visionyard.data.shards import ShardWriter
from visionyard.data.versions import open_version, pull, push
from visionyard.digests import canonical_json, sha256_bytes

IMAGE_BYTES = 20_000
SPLITS = {"train": 0.7, "val": 0.15, "test": 0.15}
READS = 50
BUCKET = "benchmark"


def make_dataset(folder: Path, count: int, *, changed: range = range(0)) -> Path:
    """Write a dataset of random images; `changed` ones have other bytes."""
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    first = 0
    for split, share in SPLITS.items():
        with ShardWriter(folder / SHARDS, split) as shards:
            for number in range(first, first + int(count * share)):
                data = np.random.default_rng((number, number in changed)).bytes(IMAGE_BYTES)
                key = f"clip-{number // 200:04d}/frame-{number % 200:05d}"
                row = {"key": key, "split": split, "group": key[:9], "source": f"{key[:9]}.mp4", "width": 320}
                row |= {"height": 240, "sha256": sha256_bytes(data), "class_ids": [0, 1], "boxes": [1.5, 2.5, 9, 9] * 2}
                label = canonical_json({name: row[name] for name in ("class_ids", "boxes", "sha256")}).encode()
                blob = shards.add_together([(f"{key}.jpg", data), (f"{key}.json", label)])[0]
                place = {"shard": blob.shard, "image_offset": blob.offset, "image_size": blob.size}
                rows.append(row | place | {"image_name": f"{key}.jpg", "timestamp_s": number / 30})
        first += int(count * share)
    with pq.ParquetWriter(folder / INDEX, index_schema()) as writer:
        for start in range(0, len(rows), 2048):
            writer.write_table(pa.Table.from_pylist(rows[start : start + 2048], schema=index_schema()))
    values = {"task": "detection", "classes": ["a", "b"], "digest": sha256_bytes(canonical_json(rows).encode())}
    write_manifest(folder, "dataset", values, name=DATASET)
    return folder


def serve_proxy(server: str, latency_s: float, pipe: Connection) -> None:
    """Run the proxy; answers each message with the requests so far."""
    with fault_proxy(server, latency_s=latency_s) as proxy:
        pipe.send(proxy.url)
        while pipe.recv() is not None:
            pipe.send(len(proxy.requests))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def file_by_file(
    address: str, samples: list[Sample], dataset: Dataset, back: Path, *, threads: int
) -> tuple[float, float]:
    """Return the seconds of uploading and of fetching one object an image."""
    back.mkdir()
    images = [(f"{address}/{number:05d}.jpg", dataset.image_bytes(sample)) for number, sample in enumerate(samples)]
    with ThreadPoolExecutor(threads) as pool:
        up, _ = timed(lambda: list(pool.map(lambda image: storage.write_bytes(*image), images)))
        names = [image[0] for image in images]
        down, _ = timed(
            lambda: list(pool.map(lambda name: storage.fetch_file(name, back / name.rpartition("/")[2]), names))
        )
    return up, down


def measure(folder: Path, count: int, part: int, requests: Callable[[], int]) -> dict[str, Any]:
    """Return all figures."""
    dataset = Dataset(make_dataset(folder / "dataset", count))
    store = f"s3://{BUCKET}/versions"
    before = requests()
    push_s, report = timed(lambda: push(dataset.folder, store, tag="benchmark:v1"))
    push_requests = requests() - before
    objects = storage.list_objects(store)
    pull_s, _ = timed(lambda: pull(f"{store}@benchmark:v1", folder / "back"))
    again_s, again = timed(lambda: push(dataset.folder, store, tag="benchmark:v1"))
    changed = make_dataset(folder / "changed", count, changed=range(count // 2, count // 2 + 10))
    ten_s, ten = timed(lambda: push(changed, store, tag="benchmark:v2"))
    figures = {
        "push_s": push_s,
        "pull_s": pull_s,
        "push_requests": push_requests,
        "objects": len(objects),
        "again_s": again_s,
        "again_bytes": again.sent_bytes,
        "ten_s": ten_s,
        "ten_items": ten.new_item_count,
        "ten_bytes": ten.sent_bytes,
        "size_mb": report.size_bytes / 1e6,
    }
    train = [dataset.sample("train", position) for position in range(part)]
    for threads in (1, 8):
        address = f"s3://{BUCKET}/files-{threads}"
        up, down = file_by_file(address, train, dataset, folder / f"files-{threads}", threads=threads)
        figures[f"up_{threads}_s"], figures[f"down_{threads}_s"] = up * count / part, down * count / part
    return figures | read_figures(dataset, f"{store}@{report.version}", requests)


def read_figures(dataset: Dataset, address: str, requests: Callable[[], int]) -> dict[str, Any]:
    """Return what random reads take: of a version just opened, and of one whose pages are known."""
    random = np.random.default_rng(0)
    samples = [dataset.sample("train", int(number)) for number in random.integers(0, dataset.count("train"), READS)]
    cold, warm = [], []
    before = requests()
    for sample in samples:
        seconds, data = timed(lambda sample=sample: open_version(address).read(sample.blob))
        assert sha256_bytes(data) == sample.sha256
        cold.append(seconds)
    cold_requests = (requests() - before) / READS
    version = open_version(address)
    version.item_hashes()
    before = requests()
    for sample in samples:
        seconds, data = timed(lambda sample=sample: version.read(sample.blob))
        assert sha256_bytes(data) == sample.sha256
        warm.append(seconds)
    return {
        "cold_ms": statistics.median(cold) * 1000,
        "cold_requests": cold_requests,
        "warm_ms": statistics.median(warm) * 1000,
        "warm_requests": (requests() - before) / READS,
    }


def print_tables(figures: dict[str, Any], count: int) -> None:
    """Print what was measured as Markdown."""
    print(f"\n{figures['size_mb']:,.0f} MB as a dataset of {count:,} images\n")
    print("| what | push s | ratio | pull s | ratio |\n| --- | ---: | ---: | ---: | ---: |")
    up, down = figures["push_s"], figures["pull_s"]
    print(f"| a version | {up:.1f} | 1 | {down:.1f} | 1 |")
    for threads, text in ((1, "one object an image, one at a time"), (8, "one object an image, eight at a time")):
        slow_up, slow_down = figures[f"up_{threads}_s"], figures[f"down_{threads}_s"]
        print(f"| {text} | {slow_up:.1f} | {slow_up / up:.1f} | {slow_down:.1f} | {slow_down / down:.1f} |")
    objects = figures["objects"]
    print(f"\n{objects} objects ({100 * objects / count:.2f} % of the images), {figures['push_requests']} requests\n")
    print("| a further push | s | items | bytes stored |\n| --- | ---: | ---: | ---: |")
    print(f"| of the same | {figures['again_s']:.1f} | 0 | {figures['again_bytes']:,} |")
    print(f"| of a version with ten other items | {figures['ten_s']:.1f} | {figures['ten_items']} ", end="")
    print(f"| {figures['ten_bytes']:,} |\n")
    print("| reading one item | median ms | requests |\n| --- | ---: | ---: |")
    print(f"| opening the version first | {figures['cold_ms']:.0f} | {figures['cold_requests']:.1f} |")
    print(f"| of an open version | {figures['warm_ms']:.0f} | {figures['warm_requests']:.1f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--part", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=10.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "server").mkdir()
        server = Seaweed(Path(name) / "server")
        server.start()
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        proxy = multiprocessing.get_context("spawn").Process(
            target=serve_proxy, args=(server.endpoint, arguments.latency_ms / 1000, theirs)
        )
        proxy.start()
        try:
            s3_client(server.endpoint).make_bucket(BUCKET)
            os.environ.update(server.environment | {"AWS_ENDPOINT_URL": ours.recv()})

            def requests() -> int:
                ours.send("count")
                return int(ours.recv())

            figures = measure(Path(name), arguments.count, arguments.part, requests)
            ours.send(None)
        finally:
            proxy.join(5)
            proxy.kill()
            server.stop()
    print_tables(figures, arguments.count)


if __name__ == "__main__":
    main()
