"""IDX, the format of MNIST and its kin: one file with the pixels of many images, one with their class numbers.

`train-images-idx3-ubyte.gz` beside `train-labels-idx1-ubyte.gz`, unpacked or not, also with a dot before `idx`. Three
dimensions are grey images, four are colour, channels last (N, H, W, 3) or first (N, 3, H, W). The name says the split:
`train`, `valid`, `test` or MNIST's `t10k`. Class names come from `classes.txt` or `labels.txt`, one a line from
number 0 on; else the numbers are the names. Images are read one after another and stored as PNG, pixel for pixel.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "The IDX file format".
"""

import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from visionyard.data.formats.class_names import find_class_names
from visionyard.data.formats.packed_stream import PackedStream
from visionyard.data.formats.reading import Reading, SourceFormat, SourceImage
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.formats.split_names import split_of_file
from visionyard.data.items import Problems
from visionyard.errors import DataError, MediaError
from visionyard.transforms.images import MAX_PIXEL_COUNT

_NAME = re.compile(r"(?i)^(?P<set>.*?)[-_.]?(?P<what>images|labels)[-_.]idx[1-4][-_.]?u?(?:byte|int)(?:\.gz)?$")
_CLASS_NAMES = re.compile(r"(?i)^(?:classes|labels|class_names)\.txt$")
# The third byte of the magic number says the type, big endian; floats and signed bytes are no image's pixels.
_PIXELS = 0x08
_LABEL_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4"}
_MOST_DIMENSIONS = 4
# 800 MB of class numbers in memory; the largest published set in this format has 0.8 million.
_MOST_IMAGES = 100_000_000


@dataclass(frozen=True)
class _Files:
    """The files of one set, such as the training images and their labels; what is missing is None."""

    images: SourceFile | None
    labels: SourceFile | None


@dataclass(frozen=True)
class _Set:
    """One set, its headers read.

    Attributes:
        images: The file of images.
        count: How many of them are taken.
        labels: (count,) int class numbers; (0,) when the images are unlabelled.
    """

    images: SourceFile
    count: int
    labels: np.ndarray


def is_container(file: SourceFile) -> bool:
    """Return whether a file is one of this format, by its name."""
    return _NAME.match(file.path.name) is not None


def evidence(tree: SourceTree) -> str:
    """Return what shows an IDX source: files named so, whose first bytes say the same."""
    images = [each.images for each in _sets(tree, Problems()) if each.images and _starts_well(tree, each.images)]
    return f"{len(images)} IDX files of images such as {images[0].name}" if images else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read an IDX source.

    Raises:
        DataError: No file is named so, or the class names are not usable.
    """
    sets = _sets(tree, problems)
    if not sets:
        raise DataError(f"{tree.label}: expected {FORMAT.expected}; found no file named so")
    named = find_class_names(tree, _CLASS_NAMES)
    opened = [each for files in sets if (each := _opened(tree, files, problems)) is not None]
    numbers = sorted({int(number) for each in opened for number in np.unique(each.labels)})
    names = {number: str(number) for number in numbers} if named is None else named[1]
    images = (image for each in opened for image in _images(tree, each, names, problems))
    return Reading(
        sum(each.count for each in opened), images=images, classes=[names[number] for number in sorted(names)] or None
    )


def _sets(tree: SourceTree, problems: Problems) -> list[_Files]:
    """Return the sets of a source in the order of their names, a file that is there plain and packed taken once."""
    found: dict[tuple[str, str], dict[str, SourceFile]] = defaultdict(dict)
    for file in tree.files:
        match = _NAME.match(file.path.name)
        if match is None:
            continue
        files = found[str(file.path.parent), match["set"].lower()]
        first = files.setdefault(match["what"].lower(), file)
        if first is not file:
            problems.add("file_twice", file.name, f"the same set as {first.name}, which is read; left out")
    return [_Files(files.get("images"), files.get("labels")) for _, files in sorted(found.items())]


def _starts_well(tree: SourceTree, file: SourceFile) -> bool:
    try:
        with PackedStream.of(tree, file) as stream:
            return len(_shape(stream)[1]) > 2
    except MediaError:
        return False


def _opened(tree: SourceTree, files: _Files, problems: Problems) -> _Set | None:
    """Return what a set's headers and labels say; None, and a note, when its images cannot be read."""
    if files.images is None:
        problems.add("labels_without_image", str(files.labels and files.labels.name), "no file of images is beside it")
        return None
    try:
        with PackedStream.of(tree, files.images) as stream:
            count, _ = _image_shape(stream)
    except MediaError as error:
        problems.add("unreadable_file", files.images.name, f"{error}; left out")
        return None
    if files.labels is None:
        problems.add(
            "image_without_labels", files.images.name, f"no file of labels is beside it; its {count} are unlabelled"
        )
        return _Set(files.images, count, np.empty(0, dtype=np.int64))
    labels = _labels(tree, files.labels, count, problems)
    return None if labels is None else _Set(files.images, len(labels), labels)


