"""Label Studio JSON: a list of tasks, and the labelling configuration that they are made for.

tasks.json   label_config.xml   images/<split>/<key>.jpg

Places are percent of the image's sides, with every digit. A mask is a polygon of its pixels' edges, see
`visionyard.data.writers.yolo`. What a person said stands in `annotations`, what a model said in `predictions`.

Source: Label Studio documentation, "JSON format of annotated tasks" and "Import pre-annotated data"
(https://labelstud.io/guide/predictions).
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from visionyard.data.items import Box, Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.annotation import Annotation
from visionyard.data.writers.writing import (
    TargetFormat,
    note_boxes_of_masks,
    note_crowds,
    split_folder,
    write_image,
)
from visionyard.data.writers.xml_text import attribute

TASKS = "tasks.json"
CONFIG = "label_config.xml"
# Where Label Studio serves files of its local storage; the path is relative to LOCAL_FILES_DOCUMENT_ROOT.
LOCAL_FILES = "/data/local-files/?d="
_CONTROLS = {"rectanglelabels": ("label", "RectangleLabels"), "polygonlabels": ("outline", "PolygonLabels")}


def write(labelled: LabelledSet, folder: Path, problems: Problems) -> None:
    """Write a set as Label Studio tasks; crowds become plain objects, an object's box that of its mask."""
    with (folder / TASKS).open("w", encoding="utf-8") as stream:
        tasks = TaskList(stream)
        for image in labelled.images():
            split = split_folder(image)
            note_crowds(image, problems, FORMAT.name)
            note_boxes_of_masks(image, problems, FORMAT.name)
            name = f"images/{split}/{write_image(image, folder / 'images' / split)}"
            data = {"image": LOCAL_FILES + name, "source": image.item.source}
            if image.item.published_split:
                data["split"] = image.item.published_split
            tasks.add({"data": data, "annotations": [{"result": results(Annotation.of_item(image.item))}]})
        tasks.end()
    write_config(folder, labelled.classes, task=labelled.task)


class TaskList:
    """A JSON list, written one task at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._count = stream, 0

    def add(self, task: dict[str, Any]) -> None:
        """Append a task; it gets the next id, from 1."""
        self._stream.write(",\n" if self._count else "[\n")
        self._count += 1
        self._stream.write(json.dumps({"id": self._count, **task}, ensure_ascii=False, allow_nan=False))

    def end(self) -> None:
        """Close the list."""
        self._stream.write("\n]\n" if self._count else "[]\n")


def results(annotation: Annotation) -> list[dict[str, Any]]:
    """Return an image's label as results."""
    found: list[dict[str, Any]] = []
    if annotation.class_name is not None:
        choice = {"choices": [annotation.class_name]}
        found.append({"from_name": "class", "type": "choices", "value": choice})
    found += [_shape(box, annotation.size_wh) for box in annotation.boxes]
    width, height = annotation.size_wh
    common = {"to_name": "image", "original_width": width, "original_height": height}
    told = [{"score": round(float(score), 4)} for score in annotation.scores] or [{}] * len(found)
    return [
        {"id": f"r{number}", **common, **result, **score}
        for number, (result, score) in enumerate(zip(found, told, strict=True))
    ]


def _shape(box: Box, size_wh: tuple[int, int]) -> dict[str, Any]:
    from visionyard.geometry.outlines import mask_to_outline

    width, height = size_wh
    outline = mask_to_outline(box.mask) if box.mask else []
    if outline:
        points = [[100 * x / width, 100 * y / height] for x, y in zip(outline[::2], outline[1::2], strict=True)]
        value: dict[str, Any] = {"points": points, "closed": True}
        kind = "polygonlabels"
    else:
        left, top, right, bottom = box.xyxy
        value = {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
        }
        kind = "rectanglelabels"
    return {"from_name": _CONTROLS[kind][0], "type": kind, "value": {**value, kind: [box.class_name]}}


def write_config(folder: Path, classes: Iterable[str], *, task: str) -> None:
    """Write the labelling configuration that the tasks are made for.

    Raises:
        DataError: A class name holds a character that XML cannot hold.
    """
    names = list(classes)
    if task == "classification":
        choices = "".join(f"    <Choice value={attribute(name)}/>\n" for name in names)
        controls = f'  <Choices name="class" toName="image" choice="single">\n{choices}  </Choices>\n'
    else:
        labels = "".join(f"    <Label value={attribute(name)}/>\n" for name in names)
        controls = "".join(
            f'  <{tag} name="{name}" toName="image">\n{labels}  </{tag}>\n' for name, tag in _CONTROLS.values()
        )
    text = f'<View>\n  <Image name="image" value="$image"/>\n{controls}</View>\n'
    (folder / CONFIG).write_text(text, encoding="utf-8")


FORMAT = TargetFormat(
    name="label_studio",
    tasks=frozenset({"detection", "classification"}),
    described="tasks.json, label_config.xml, images/<split>/; masks as polygons, exactly; no crowds",
    read_as="images_label_studio",
    write=write,
)
