"""The folders that Ultralytics reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_dataset
from visionyard.data.dataset import Dataset
from visionyard.models.yolo.layout import classification_layout, detection_layout


def test_a_detection_dataset_becomes_images_beside_labels(shapes_dataset: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(shapes_dataset("detection", train=5, val=3))
    description = detection_layout(dataset, tmp_path / "layout")
    assert (description["nc"], description["names"]) == (2, {0: "square", 1: "disc"})
    for split in ("train", "val"):
        images = Path(description[split])
        assert images == tmp_path / f"layout/{split}/images"
        assert len(list(images.iterdir())) == dataset.count(split)  # type: ignore[arg-type]
        for sample in dataset.samples(split):  # type: ignore[arg-type]
            assert (images / sample.image_name).read_bytes() == dataset.image_bytes(sample)
            ((class_id, *box),) = np.loadtxt(images.parent / f"labels/{sample.key}.txt", ndmin=2)
            assert class_id == sample.class_ids[0]
            left, top, right, bottom = sample.xyxy[0] / 64
            assert box == pytest.approx([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], abs=1e-7)


def test_a_classification_dataset_becomes_a_folder_a_class(shapes_dataset: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(shapes_dataset("classification", train=5, val=3))
    description = classification_layout(dataset, tmp_path / "layout")
    for split in ("train", "val"):
        folder = Path(description[split])
        assert sorted(path.name for path in folder.iterdir()) == ["00000", "00001"]
        for sample in dataset.samples(split):  # type: ignore[arg-type]
            path = folder / f"{sample.class_ids[0]:05d}" / sample.image_name
            assert path.read_bytes() == dataset.image_bytes(sample)
        assert len(list(folder.rglob("*.png"))) == dataset.count(split)  # type: ignore[arg-type]


def test_a_crowd_is_no_object_to_learn(tmp_path: Path) -> None:
    boxes = [[0, 0, 16, 32], [0, 0, 32, 32]]
    image = np.zeros((32, 32, 3), np.uint8)
    row = {"split": "train", "image": image, "class_ids": [0, 0], "xyxy": boxes, "is_crowd": [False, True]}
    folder = write_dataset(tmp_path / "set", task="detection", classes=["person"], rows=[row])
    description = detection_layout(Dataset(folder), tmp_path / "layout")
    (labels,) = (Path(description["train"]).parent / "labels").iterdir()
    assert labels.read_text() == "0 0.25000000 0.50000000 0.50000000 1.00000000\n"
