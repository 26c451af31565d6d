"""Labelled images of a dataset version: what the version holds of them is there, whatever reads them."""

from pathlib import Path

import numpy as np

from tests.conftest import write_dataset
from visionyard.data.items import Box
from visionyard.data.labelled import version_images
from visionyard.geometry import Mask

BLANK = np.zeros((20, 30, 3), np.uint8)


def test_boxes_of_a_version_keep_their_masks_and_crowds(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30), np.bool_)
    pixels[2:6, 3:9] = True
    mask = Mask.from_array(pixels)
    row = {
        "split": "train",
        "image": BLANK,
        "class_ids": [1, 0],
        "xyxy": [[3, 2, 9, 6], [10, 10, 20, 18]],
        "masks": [mask, None],
        "is_crowd": [False, True],
    }
    folder = write_dataset(tmp_path / "version", task="detection", classes=["cat", "dog"], rows=[row])

    (image,) = version_images(folder).images()

    assert image.item.boxes == (
        Box("dog", (3.0, 2.0, 9.0, 6.0), mask),
        Box("cat", (10.0, 10.0, 20.0, 18.0), is_crowd=True),
    )


def test_a_semantic_mask_of_a_version_is_read(tmp_path: Path) -> None:
    ids = np.full((20, 30), 1, np.uint8)
    row = {"split": "test", "image": BLANK, "class_ids": [1], "xyxy": [], "semantic_mask": ids}
    folder = write_dataset(tmp_path / "version", task="semantic_segmentation", classes=["ground", "cell"], rows=[row])

    (image,) = version_images(folder).images()

    assert image.item.mask_blob is not None
    assert image.read(image.item.mask_blob).startswith(b"\x89PNG")
