"""Pascal VOC: an XML file for each image, the splits as lists of names.

JPEGImages/<key>.jpg   Annotations/<key>.xml   ImageSets/Main/<split>.txt

Corners stand with every digit as distances from the image's left and top edge, as `formats/pascal_voc.py` reads them.

Source: M. Everingham et al., The PASCAL Visual Object Classes Challenge 2012 Development Kit, section 10.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import IO

from visionyard.data.items import Box, Item, Problems
from visionyard.data.labelled import LabelledSet
from visionyard.data.writers.writing import TargetFormat, note_crowds, note_masks_left_out, write_image
from visionyard.data.writers.xml_text import element_text, number


def write(labelled: LabelledSet, folder: Path, problems: Problems) -> None:
    """Write a set as Pascal VOC; masks are left out, crowds become plain objects.

    Raises:
        DataError: A class name holds a character that XML cannot hold.
    """
    (folder / "Annotations").mkdir()
    lists: dict[str, IO[str]] = {}
    with ExitStack() as stack:
        for image in labelled.images():
            item = image.item
            note_crowds(image, problems, FORMAT.name)
            note_masks_left_out(image, problems, FORMAT.name)
            name = write_image(image, folder / "JPEGImages")
            (folder / "Annotations" / f"{item.key}.xml").write_text(_annotation(item, name), encoding="utf-8")
            split = item.published_split
            if split is None:
                continue
            if split not in lists:
                path = folder / "ImageSets" / "Main" / f"{split}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                lists[split] = stack.enter_context(path.open("w", encoding="utf-8"))
            lists[split].write(item.key + "\n")


def _annotation(item: Item, file_name: str) -> str:
    objects = "".join(_object(box) for box in item.boxes or ())
    return (
        "<annotation>\n  <folder>JPEGImages</folder>\n"
        f"  <filename>{element_text(file_name)}</filename>\n"
        f"  <size><width>{item.width}</width><height>{item.height}</height><depth>3</depth></size>\n"
        f"  <segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _object(box: Box) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box.xyxy, strict=True)
    place = "".join(f"<{tag}>{number(value)}</{tag}>" for tag, value in corners)
    return (
        f"  <object>\n    <name>{element_text(box.class_name)}</name>\n    <pose>Unspecified</pose>"
        "<truncated>0</truncated><difficult>0</difficult>\n"
        f"    <bndbox>{place}</bndbox>\n  </object>\n"
    )


FORMAT = TargetFormat(
    name="voc",
    tasks=frozenset({"detection"}),
    described="JPEGImages/, Annotations/<key>.xml, ImageSets/Main/<split>.txt; boxes only",
    read_as="images_voc",
    write=write,
)