def _labels(tree: SourceTree, file: SourceFile, image_count: int, problems: Problems) -> np.ndarray | None:
    """Return the class numbers, (N,) int, of the images that have one; None, and a note, when there are none."""
    try:
        with PackedStream.of(tree, file) as stream:
            kind, shape = _shape(stream)
            if kind not in _LABEL_TYPES or len(shape) != 1:
                raise MediaError(f"type {kind:#04x} of shape {shape}, expected whole numbers of shape (N,)")
            taken = min(shape[0], image_count)
            item_bytes = np.dtype(_LABEL_TYPES[kind]).itemsize
            data = stream.read(taken * item_bytes)
            if taken == shape[0]:
                _check_end(stream, file, problems)
    except MediaError as error:
        problems.add("unreadable_labels", file.name, f"{error}; its images are left out")
        return None
    if shape[0] != image_count:
        problems.add(
            "count_differs",
            file.name,
            f"{shape[0]} labels for {image_count} images; the first {taken} are taken, check that they belong together",
        )
    there = len(data) // item_bytes
    if there < taken:
        problems.add("file_cut_short", file.name, f"it ends after {there} of {taken} labels; the rest is left out")
    return np.frombuffer(data[: there * item_bytes], dtype=_LABEL_TYPES[kind])


def _shape(stream: PackedStream) -> tuple[int, tuple[int, ...]]:
    """Return type and shape that the file's first bytes give.

    Raises:
        MediaError: They are no IDX header.
    """
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= _MOST_DIMENSIONS:
        raise MediaError(f"its first bytes are {magic.hex(' ') or 'missing'}, expected 00 00 08 03 (IDX images)")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise MediaError("it ends within its header")
    return magic[2], struct.unpack(f">{magic[3]}I", sizes)


def _image_shape(stream: PackedStream) -> tuple[int, tuple[int, ...]]:
    """Return the number of images and the shape of one.

    Raises:
        MediaError: They are no images, or larger than we decode.
    """
    kind, (count, *shape) = _shape(stream)
    is_grey, is_colour = len(shape) == 2, len(shape) == 3 and 3 in (shape[0], shape[-1])
    if kind != _PIXELS or not (is_grey or is_colour):
        raise MediaError(
            f"type {kind:#04x} of shape {(count, *shape)}, expected unsigned bytes (0x08) of shape (N, H, W), "
            "(N, H, W, 3) or (N, 3, H, W)"
        )
    pixel_count = math.prod(shape) // (1 if is_grey else 3)
    if not 1 <= pixel_count <= MAX_PIXEL_COUNT:
        raise MediaError(f"images of {pixel_count} pixels, expected 1 to {MAX_PIXEL_COUNT}")
    if count > _MOST_IMAGES:
        raise MediaError(f"it claims {count} images, expected at most {_MOST_IMAGES}")
    return count, tuple(shape)


def _images(tree: SourceTree, each: _Set, names: Mapping[int, str], problems: Problems) -> Iterator[SourceImage]:
    """Yield the images of a set, read one after another; each is encoded when it is asked for."""
    file, split = each.images, split_of_file(each.images.path)
    digit_count = len(str(each.count - 1))
    try:
        with PackedStream.of(tree, file) as stream:
            count, shape = _image_shape(stream)
            for position in range(each.count):
                pixels = stream.read(math.prod(shape))
                if len(pixels) < math.prod(shape):
                    raise MediaError(f"it ends after {position} of {each.count} images")
                name = f"{file.name.removesuffix('.gz')}/{position:0{digit_count}d}.png"
                number = int(each.labels[position]) if len(each.labels) else None
                if number is not None and number not in names:
                    message = f"class number {number} has no name among {len(names)}; left out"
                    problems.add("unknown_class", name, message)
                    continue
                yield SourceImage(
                    SourceFile(name, len(pixels), "image/png"),
                    class_name=None if number is None else names[number],
                    published_split=split,
                    data=partial(_encoded, pixels, shape),
                )
            if each.count == count:
                _check_end(stream, file, problems)
    except MediaError as error:
        problems.add("file_cut_short", file.name, f"{error}; the rest is left out")


def _check_end(stream: PackedStream, file: SourceFile, problems: Problems) -> None:
    """Read to the end, where gzip has its check sum, and note what stands behind the last value."""
    if stream.read(1):
        problems.add("data_after_end", file.name, "more bytes than its header says; what is behind is not read")


def _encoded(pixels: bytes, shape: tuple[int, ...]) -> bytes:
    """Return an image as PNG: (H, W), (H, W, 3) or (3, H, W) unsigned bytes."""
    import cv2

    image = np.frombuffer(pixels, dtype=np.uint8).reshape(shape)
    if image.ndim == 3:
        rgb = image if shape[-1] == 3 else image.transpose(1, 2, 0)
        image = np.ascontiguousarray(rgb[..., ::-1])
    is_good, encoded = cv2.imencode(".png", image)
    if not is_good:
        raise MediaError(f"an image of shape {shape} cannot be encoded as PNG")
    return bytes(encoded)


FORMAT = SourceFormat(
    kind="images_idx",
    task="classification",
    expected="train-images-idx3-ubyte.gz beside train-labels-idx1-ubyte.gz, likewise t10k-... or test-...",
    evidence=evidence,
    read=read,
    is_container=is_container,
)
