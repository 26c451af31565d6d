"""TFRecord: images and their labels as `tf.train.Example`, read without TensorFlow.

| features | meaning |
| --- | --- |
| `image/encoded`, or `image` | the image file |
| `image/filename`, `image/source_id` | its name |
| `image/class/text`, `image/class/label`, or `label` | class of a classification, by name or number |
| `image/object/bbox/xmin`, `ymin`, `xmax`, `ymax` | boxes, as shares of width and height |
| `image/object/class/text`, `label` | their classes, by name or number |
| `image/object/is_crowd`, `image/object/mask` | whether a box is a crowd; its pixels as a PNG of the image's size |

Names of numbers come from a label map (`label_map.pbtxt`), `labels.txt` or `classes.txt`; else the number is the name.
Empty lists of boxes say that nothing is there. The file's name, or its folder, gives the split. Files may be packed by
gzip. Records are read one after another.

Source: TensorFlow Object Detection API, `core/standard_fields.py` and `data_decoders/tf_example_decoder.py`; slim,
`datasets/dataset_utils.py`; TensorFlow Datasets, which stores `image` and `label`.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from visionyard.data.formats.class_names import find_class_names
from visionyard.data.formats.packed_stream import PackedStream
from visionyard.data.formats.reading import ImageLabels, RawBox, Reading, SourceFormat, SourceImage
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.formats.split_names import split_of_file
from visionyard.data.formats.tf_example import Values, parse_example
from visionyard.data.formats.tfrecord_wire import Record, read_records, record_numbers
from visionyard.data.items import Problems, Split, Task
from visionyard.data.media import EXTENSIONS, HEAD_BYTES, sniff_media_type
from visionyard.errors import DataError, MediaError
from visionyard.geometry import Mask
from visionyard.transforms.images import open_image, read_levels

_NAME = re.compile(r"(?i)\.(?:tfrecords?|tfrec|records?)(?:[-.]|$)|-\d{5}-of-\d{5}(?:\.|$)")
_CLASS_NAMES = re.compile(r"(?i)label.*\.pbtxt$|^(?:.*\.)?labels\.txt$|^classes\.txt$")
_IMAGE_FEATURES = ("image/encoded", "image", "image_raw")
_NAME_FEATURES = ("image/filename", "image/source_id", "filename")
_CORNERS = tuple(f"image/object/bbox/{corner}" for corner in ("xmin", "ymin", "xmax", "ymax"))
_CLASS_TEXTS = ("image/class/text",)
_CLASS_NUMBERS = ("image/class/label", "label")
# What TensorFlow Datasets writes for images without a label.
_NO_LABEL = -1
_MOST_NAME_CHARACTERS = 200

_Features = Mapping[str, Values]


@dataclass(frozen=True)
class _Place:
    """A record of a file, for messages."""

    file: SourceFile
    number: int
    problems: Problems

    def note(self, code: str, message: str) -> None:
        """Add a problem of this record."""
        self.problems.add(code, self.file.name, message, f"record {self.number}")


def is_container(file: SourceFile) -> bool:
    """Return whether a file is one of this format, by its name."""
    return _NAME.search(file.path.name) is not None


def evidence(tree: SourceTree) -> str:
    """Return what shows a source of TFRecords: a file named so that begins with a record of an image."""
    files = [file for file in tree.files if is_container(file)]
    first = next((file for file in files if _image_data(_first_features(tree, file)) is not None), None)
    return f"{len(files)} TFRecord files such as {first.name}" if first else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read a source of TFRecords.

    Raises:
        DataError: No file is named so, or the class names are not usable.
    """
    files = [file for file in tree.files if is_container(file)]
    if not files:
        raise DataError(f"{tree.label}: expected {FORMAT.expected}; found no file named so")
    named = find_class_names(tree, _CLASS_NAMES)
    names = None if named is None else named[1]
    task: Task = "detection" if any(_has_objects(_first_features(tree, file)) for file in files) else "classification"
    images = (image for file in files for image in _images(tree, file, names, problems))
    classes = None if names is None else [names[number] for number in sorted(names)]
    return Reading(sum(_count(tree, file) for file in files), images=images, classes=classes, task=task)


def _first_features(tree: SourceTree, file: SourceFile) -> _Features:
    """Return the features of a file's first record; none when it cannot be read."""
    try:
        with PackedStream.of(tree, file) as stream:
            record = next(read_records(stream), None)
        return {} if record is None else parse_example(record.data)
    except DataError:
        return {}


def _count(tree: SourceTree, file: SourceFile) -> int:
    """Return the number of records that can be reached; what is wrong is noted when they are read."""
    count = 0
    with suppress(MediaError), PackedStream.of(tree, file) as stream:
        for count in record_numbers(stream):  # noqa: B007 the last one is the count
            pass
    return count


def _images(
    tree: SourceTree, file: SourceFile, names: Mapping[int, str] | None, problems: Problems
) -> Iterator[SourceImage]:
    split, taken, number = split_of_file(file.path), set[str](), 0
    try:
        with PackedStream.of(tree, file) as stream:
            for record in read_records(stream):
                number = record.number
                image = _image(record, _Place(file, number, problems), names, split, taken)
                if image is not None:
                    yield image
    except MediaError as error:
        problems.add("unreadable_file", file.name, f"{error}; the rest is left out", f"record {number + 1}")


