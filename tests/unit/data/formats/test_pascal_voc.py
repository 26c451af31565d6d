"""Pascal VOC."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.data.formats import pascal_voc
from visionyard.data.items import Problems
from visionyard.errors import DataError
from visionyard.geometry import Mask


def xml(*objects: str, size: str = "<size><width>100</width><height>50</height></size>", head: str = "") -> str:
    return f"{head}<annotation><filename>other.jpg</filename>{size}{''.join(objects)}</annotation>"


def thing(name: str = "cat", box: tuple[object, ...] = (1, 2, 30, 40)) -> str:
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


def read(scan: Any, files: dict[str, str]) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    problems = Problems()
    reading = pascal_voc.read(scan(files), problems)
    images = {image.file.name: image for image in reading.images}
    assert reading.item_count == len(images)
    return images, [(problem.code, problem.file, problem.item) for problem in problems.found]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        pytest.param("JPEGImages/a.jpg", "Annotations/a.xml", id="VOC"),
        pytest.param("images/a.jpg", "Annotations/a.xml", id="images"),
        pytest.param("train/a.b.c.jpg", "train/a.b.c.xml", id="beside, with dots"),
        pytest.param("pictures/deep/a.jpg", "boxes/a.xml", id="elsewhere, the only one so named"),
        pytest.param("VOC2012/JPEGImages/a.jpg", "VOC2012/Annotations/a.xml", id="wrapped"),
    ],
)
def test_where_labels_are_found(scan: Any, image: str, label: str) -> None:
    images, problems = read(scan, {image: "", label: xml(thing(box=(1.5, 2, 30, 40)), thing("dog"))})
    labels = images[image].labels
    assert [(box.class_name, box.xyxy, box.item) for box in labels.boxes] == [
        ("cat", (1.5, 2, 30, 40), "object 1"),
        ("dog", (1, 2, 30, 40), "object 2"),
    ]
    assert (labels.size_wh, labels.file, problems) == ((100, 50), label, [])


def test_equal_names_in_two_splits_stay_apart(scan: Any) -> None:
    files: dict[str, str] = {}
    for split, name in (("train", "cat"), ("valid", "dog")):
        files |= {f"{split}/a.jpg": "", f"{split}/a.xml": xml(thing(name))}
    images, problems = read(scan, files)
    assert {n: (i.labels.boxes[0].class_name, i.published_split) for n, i in images.items()} == {
        "train/a.jpg": ("cat", "train"),
        "valid/a.jpg": ("dog", "val"),
    }
    assert problems == []


def test_published_splits_and_masks_of_the_full_set(scan: Any) -> None:
    names = ("a.1", "b", "c", "d", "e f")
    files = {f"JPEGImages/{name}.jpg": "" for name in names} | {
        f"Annotations/{name}.xml": xml(thing()) for name in names
    }
    files |= {
        "ImageSets/Main/train.txt": "a.1\nb\n",
        "ImageSets/Main/val.txt": "c\n\n",
        "ImageSets/Main/test.txt": "e f\nb\n",
        "ImageSets/Main/trainval.txt": "d\n",
        "ImageSets/Main/cat_train.txt": "d 1\n",
        "SegmentationClass/b.png": "",
    }
    images, problems = read(scan, files)
    assert {name: image.published_split for name, image in images.items()} == {
        "JPEGImages/a.1.jpg": "train",
        "JPEGImages/b.jpg": "test",
        "JPEGImages/c.jpg": "val",
        "JPEGImages/d.jpg": None,
        "JPEGImages/e f.jpg": "test",
    }
    assert problems == [
        ("two_published_splits", "ImageSets/Main/train.txt", "line 2"),
        ("segmentation_left_out", "SegmentationClass", ""),
    ]


def picture_of(levels: list[list[int]], mode: str = "P") -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(np.array(levels, np.uint8))
    if mode == "P":
        picture.putpalette([value for level in range(256) for value in (level * 7 % 256, level, 9)])
    picture.convert(mode).save(stream, "PNG")
    return stream.getvalue()


def test_object_numbers_of_the_full_set_are_masks(scan: Any) -> None:
    levels = [[0, 1, 1, 255], [0, 0, 3, 3]]
    files = {"JPEGImages/a.jpg": "", "Annotations/a.xml": xml(thing(), thing("dog"), thing(" "), size="")}
    files["SegmentationObject/a.png"] = picture_of(levels)  # type: ignore[assignment]
    images, problems = read(scan, files)
    assert list(images) == ["JPEGImages/a.jpg"]
    boxes = images["JPEGImages/a.jpg"].labels.boxes
    assert boxes[0].mask == Mask.from_array(np.array(levels) == 1)
    assert boxes[1].mask is None
    assert problems == [("unknown_class", "Annotations/a.xml", "object 3")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(picture_of([[0, 4]]), id="more numbers than objects"),
        pytest.param(picture_of([[0, 1]], "RGB"), id="colours"),
        pytest.param(picture_of([[0, 1]])[:60], id="cut off"),
    ],
)
def test_pictures_of_objects_that_cannot_be_used(scan: Any, data: bytes) -> None:
    files: dict[str, Any] = {
        "JPEGImages/a.jpg": "",
        "Annotations/a.xml": xml(thing()),
        "SegmentationObject/a.png": data,
    }
    images, problems = read(scan, files)
    assert images["JPEGImages/a.jpg"].labels.boxes[0].mask is None
    assert problems == [("unreadable_mask", "SegmentationObject/a.png", "")]


def test_images_without_labels_and_labels_without_image(scan: Any) -> None:
    images, problems = read(scan, {"a.jpg": "", "b.jpg": "", "b.xml": xml(), "c.xml": xml()})
    assert images["a.jpg"].labels is None
    assert images["b.jpg"].labels.boxes == ()
    assert not images["b.jpg"].labels.has_faults
    assert problems == [("image_without_labels", "a.jpg", ""), ("labels_without_image", "c.xml", "")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(xml(thing(name=" ")), ("unknown_class", "a.xml", "object 1"), id="no class"),
        pytest.param(xml(thing(box=(1, 2, 3))), ("malformed_box", "a.xml", "object 1"), id="a corner missing"),
        pytest.param(xml(thing(box=(1, 2, "x", 4))), ("malformed_box", "a.xml", "object 1"), id="no number"),
        pytest.param("<annotation><object>", ("unreadable_labels", "a.xml", ""), id="cut short"),
        pytest.param("<annotations/>", ("unreadable_labels", "a.xml", ""), id="of another kind"),
        pytest.param("\x00", ("unreadable_labels", "a.xml", ""), id="no XML"),
    ],
)
def test_faulty_labels(scan: Any, content: str, problem: tuple[str, str, str]) -> None:
    images, problems = read(scan, {"a.jpg": "", "a.xml": content})
    assert problems == [problem]
    labels = images["a.jpg"].labels
    assert labels is None or (labels.boxes == () and labels.has_faults)


def test_difficult_objects_are_kept_and_counted(scan: Any) -> None:
    marked = thing().replace("<bndbox>", "<difficult>1</difficult><truncated>1</truncated><bndbox>")
    files = {"a.jpg": "", "a.xml": xml(thing()), "b.jpg": "", "b.xml": xml(marked, marked)}
    images, problems = read(scan, files)
    assert (len(images["b.jpg"].labels.boxes), problems) == (2, [("difficult_objects", "b.xml", "")])


@pytest.mark.parametrize("side", ["0", "-5", "nan", "inf", "x", ""])
def test_a_size_that_is_none(scan: Any, side: str) -> None:
    size = f"<size><width>{side}</width><height>{side}</height></size>"
    images, _ = read(scan, {"a.jpg": "", "a.xml": xml(size=size)})
    assert images["a.jpg"].labels.size_wh is None


BILLION_LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("head", [BILLION_LAUGHS, EXTERNAL], ids=["entities", "external"])
def test_attacks_by_xml_are_refused(scan: Any, head: str) -> None:
    files = {"a.jpg": "", "a.xml": xml(thing(name="&a;"), head=head)}
    with pytest.raises(DataError, match=r"a\.xml: refused, since it declares a document type or entities"):
        read(scan, files)
    with pytest.raises(DataError, match=r"a\.xml: refused"):
        pascal_voc.evidence(scan(files))
