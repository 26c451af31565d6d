"""CVAT for images 1.1: one XML file for all images.

annotations.xml   images/<split>/<key>.jpg; `name` is relative to `images/`, `subset` the split

Boxes stand with every digit. A mask is CVAT's own: run lengths of the part that holds it, row by row, beginning
outside. A class of the whole image is a tag, a crowd the attribute `is_crowd`.

Source: CVAT documentation, "CVAT for image 1.1" (https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from visionyard.data.items import Box, Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.annotation import Annotation
from visionyard.data.writers.writing import TargetFormat, note_boxes_of_masks, split_folder, write_image
from visionyard.data.writers.xml_text import attribute, element_text, number
from visionyard.geometry import Mask

ANNOTATIONS = "annotations.xml"
# The attribute that carries a model's confidence to the person who corrects it.
SCORE = "score"
_CROWD = "is_crowd"


def write(labelled: LabelledSet, folder: Path, problems: Problems) -> None:
    """Write a set as CVAT for images; an object's box is that of its mask.

    Raises:
        DataError: A class name holds a character that XML cannot hold.
    """
    attributes = (_CROWD,) if labelled.task == "detection" else ()
    with (folder / ANNOTATIONS).open("w", encoding="utf-8") as stream:
        begin(stream, labelled.classes, task=labelled.task, attributes=attributes)
        for number_, image in enumerate(labelled.images()):
            split = split_folder(image)
            note_boxes_of_masks(image, problems, FORMAT.name)
            name = f"{split}/{write_image(image, folder / 'images' / split)}"
            write_annotation(stream, Annotation.of_item(image.item), number_, name)
        end(stream)


def begin(stream: IO[str], classes: Iterable[str], *, task: str, attributes: Sequence[str]) -> None:
    """Write what stands before the images.

    Args:
        stream: The file.
        classes: The labels' names.
        task: `classification` makes them tags, else they take any shape.
        attributes: Names of what each object may carry, `score` or `is_crowd`.
    """
    kind = "tag" if task == "classification" else "any"
    told = "".join(_attribute_definition(name) for name in attributes)
    labels = "".join(
        f"<label><name>{element_text(name)}</name><type>{kind}</type><attributes>{told}</attributes></label>\n"
        for name in classes
    )
    stream.write(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><labels>\n{labels}</labels></task></meta>\n"
    )


def _attribute_definition(name: str) -> str:
    kind, default, values = ("checkbox", "false", "false") if name == _CROWD else ("text", "", "")
    return (
        f"<attribute><name>{name}</name><mutable>False</mutable><input_type>{kind}</input_type>"
        f"<default_value>{default}</default_value><values>{values}</values></attribute>"
    )


def write_annotation(stream: IO[str], annotation: Annotation, image_id: int, name: str) -> None:
    """Write one image with its label.

    Args:
        stream: The file.
        annotation: Its label.
        image_id: Its number in the file.
        name: Its path, as CVAT lists it.
    """
    scores = annotation.scores
    subset = f" subset={attribute(annotation.split)}" if annotation.split else ""
    size = 'width="{}" height="{}"'.format(*annotation.size_wh)
    stream.write(f'<image id="{image_id}" name={attribute(name)}{subset} {size}>\n')
    if annotation.class_name is not None:
        told = "".join(_score(score) for score in scores[:1])
        stream.write(f'<tag label={attribute(annotation.class_name)} source="{_source(scores)}">{told}</tag>\n')
    for place, box in enumerate(annotation.boxes):
        told = f'<attribute name="{_CROWD}">true</attribute>' if box.is_crowd else ""
        stream.write(_shape(box, _source(scores), told + (_score(scores[place]) if scores else "")))
    stream.write("</image>\n")


def _score(score: float) -> str:
    return f'<attribute name="{SCORE}">{score:.4f}</attribute>'


def end(stream: IO[str]) -> None:
    """Write what stands behind the images."""
    stream.write("</annotations>\n")


def _source(scores: Sequence[float]) -> str:
    return "auto" if scores else "manual"


def _shape(box: Box, source: str, told: str) -> str:
    common = f'label={attribute(box.class_name)} source="{source}" occluded="0" z_order="0"'
    if box.mask is not None and box.mask.area:
        runs, (left, top), (width, height) = _runs(box.mask)
        place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
        return f'<mask {common} rle="{", ".join(map(str, runs))}" {place}>{told}</mask>\n'
    corners = zip(("xtl", "ytl", "xbr", "ybr"), box.xyxy, strict=True)
    sides = " ".join(f'{name}="{number(value)}"' for name, value in corners)
    return f"<box {common} {sides}>{told}</box>\n"


def _runs(mask: Mask) -> tuple[list[int], tuple[int, int], tuple[int, int]]:
    """Return run lengths outside, inside, outside ... row by row, left and top, width and height."""
    crop, corner = mask.to_crop()
    flat = np.concatenate([[False], crop.ravel(), [not crop[-1, -1]]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges])).tolist(), corner, (crop.shape[1], crop.shape[0])


FORMAT = TargetFormat(
    name="cvat",
    tasks=frozenset({"detection", "classification"}),
    described="annotations.xml, images/<split>/; boxes and masks exactly, classes as tags",
    read_as="images_cvat",
    write=write,
)
