"""Tiny dataset versions and hand-made models that solve them: squares of two colours on grey noise."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = ["blue", "red"]
SQUARE_PX = 16
SPLIT_COUNTS = {"test": 6, "train": 6, "val": 3}
_COLOURS = {0: (30, 40, 220), 1: (220, 40, 30)}


def _picture(rng: np.random.Generator, task: str) -> tuple[np.ndarray, list[int], list[float]]:
    image = rng.integers(90, 150, (80, 96, 1)).repeat(3, axis=2).astype(np.uint8)
    class_ids, boxes = [], []
    for left in (8, 56) if task == "detection" else (40,):
        class_id, x, y = int(rng.integers(2)), left + int(rng.integers(16)), int(rng.integers(8, 48))
        image[y : y + SQUARE_PX, x : x + SQUARE_PX] = _COLOURS[class_id]
        class_ids.append(class_id)
        boxes += [float(x), float(y), float(x + SQUARE_PX), float(y + SQUARE_PX)]
    return image, class_ids, boxes


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a dataset version of a task into a new folder and returns it."""
    import pyarrow as pa
    import pyarrow.parquet

    from visionyard.data.shards import ShardWriter

    def write(task: str, *, counts: dict[str, int] | None = None, is_labelled: bool = True) -> Path:
        folder = tmp_path_factory.mktemp("dataset")
        rng = np.random.default_rng(7)
        rows: list[dict[str, Any]] = []
        for split, count in sorted((counts or SPLIT_COUNTS).items()):
            with ShardWriter(folder / "shards", split) as shards:
                for number in range(count):
                    image, class_ids, boxes = _picture(rng, task)
                    if not is_labelled:
                        class_ids, boxes = [], []
                    buffer = io.BytesIO()
                    Image.fromarray(image).save(buffer, "PNG")
                    key = f"{split}{number:03d}"
                    blob = shards.add(f"{key}.png", buffer.getvalue())
                    rows.append(
                        {
                            "key": key,
                            "split": split,
                            "group": key,
                            "source": f"{key}.png",
                            "timestamp_s": None,
                            "width": 96,
                            "height": 80,
                            "sha256": "0" * 64,
                            "class_ids": class_ids,
                            "boxes": boxes if task == "detection" else None,
                            "shard": blob.shard,
                            "image_name": f"{key}.png",
                            "image_offset": blob.offset,
                            "image_size": blob.size,
                        }
                    )
        columns = {
            "timestamp_s": pa.float64(),
            "width": pa.int32(),
            "height": pa.int32(),
            "class_ids": pa.list_(pa.int32()),
            "boxes": pa.list_(pa.float64()),
            "image_offset": pa.int64(),
            "image_size": pa.int64(),
        }
        schema = pa.schema([(column, columns.get(column, pa.string())) for column in rows[0]])
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "index.parquet")
        info = {"schema_version": 1, "artifact": "dataset", "task": task, "classes": CLASSES, "digest": "d" * 64}
        (folder / "dataset.json").write_text(json.dumps(info))
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """Return a function from a task to a `TrainedModel` that solves its tiny dataset without training.

    The detector answers in the yolo layout from a grid of 4 px, at a 96 px input, by how red or blue a window of 16 px
    is. `sureness` shifts its scores: at -20 it finds nothing at all.
    """
    import torch
    from torch import nn

    torch.set_num_threads(1)  # models this small gain nothing from more, and on a busy machine threads wait long

    from visionyard.models import TrainedModel
    from visionyard.transforms import ClassificationPostprocessing, DetectionPostprocessing, PreprocessingSpec

    class Detector(nn.Module):
        def __init__(self, sureness: float) -> None:
            super().__init__()
            self.window = nn.Conv2d(3, 2, SQUARE_PX, stride=4)
            self.norm = nn.BatchNorm2d(2)
            self.side = nn.Conv2d(2, 2, 1)
            with torch.no_grad():
                self.window.weight[:] = torch.tensor([[-1.0, -0.5, 1.5], [1.5, -0.5, -1.0]])[..., None, None] * 14 / 256
                self.window.bias.fill_(sureness)
                self.side.weight.fill_(0.01)
                self.side.bias.fill_(0.5)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = self.norm(self.window(images))
            rows, columns = found.shape[2:]
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            centre = torch.stack([x, y]).float() * 4 + SQUARE_PX / 2
            sides = SQUARE_PX - 1 + 2 * self.side(found).sigmoid()
            return torch.cat([centre + torch.zeros_like(sides), sides, found.sigmoid()], dim=1).flatten(2)

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.colour = nn.Conv2d(3, 2, 1)
            self.head = nn.Linear(2, 2)
            with torch.no_grad():
                self.colour.weight[:] = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])[..., None, None]
                self.colour.bias.fill_(-0.2)
                self.head.weight[:] = torch.eye(2) * 80
                self.head.bias[:] = torch.tensor([0.1, 0.0])

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.colour(images).relu().mean(dim=(2, 3)))

    def build(task: str, *, sureness: float = -8.0) -> TrainedModel:
        if task == "detection":
            before = PreprocessingSpec(resize="letterbox", size_hw=(96, 96), interpolation="bilinear")
            after = DetectionPostprocessing(iou_threshold=0.4)
            return TrainedModel(Detector(sureness).eval(), before, after, CLASSES)
        before = PreprocessingSpec(
            resize="shorter_side_crop", size_hw=(32, 32), interpolation="bilinear_antialias", mean=(0.5, 0.5, 0.5)
        )
        return TrainedModel(Classifier().eval(), before, ClassificationPostprocessing(), CLASSES)

    return build


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_dataset: Callable[..., Path], tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """Return a function from a task to its bundle in both formats and its dataset, made once; copy before altering."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(task: str) -> tuple[Path, Path]:
        from visionyard.data.dataset import Dataset
        from visionyard.export import Origin, Tolerances, export_trained

        if task not in made:
            dataset = Dataset(tiny_dataset(task))
            target = tmp_path_factory.mktemp("export") / "bundle"
            origin = Origin("tiny", "hand-made", "squares", "Apache-2.0", dataset.digest, "c" * 64, "e" * 64, {})
            formats = ["onnx", "torchscript"]
            export_trained(
                tiny_model(task),
                origin,
                dataset,
                target,
                formats=formats,
                opset=18,
                tolerances=Tolerances(score=0.001, metric=0.001),
            )
            made[task] = (target, dataset.folder)
        return made[task]

    return make
