"""The folders that Ultralytics reads, made of a dataset version in scratch space; their images are the node's."""

from functools import partial
from pathlib import Path
from typing import Any

from visionyard.data.dataset import Dataset, Sample
from visionyard.data.items import Split
from visionyard.data.streaming import place_images
from visionyard.geometry import xyxy_to_xywh

TRAINING_SPLITS: tuple[Split, ...] = ("train", "val")


def detection_layout(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Write images and label files of train and val; return the description that Ultralytics' trainers take.

    Args:
        dataset: A detection dataset version.
        folder: An empty folder.
    """
    for split in TRAINING_SPLITS:
        images, labels = folder / split / "images", folder / split / "labels"
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        place_images(dataset, split, partial(_path_in, images))
        for sample in dataset.samples(split):
            (labels / f"{sample.key}.txt").write_text(_label_lines(sample))
    return _description(dataset, {split: folder / split / "images" for split in TRAINING_SPLITS}, folder)


def classification_layout(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Write a folder per class for train and val; return the description that Ultralytics' trainers take.

    Ultralytics numbers classes in the order of their folders' names, hence the number in front.
    """
    for split in TRAINING_SPLITS:
        for class_id in range(len(dataset.classes)):
            (folder / split / _class_folder(class_id)).mkdir(parents=True)
        place_images(dataset, split, partial(_path_by_class, folder / split))
    return _description(dataset, {split: folder / split for split in TRAINING_SPLITS}, folder)


def _description(dataset: Dataset, paths: dict[Split, Path], folder: Path) -> dict[str, Any]:
    return {
        "path": str(folder),
        "train": str(paths["train"]),
        "val": str(paths["val"]),
        "test": None,
        "nc": len(dataset.classes),
        "names": dict(enumerate(dataset.classes)),
        "channels": 3,
    }


def _class_folder(class_id: int) -> str:
    return f"{class_id:05d}"


def _path_in(folder: Path, sample: Sample) -> Path:
    return folder / (sample.key + Path(sample.image_name).suffix)


def _path_by_class(folder: Path, sample: Sample) -> Path:
    return _path_in(folder / _class_folder(int(sample.class_ids[0])), sample)


def _label_lines(sample: Sample) -> str:
    """Return `class cx cy w h` lines, normalized to the image's size.

    Crowds are left out, as Ultralytics' own conversion of COCO does: learnt as one object, their box is a wrong one.
    """
    is_object = ~sample.is_crowd
    xywh = xyxy_to_xywh(sample.xyxy[is_object])
    lines = []
    for class_id, (left, top, width, height) in zip(sample.class_ids[is_object], xywh, strict=True):
        centre_x, centre_y = (left + width / 2) / sample.width, (top + height / 2) / sample.height
        lines.append(
            f"{class_id} {centre_x:.8f} {centre_y:.8f} {width / sample.width:.8f} {height / sample.height:.8f}\n"
        )
    return "".join(lines)
