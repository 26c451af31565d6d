"""A folder for each class, and the choice of a format."""

from typing import Any

import pytest

from visionyard.data.formats import FORMATS, choose_format, class_folders
from visionyard.data.items import Problems
from visionyard.errors import ConfigError, DataError


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param({"cat/1.jpg": ("cat", None), "dog/1.jpg": ("dog", None)}, id="plain"),
        pytest.param({"x/cat/1.jpg": ("cat", None), "x/dog/2.jpg": ("dog", None)}, id="wrapped"),
        pytest.param({"cat/a/1.jpg": ("cat", None), "dog/b/c/2.jpg": ("dog", None)}, id="deep"),
        pytest.param(
            {"test/dog/1.jpg": ("dog", "test"), "train/cat/1.jpg": ("cat", "train"), "val/cat/1.jpg": ("cat", "val")},
            id="splits",
        ),
        pytest.param(
            {"d/train/cat/1.jpg": ("cat", "train"), "d/train/dog/1.jpg": ("dog", "train")}, id="train alone, wrapped"
        ),
        pytest.param({"cat/1.jpg": ("cat", None)}, id="one class"),
        pytest.param({"dog/1.jpg": ("dog", None), "test/1.jpg": ("test", None)}, id="a class called test"),
    ],
)
def test_classes_and_splits(scan: Any, expected: dict[str, tuple[str, str | None]]) -> None:
    problems = Problems()
    reading = class_folders.read_images(scan(dict.fromkeys(expected, "")), problems)
    assert {i.file.name: (i.class_name, i.published_split) for i in reading.images} == expected
    assert (problems.found, reading.item_count) == ([], len(expected))


def test_an_image_above_the_class_folders(scan: Any) -> None:
    problems = Problems()
    reading = class_folders.read_images(scan({"cover.jpg": "", "cat/1.jpg": "", "dog/1.jpg": ""}), problems)
    assert [image.file.name for image in reading.images] == ["cat/1.jpg", "dog/1.jpg"]
    assert [(p.code, p.file) for p in problems.found] == [("file_without_class", "cover.jpg")]


@pytest.mark.parametrize("names", [["1.jpg", "2.jpg"], ["train/1.jpg", "val/2.jpg"]], ids=["flat", "splits only"])
def test_no_class_folders(scan: Any, names: list[str]) -> None:
    with pytest.raises(DataError, match=r"expected a folder for each class with images in it.*found 2 images"):
        class_folders.read_images(scan(dict.fromkeys(names, "")), Problems())


VOC = "<annotation/>"
CVAT = "<annotations/>"


YAML = "names: [a]"


@pytest.mark.parametrize(
    ("files", "kind", "evidence"),
    [
        ({"cat/1.jpg": "", "dog/1.png": "", "README.md": "x"}, "images_by_class", "2 images in 2 folders"),
        ({"cat/1.mp4": "", "dog/1.gif": "", "dog/2.avi": ""}, "clips_by_class", "3 clips in 2 folders"),
        ({"cat/1.gif": "", "dog/1.gif": ""}, "images_by_class", "2 images"),
        ({"a/1.jpg": "", "a/1.xml": VOC}, "images_voc", "such as a/1.xml"),
        ({"a/1.mp4": "", "a/1.xml": CVAT}, "clips_cvat", "a/1.xml with CVAT"),
        ({"images/1.jpg": "", "labels/1.txt": "x", "data.yaml": YAML}, "images_yolo", "names in data.yaml"),
        ({"images/1.jpg": "", "labels/1.txt": "x"}, "images_yolo", "no file with class names"),
        ({"cat/1.jpg": "", "cat/pom.xml": "<project/>"}, "images_by_class", "1 images"),
    ],
    ids=["images", "clips with a GIF", "GIFs alone", "VOC", "CVAT", "YOLO", "YOLO without names", "other XML"],
)
def test_the_format_is_recognised(scan: Any, files: dict[str, str], kind: str, evidence: str) -> None:
    found, shown = choose_format(scan(files), "auto")
    assert found.kind == kind
    assert evidence in shown


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (
            {"a/1.jpg": "", "a/1.xml": VOC, "a/1.txt": "0 0 0 0 0"},
            r"could be images_voc \(.*\); images_yolo \(.*\); set data\.kind",
        ),
        ({"a/1.jpg": "", "a/1.mp4": ""}, "not recognised: found 1 videos, 1 images, 0 GIFs, 2 files"),
        ({"1.jpg": ""}, r"source: the layout is not recognised: found 0 videos, 1 images.*such as 1\.jpg"),
        ({"a.txt": "x"}, r"found 0 videos, 0 images, 0 GIFs, 1 files in all.*clips_by_class: a folder of clips"),
        ({"images/1.jpg": "", "annotations/2.png": ""}, "not recognised: found 0 videos, 2 images"),
        ({"a.csv": "x,y"}, r"or set data\.kind; if a\.csv is what shall be learnt from, set data\.kind: table"),
    ],
    ids=["VOC and YOLO", "images and clips", "flat", "text only", "images and annotations", "a table"],
)
def test_unclear_sources_say_what_was_seen(scan: Any, files: dict[str, str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        choose_format(scan(files), "auto")


def test_a_kind_that_is_set_is_believed(scan: Any) -> None:
    assert choose_format(scan({"1.jpg": ""}), "images_by_class") == (FORMATS["images_by_class"], "set in data.kind")
    with pytest.raises(ConfigError, match=r"data\.kind = 'images_tiff': expected auto, .*images_by_class"):
        choose_format(scan({"1.jpg": ""}), "images_tiff")
