"""Small dataset versions and made-up models for the tests of the evaluation."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from visionyard.data.artifacts import write_manifest
from visionyard.data.dataset import Dataset
from visionyard.data.shards import ShardWriter
from visionyard.transforms import Classification, Detections, Prediction


def _png(seed: int, width: int = 64, height: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


Row = dict[str, Any]


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Dataset]:
    """Return a function that writes a dataset version from rows: split, class_ids, boxes, perhaps key and group."""

    def write(folder: Path, task: str, classes: Sequence[str], rows: Sequence[Row], **info: Any) -> Dataset:
        numbered = [{"key": f"item-{number:03d}", "group": f"group-{number}", **row} for number, row in enumerate(rows)]
        in_order = sorted(numbered, key=lambda row: (row["split"], row["key"]))
        table = [_pack(folder, row, number) for number, row in enumerate(in_order)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema=_SCHEMA), folder / "index.parquet")
        problems = info.pop("problems", [])
        (folder / "problems.jsonl").write_text("".join(json.dumps(one) + "\n" for one in problems), encoding="utf-8")
        values = {"task": task, "classes": list(classes), "digest": "d" * 64, **info}
        write_manifest(folder, "dataset", values, name="dataset.json")
        return Dataset(folder)

    return write


@pytest.fixture
def make_dataset(tmp_path: Path, write_dataset: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Return `write_dataset` with its folder given."""
    return lambda *args, **info: write_dataset(tmp_path / "dataset", *args, **info)


_SCHEMA = pyarrow.schema(
    [(name, pyarrow.string()) for name in ("key", "split", "group", "source", "sha256", "shard", "image_name")]
    + [(name, pyarrow.int64()) for name in ("width", "height", "image_offset", "image_size")]
    + [("timestamp_s", pyarrow.float64()), ("class_ids", pyarrow.list_(pyarrow.int32()))]
    + [("boxes", pyarrow.list_(pyarrow.float64()))]
)


def _pack(folder: Path, row: Row, number: int) -> Row:
    data = row.get("image", _png(number))
    with ShardWriter(folder / "shards", f"{row['split']}-{number}") as shards:
        blob = shards.add(f"{row['key']}.png", data)
    return {
        "source": f"images/{row['key']}.png",
        "timestamp_s": None,
        "width": 64,
        "height": 48,
        "boxes": None,
        **{name: value for name, value in row.items() if name != "image"},
        "sha256": hashlib.sha256(data).hexdigest(),
        "shard": blob.shard,
        "image_name": f"{row['key']}.png",
        "image_offset": blob.offset,
        "image_size": blob.size,
    }


@dataclass
class ScriptedPredictor:
    """A model that answers what it was told to, in the order of the images.

    Attributes:
        classes: Its class names.
        answers: One an image.
        sizes: How many images came with each call.
    """

    classes: list[str]
    answers: list[Prediction]
    sizes: list[int] = field(default_factory=list)

    def predict(
        self, images: Sequence[np.ndarray], *, confidence_threshold: float | None = None, batch_size: int = 8
    ) -> list[Prediction]:
        start = sum(self.sizes)
        self.sizes.append(len(images))
        return self.answers[start : start + len(images)]


@pytest.fixture(scope="session")
def scripted() -> type[ScriptedPredictor]:
    return ScriptedPredictor


@pytest.fixture(scope="session")
def boxes() -> Callable[..., Detections]:
    """Return a function from (class id, confidence, left, top, right, bottom) rows to detections."""

    def make(*rows: tuple[float, ...]) -> Detections:
        table = np.array(rows, np.float64).reshape(-1, 6)
        return Detections(table[:, 2:], table[:, 0].astype(np.int64), table[:, 1].astype(np.float32))

    return make


@pytest.fixture(scope="session")
def says() -> Callable[..., Classification]:
    """Return a function from probabilities to a classification."""
    return lambda *probabilities: Classification(np.array(probabilities, np.float32))
