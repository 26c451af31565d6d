"""CSV: a row an image with its class, or a row a box in pixels; the images beside it.

labels.csv   images/<split>/<key>.jpg

| columns | of |
| --- | --- |
| path, label, split | a classification |
| path, label, xmin, ymin, xmax, ymax, width, height, split | a detection; an image without boxes has none |
"""

import csv
from pathlib import Path

from visionyard.data.items import Box, Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.writing import (
    TargetFormat,
    note_crowds,
    note_masks_left_out,
    split_folder,
    write_image,
)
from visionyard.errors import DataError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def write(labelled: LabelledSet, folder: Path, problems: Problems) -> None:
    """Write a set as CSV; masks are left out, crowds become plain objects.

    Raises:
        DataError: No box reaches beyond the first pixel: its corners would be read as shares of the image.
    """
    is_detection = labelled.task == "detection"
    columns = ["path", "label", *([*_CORNERS, "width", "height"] if is_detection else []), "split"]
    farthest = 0.0
    box_count = 0
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.DictWriter(stream, columns, restval="")
        rows.writeheader()
        for image in labelled.images():
            item, split = image.item, split_folder(image)
            note_crowds(image, problems, FORMAT.name)
            note_masks_left_out(image, problems, FORMAT.name)
            path = f"images/{split}/{write_image(image, folder / 'images' / split)}"
            common = {"path": path, "split": item.published_split or ""}
            if not is_detection:
                rows.writerow({**common, "label": item.class_name})
                continue
            common = {**common, "width": str(item.width), "height": str(item.height)}
            for box in item.boxes or ():
                farthest = max(farthest, *box.xyxy)
                box_count += 1
                rows.writerow({**common, **_row(box)})
            if not item.boxes:
                rows.writerow(common)
    if box_count and farthest <= 1:
        raise DataError(
            f"{labelled.label}: no box reaches beyond the first pixel, so its corners would be read as shares of the "
            "image; write another format"
        )


def _row(box: Box) -> dict[str, str]:
    corners = dict(zip(_CORNERS, map(repr, map(float, box.xyxy)), strict=True))
    return {"label": box.class_name, **corners}


FORMAT = TargetFormat(
    name="csv",
    tasks=frozenset({"detection", "classification"}),
    described="labels.csv, images/<split>/; boxes only",
    read_as="images_csv",
    write=write,
)
