"""Semantic segmentation: a mask picture for each image, and the classes that its grey levels stand for.

images/<split>/<key>.jpg   masks/<split>/<key>.png   classes.csv

A mask's levels are class ids, 255 where no one said; `classes.csv` has a row of id and name for each.
"""

import csv
from pathlib import Path

from visionyard.data.items import Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.writing import TargetFormat, split_folder, write_image


def write(labelled: LabelledSet, folder: Path, _problems: Problems) -> None:
    """Write a set as images with masks; it holds all there is."""
    for image in labelled.images():
        split = split_folder(image)
        write_image(image, folder / "images" / split)
        path = folder / "masks" / split / f"{image.item.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.mask_bytes())
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "name"])
        rows.writerows(enumerate(labelled.classes))


FORMAT = TargetFormat(
    name="mask_pairs",
    tasks=frozenset({"semantic_segmentation"}),
    described="images/<split>/, masks/<split>/, classes.csv; masks exactly",
    read_as="images_semantic_masks",
    write=write,
)
