"""TFRecord files of `tf.train.Example`, in the features of TensorFlow's object detection and classification examples.

<split>-00000-of-00001.tfrecord   label_map.pbtxt

Boxes are shares of width and height with 32 bits: within 0.01 px on images of up to 80,000 px. Masks are PNGs of the
image's size, crowds `image/object/is_crowd`. Written without TensorFlow.

Source: tensorflow/models, research/object_detection/dataset_tools/create_coco_tf_record.py and
research/slim/datasets/dataset_utils.py.
"""

import io
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from visionyard.data.formats.tf_example import encode_example
from visionyard.data.formats.tfrecord_wire import framed
from visionyard.data.items import Item, Problems
from visionyard.data.labelled import LabelledImage, LabelledSet, extension_of
from visionyard.data.shards import SHARD_BYTES
from visionyard.data.writers.writing import TargetFormat, split_folder
from visionyard.geometry import Mask

_NEEDS_ESCAPE = re.compile(r"""[\x00-\x1f"'\\{}#\x7f\x85\u2028\u2029]""")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Shards:
    """The files of one split, each of at most `SHARD_BYTES` unless by a single record; named when all are there."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._stream: IO[bytes] | None = None
        self._count = self._size = 0

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, record: bytes) -> None:
        """Append one record."""
        if self._stream is None or (self._size and self._size + len(record) > SHARD_BYTES):
            if self._stream is not None:
                self._stream.close()
            self._stream = self._path(self._count).open("wb")
            self._count, self._size = self._count + 1, 0
        self._stream.write(record)
        self._size += len(record)

    def name_all(self) -> None:
        """Give the files their names, which say how many there are."""
        for number in range(self._count):
            name = f"{self._split}-{number:05d}-of-{self._count:05d}.tfrecord"
            self._path(number).rename(self._folder / name)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._split}-{number:05d}"


def write(labelled: LabelledSet, folder: Path, problems: Problems) -> None:
    """Write a set as TFRecord; it holds all there is."""
    class_ids = {name: number for number, name in enumerate(labelled.classes, start=1)}
    shards: dict[str, _Shards] = {}
    with ExitStack() as stack:
        for image in labelled.images():
            split = split_folder(image)
            if split not in shards:
                shards[split] = stack.enter_context(_Shards(folder, split))
            shards[split].add(framed(encode_example(_features(image, class_ids))))
    for each in shards.values():
        each.name_all()
    _write_label_map(folder / "label_map.pbtxt", class_ids, problems)


def _write_label_map(path: Path, class_ids: Mapping[str, int], problems: Problems) -> None:
    """Write the numbers of the classes, unless a name needs escapes, which the tools that read it do not agree on."""
    odd = [name for name in class_ids if _NEEDS_ESCAPE.search(name)]
    if odd:
        message = f"class {odd[0]!r} needs escapes in a label map, so there is none: the records have the names"
        problems.add("label_map_left_out", path.name, message, odd[0])
        return
    items = (f'item {{\n  id: {number}\n  name: "{name}"\n}}\n' for name, number in class_ids.items())
    path.write_text("".join(items), encoding="utf-8")


def _features(image: LabelledImage, class_ids: Mapping[str, int]) -> dict[str, Any]:
    item, data = image.item, image.image_bytes()
    extension = extension_of(data)
    features: dict[str, Any] = {
        "image/encoded": [data],
        "image/filename": [item.key + extension],
        "image/source_id": [item.key],
        "image/format": ["jpeg" if extension == ".jpg" else extension[1:]],
        "image/height": [item.height],
        "image/width": [item.width],
        "image/key/sha256": [item.sha256],
    }
    if item.class_name is not None:
        label = {"image/class/text": [item.class_name], "image/class/label": [class_ids[item.class_name]]}
        return {**features, **label}
    return {**features, **_objects(item, class_ids)}


def _objects(item: Item, class_ids: Mapping[str, int]) -> dict[str, Any]:
    boxes = item.boxes or ()
    sides = (item.width, item.height) * 2
    objects: dict[str, Any] = {
        f"image/object/bbox/{corner}": [float(box.xyxy[place] / sides[place]) for box in boxes]
        for place, corner in enumerate(_CORNERS)
    }
    objects["image/object/class/text"] = [box.class_name for box in boxes]
    objects["image/object/class/label"] = [class_ids[box.class_name] for box in boxes]
    objects["image/object/is_crowd"] = [int(box.is_crowd) for box in boxes]
    if any(box.mask for box in boxes):
        objects["image/object/mask"] = [_png(box.mask) if box.mask else b"" for box in boxes]
    return objects


def _png(mask: Mask) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.to_array().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


FORMAT = TargetFormat(
    name="tfrecord",
    tasks=frozenset({"detection", "classification"}),
    described="<split>-00000-of-00001.tfrecord, label_map.pbtxt; masks exactly, boxes with 32 bits",
    read_as="images_tfrecord",
    write=write,
)
