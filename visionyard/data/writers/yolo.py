"""YOLO txt: a text file for each image with shares of width and height, class names in `data.yaml`.

images/<split>/<key>.jpg   labels/<split>/<key>.txt   data.yaml

A box is `class cx cy w h`; an object with a mask is one polygon of its pixels' edges, parts and holes reached by lines
that enclose nothing: read by the even-odd rule it is the mask again. `data.yaml` names the splits that there are.
"""

from pathlib import Path
from typing import Any

import yaml

from visionyard.data.items import SPLITS, Box, Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.writing import (
    TargetFormat,
    note_boxes_of_masks,
    note_crowds,
    split_folder,
    write_image,
)


def write(labelled: LabelledSet, folder: Path, problems: Problems) -> None:
    """Write a set as YOLO txt; crowds become plain objects, an object's box that of its mask."""
    class_ids = {name: class_id for class_id, name in enumerate(labelled.classes)}
    splits = set()
    for image in labelled.images():
        split = split_folder(image)
        splits.add(split)
        write_image(image, folder / "images" / split)
        item = image.item
        note_crowds(image, problems, FORMAT.name)
        note_boxes_of_masks(image, problems, FORMAT.name)
        lines = [_line(box, class_ids[box.class_name], (item.width, item.height)) for box in item.boxes or ()]
        path = folder / "labels" / split / f"{item.key}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    settings: dict[str, Any] = {split: f"images/{split}" for split in SPLITS if split in splits}
    settings["names"] = dict(enumerate(labelled.classes))
    text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _line(box: Box, class_id: int, size_wh: tuple[int, int]) -> str:
    from visionyard.geometry.outlines import mask_to_outline

    outline = mask_to_outline(box.mask) if box.mask else []
    if outline:
        shares = [value / size_wh[place % 2] for place, value in enumerate(outline)]
    else:
        left, top, right, bottom = box.xyxy
        width, height = size_wh
        shares = [
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        ]
    # Twelve digits: 1e-8 px on the largest image that is decoded.
    return " ".join([str(class_id), *(f"{share:.12g}" for share in shares)])


FORMAT = TargetFormat(
    name="yolo",
    tasks=frozenset({"detection"}),
    described="images/<split>/, labels/<split>/, data.yaml; masks as polygons, exactly; no crowds",
    read_as="images_yolo",
    write=write,
)