def _image(
    record: Record, place: _Place, names: Mapping[int, str] | None, split: Split | None, taken: set[str]
) -> SourceImage | None:
    if record.fault:
        place.note("damaged_record", record.fault)
        return None
    try:
        features = parse_example(record.data)
    except DataError as error:
        place.note("damaged_record", f"{error}; left out")
        return None
    data = _image_data(features)
    if data is None:
        shown = ", ".join(sorted(features)[:8]) or "none"
        place.note("record_without_image", f"expected a feature {_IMAGE_FEATURES[0]}, found {shown}; left out")
        return None
    image_file = SourceFile(_name(features, data, place, taken), len(data), sniff_media_type(data[:HEAD_BYTES]))
    labels = _objects(features, place, names) if _has_objects(features) else None
    class_name = None if labels else _class_name(features, place, names)
    return SourceImage(image_file, class_name, labels, split, data=lambda: data)


def _image_data(features: _Features) -> bytes | None:
    values = next((features[name] for name in _IMAGE_FEATURES if features.get(name)), ())
    return values[0] if values and isinstance(values[0], bytes) else None


def _name(features: _Features, data: bytes, place: _Place, taken: set[str]) -> str:
    """Return a name of its own for an image: file of records / the name in the record, or its number."""
    texts = (_texts(features, name) for name in _NAME_FEATURES)
    given = next((found[0] for found in texts if found), "")
    parts = [part for part in re.split(r"[/\\]", given) if part not in {"", ".", ".."}]
    name = "/".join(parts)[-_MOST_NAME_CHARACTERS:]
    if not name or not name.isprintable():
        name = f"{place.number:08d}"
    elif name in taken:
        name = f"{PurePosixPath(name).stem}-{place.number:08d}"
    taken.add(name)
    if not PurePosixPath(name).suffix:
        name += EXTENSIONS.get(sniff_media_type(data[:HEAD_BYTES]) or "", ("",))[0]
    return f"{place.file.name}/{name}"


def _class_name(features: _Features, place: _Place, names: Mapping[int, str] | None) -> str | None:
    texts = [text for name in _CLASS_TEXTS for text in _texts(features, name)[:1] if text]
    if texts:
        return texts[0]
    numbers = [number for name in _CLASS_NUMBERS for number in _integers(features, name)[:1]]
    if not numbers or numbers[0] == _NO_LABEL:
        place.note("image_without_labels", f"no feature {', '.join((*_CLASS_TEXTS, *_CLASS_NUMBERS))}; unlabelled")
        return None
    return _named(numbers[0], place, names)


def _named(number: int, place: _Place, names: Mapping[int, str] | None) -> str | None:
    if names is None:
        return str(number)
    if number not in names:
        place.note("unknown_class", f"class number {number} has no name among {len(names)}; dropped")
        return None
    return names[number]


def _has_objects(features: _Features) -> bool:
    return any(corner in features for corner in _CORNERS)


def _objects(features: _Features, place: _Place, names: Mapping[int, str] | None) -> ImageLabels:
    """Return the boxes of a record; entries that are not usable are noted."""
    corners = [_numbers(features, corner) for corner in _CORNERS]
    texts = _texts(features, "image/object/class/text")
    numbers = _integers(features, "image/object/class/label")
    counts = [len(corner) for corner in corners]
    count = counts[0]
    if set(counts) != {count} or count not in {len(texts), len(numbers)}:
        message = (
            f"{counts} corners, {len(texts)} names and {len(numbers)} numbers of classes, expected as many of each"
        )
        place.note("malformed_box", f"{message}; its boxes are left out")
        return ImageLabels(place.file.name, (), has_faults=True)
    classes: list[str | None] = (
        [_named(number, place, names) for number in numbers] if len(texts) != count else [*texts]
    )
    crowds = _integers(features, "image/object/is_crowd") or [0] * count
    masks = features.get("image/object/mask", ())
    boxes = []
    for index, (class_name, xyxy) in enumerate(zip(classes, zip(*corners))):
        if class_name == "":
            place.note("unknown_class", f"object {index + 1} has an empty class; dropped")
        if class_name:
            mask = _mask(masks[index], place, index + 1) if index < len(masks) else None
            is_crowd = index < len(crowds) and bool(crowds[index])
            item = f"record {place.number}, object {index + 1}"
            boxes.append(RawBox(class_name, xyxy, item, mask=mask, is_crowd=is_crowd))
    return ImageLabels(place.file.name, tuple(boxes), len(boxes) < count, is_normalized=True)


def _mask(data: object, place: _Place, number: int) -> Mask | None:
    """Return the pixels of an object; None, and a note unless there is nothing, when there are none."""
    if not isinstance(data, bytes) or not data:
        return None
    try:
        levels = read_levels(open_image(data))
    except MediaError as error:
        place.note("malformed_mask", f"the mask of object {number}: {error}; its box stays")
        return None
    return Mask.from_array((levels if levels.ndim == 2 else levels.max(axis=2)) > 0)


def _texts(features: _Features, name: str) -> list[str]:
    values = features.get(name, ())
    return [value.decode("utf-8", errors="backslashreplace") for value in values if isinstance(value, bytes)]


def _numbers(features: _Features, name: str) -> list[float]:
    return [value for value in features.get(name, ()) if not isinstance(value, bytes)]


def _integers(features: _Features, name: str) -> list[int]:
    return [value for value in features.get(name, ()) if isinstance(value, int)]


FORMAT = SourceFormat(
    kind="images_tfrecord",
    task="classification",
    expected="TFRecord files of tf.train.Example with image/encoded, such as train-00000-of-00010.tfrecord",
    evidence=evidence,
    read=read,
    is_container=is_container,
)
