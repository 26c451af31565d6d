"""Which format a source is found to be of: one, and told why; or none, or two, and refused."""

import json
from typing import Any

import pytest

from visionyard.data.formats import choose_format
from visionyard.errors import DataError

COCO = json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []})
TASKS = json.dumps([{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}])
CVAT = '<annotations><image id="0" name="a.jpg"/></annotations>'
TRACKS = '<annotations><track id="0" label="car"/></annotations>'
VOC = "<annotation/>"


@pytest.mark.parametrize(
    ("files", "kind", "evidence"),
    [
        pytest.param({"x.json": COCO}, "images_coco", "x.json with COCO's images and annotations, 1 images", id="COCO"),
        pytest.param(
            {"x.json": TASKS}, "images_label_studio", "x.json with tasks of Label Studio, 1 images", id="tasks"
        ),
        pytest.param({"x.xml": CVAT}, "images_cvat", "x.xml with CVAT's <annotations> of images, 1 images", id="CVAT"),
        pytest.param({"x.xml": VOC}, "images_voc", "1 XML files such as x.xml with <annotation>, 1 images", id="VOC"),
        pytest.param(
            {"x.xml": TRACKS, "c.mp4": ""},
            "clips_cvat",
            "x.xml with CVAT's <annotations> of tracks, 1 clips",
            id="tracks",
        ),
        pytest.param(
            {"a.txt": "", "data.yaml": "names: [x]"},
            "images_yolo",
            "1 label files such as a.txt, 1 images, names in data.yaml",
            id="YOLO",
        ),
        pytest.param(
            {"x.json": COCO, "package.json": '{"name": "x", "files": ["a.jpg"]}'},
            "images_coco",
            "x.json",
            id="other JSON",
        ),
        pytest.param({"x.json": COCO, "stats.json": "[1, 2, 3]"}, "images_coco", "x.json", id="a list beside it"),
        pytest.param({"x.json": COCO, "pom.xml": "<project/>"}, "images_coco", "x.json", id="other XML"),
        pytest.param(
            {"x.json": COCO, "broken.json": '{"images": ['}, "images_coco", "x.json", id="broken JSON beside it"
        ),
    ],
)
def test_one_format(scan: Any, files: dict[str, str], kind: str, evidence: str) -> None:
    found, told = choose_format(scan({"a.jpg": "", **files}), "auto")
    assert found.kind == kind
    assert told.startswith(evidence)


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        pytest.param({"x.json": COCO, "x.xml": CVAT}, ("images_coco", "images_cvat"), id="COCO and CVAT"),
        pytest.param(
            {"x.json": COCO, "y.json": TASKS}, ("images_coco", "images_label_studio"), id="COCO and Label Studio"
        ),
        pytest.param({"x.json": COCO, "a.xml": VOC}, ("images_coco", "images_voc"), id="COCO and VOC"),
        pytest.param(
            {"a.txt": "", "data.yaml": "names: [x]", "x.xml": CVAT}, ("images_cvat", "images_yolo"), id="CVAT and YOLO"
        ),
    ],
)
def test_two_formats_are_refused_until_one_is_named(scan: Any, files: dict[str, str], kinds: tuple[str, str]) -> None:
    tree = scan({"a.jpg": "", **files})
    with pytest.raises(DataError, match=rf"source: could be {kinds[0]} \(.*; {kinds[1]} \(.*set data\.kind to the one"):
        choose_format(tree, "auto")
    assert choose_format(tree, kinds[1])[0].kind == kinds[1]
