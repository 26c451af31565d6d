"""What several test folders share."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visionyard.data.artifacts import write_manifest
from visionyard.data.dataset import index_schema
from visionyard.data.shards import ShardWriter

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return a function from a data set's name to its folder, which skips the test where it is absent."""
    root = Path(os.environ.get("VISIONYARD_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            pytest.skip(f"needs the real data set {name} in {root} (set VISIONYARD_SHARED_DATA)")
        return folder

    return find


def _encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_dataset(folder: Path, *, task: str, classes: list[str], rows: list[dict[str, Any]]) -> Path:
    """Write a dataset version by hand, as visionyard.data.dataset documents it.

    Each row has `split`, `image` ((H, W, 3) uint8), `class_ids`, for detection `xyxy`; `group` is its key by default.
    """
    table = []
    folder.mkdir(parents=True)
    for split in ("test", "train", "val"):
        with ShardWriter(folder / "shards", split) as writer:
            for number, row in enumerate(row for row in rows if row["split"] == split):
                key = row.get("key", f"{split}-{number:04d}")
                data = _encode_png(row["image"])
                blob = writer.add(f"{key}.png", data)
                table.append(
                    {
                        "key": key,
                        "split": split,
                        "group": row.get("group", key),
                        "source": f"{key}.png",
                        "timestamp_s": None,
                        "width": row["image"].shape[1],
                        "height": row["image"].shape[0],
                        "sha256": hashlib.sha256(data).hexdigest(),
                        "class_ids": [int(value) for value in row["class_ids"]],
                        "boxes": np.asarray(row["xyxy"], float).ravel().tolist() if task == "detection" else None,
                        "shard": blob.shard,
                        "image_name": f"{key}.png",
                        "image_offset": blob.offset,
                        "image_size": blob.size,
                    }
                )
    pq.write_table(pa.Table.from_pylist(table, schema=index_schema()), folder / "index.parquet")
    digest = hashlib.sha256(repr([(row["key"], row["sha256"], row["class_ids"]) for row in table]).encode()).hexdigest()
    counts = {split: sum(row["split"] == split for row in table) for split in ("train", "val", "test")}
    values = {"task": task, "classes": classes, "digest": digest, "counts": counts, "leak": {"is_leaky": False}}
    write_manifest(folder, "dataset", values, name="dataset.json")
    return folder


_SHAPES = ("square", "disc")


def draw_shape(random: np.random.Generator, class_id: int, size_px: int) -> tuple[np.ndarray, list[float]]:
    """Return a noisy picture with one bright square or dark disc, and its box."""
    image = random.integers(90, 130, (size_px, size_px, 3)).astype(np.uint8)
    side = int(random.integers(size_px // 4, size_px // 2))
    left, top = (int(value) for value in random.integers(0, size_px - side, 2))
    rows, columns = np.mgrid[0:size_px, 0:size_px]
    inside = (columns >= left) & (columns < left + side) & (rows >= top) & (rows < top + side)
    if class_id:
        centre_x, centre_y = left + side / 2, top + side / 2
        inside = (columns + 0.5 - centre_x) ** 2 + (rows + 0.5 - centre_y) ** 2 < (side / 2) ** 2
    image[inside] = (20, 30, 160) if class_id else (240, 220, 60)
    return image, [left, top, left + side, top + side]


@pytest.fixture
def shapes_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small dataset version of squares and discs, learnable in seconds."""

    def make(task: str, *, train: int = 24, val: int = 8, test: int = 8, size_px: int = 64, seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        rows = []
        for split, count in (("train", train), ("val", val), ("test", test)):
            for number in range(count):
                image, xyxy = draw_shape(random, number % 2, size_px)
                rows.append({"split": split, "image": image, "class_ids": [number % 2], "xyxy": [xyxy]})
        return write_dataset(tmp_path / f"dataset-{task}-{seed}", task=task, classes=list(_SHAPES), rows=rows)

    return make
