"""COCO JSON: a file for each split in `annotations/`, the images in a folder of the split's name.

annotations/instances_<split>.json   `file_name` is relative to the split's folder
<split>/<key>.jpg

Boxes stand as `x, y, width, height` with every digit; masks as run lengths, exactly; crowds as `iscrowd`.

Source: COCO data format, https://cocodataset.org/#format-data.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from visionyard.data.items import Box, Problems
from visionyard.data.labelled import LabelledImage, LabelledSet
from visionyard.data.writers.writing import TargetFormat, split_folder, write_image

_INDENT = "\n "


class _SplitFile:
    """One split's JSON: its images are written as they come, its annotations wait in a file of their own."""

    def __init__(self, path: Path, class_ids: Mapping[str, int], stack: ExitStack) -> None:
        path.parent.mkdir(exist_ok=True)
        self._images: IO[str] = stack.enter_context(path.open("w", encoding="utf-8"))
        self._waiting = path.with_suffix(".annotations")
        self._annotations: IO[str] = stack.enter_context(self._waiting.open("w+", encoding="utf-8"))
        self._class_ids = class_ids
        self._image_count = self._annotation_count = 0
        categories = [{"id": class_id, "name": name, "supercategory": ""} for name, class_id in class_ids.items()]
        self._images.write(f'{{"info": {{}}, "licenses": [], "categories": {_text(categories)}, "images": [')

    def add(self, image: LabelledImage, file_name: str) -> None:
        """Add an image and its boxes."""
        item = image.item
        values = {"file_name": file_name, "width": item.width, "height": item.height}
        self._images.write(_separator(self._image_count))
        self._image_count += 1
        self._images.write(_text({"id": self._image_count, **values}))
        for box in item.boxes or ():
            self._annotations.write(_separator(self._annotation_count))
            self._annotation_count += 1
            self._annotations.write(
                _text(
                    {
                        "id": self._annotation_count,
                        "image_id": self._image_count,
                        "category_id": self._class_ids[box.class_name],
                        **_shape(box),
                    }
                )
            )

    def finish(self) -> None:
        """Put both lists together."""
        self._images.write('], "annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._images)
        self._images.write("]}\n")
        self._waiting.unlink()


def _shape(box: Box) -> dict[str, Any]:
    left, top, right, bottom = box.xyxy
    width, height = right - left, bottom - top
    return {
        "bbox": [left, top, width, height],
        "area": float(box.mask.area) if box.mask else width * height,
        "segmentation": box.mask.to_json() if box.mask else [],
        "iscrowd": int(box.is_crowd),
    }


def _separator(count: int) -> str:
    return ("," if count else "") + _INDENT


def _text(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def write(labelled: LabelledSet, folder: Path, _problems: Problems) -> None:
    """Write a set as COCO JSON; it holds all there is."""
    class_ids = {name: number for number, name in enumerate(labelled.classes, start=1)}
    files: dict[str, _SplitFile] = {}
    with ExitStack() as stack:
        for image in labelled.images():
            split = split_folder(image)
            if split not in files:
                files[split] = _SplitFile(folder / "annotations" / f"instances_{split}.json", class_ids, stack)
            files[split].add(image, write_image(image, folder / split))
        for file in files.values():
            file.finish()


FORMAT = TargetFormat(
    name="coco",
    tasks=frozenset({"detection"}),
    described="annotations/instances_<split>.json, images in <split>/; boxes, masks and crowds exactly",
    read_as="images_coco",
    write=write,
)
