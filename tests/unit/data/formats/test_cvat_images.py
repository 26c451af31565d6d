"""CVAT for images 1.1; the samples follow CVAT's documentation of the format."""

from typing import Any

import numpy as np
import pytest

from visionyard.data.formats import cvat_images
from visionyard.data.items import Problems
from visionyard.errors import DataError
from visionyard.geometry import Mask

BOX = '<box label="car" source="manual" occluded="0" xtl="10.00" ytl="20.50" xbr="40.00" ybr="45.00" z_order="0"></box>'
POLYGON = '<polygon label="car" occluded="1" points="10.00,20.50;40.00,20.50;40.00,45.00" z_order="1"></polygon>'
# Three rows of four pixels: ..## .##. ....
RLE = '<mask label="bus" occluded="0" rle="2, 2, 1, 2, 5" left="7" top="9" width="4" height="3" z_order="0"></mask>'
TAG = '<tag label="car" source="manual"></tag>'


def image(*shapes: str, name: str = "a.jpg", more: str = 'width="100" height="50"') -> str:
    return f'<image id="0" name="{name}" {more}>{"".join(shapes)}</image>'


def xml(*images: str, labels: str = "car,bus", mode: str = "annotation") -> str:
    names = "".join(f"<label><name>{name}</name></label>" for name in labels.split(",") if name)
    head = f"<task><id>4</id><size>1</size><mode>{mode}</mode><labels>{names}</labels></task><dumped>2018</dumped>"
    return f"<annotations><version>1.1</version><meta>{head}</meta>{''.join(images)}</annotations>"


def read(scan: Any, files: dict[str, str]) -> tuple[dict[str, Any], list[tuple[str, str, str]], Any]:
    problems = Problems()
    reading = cvat_images.read(scan(files), problems)
    images = {each.file.name: each for each in reading.images}
    assert reading.item_count == len(images)
    return images, [(problem.code, problem.file, problem.item) for problem in problems.found], reading.task


def one(scan: Any, *shapes: str, more: str = 'width="100" height="50"') -> tuple[Any, list[tuple[str, str]]]:
    images, problems, task = read(scan, {"a.jpg": "", "x.xml": xml(image(*shapes, more=more))})
    assert task == "detection"
    return images["a.jpg"].labels, [(code, item) for code, _, item in problems]


def test_boxes_polygons_and_masks(scan: Any) -> None:
    labels, problems = one(scan, BOX, POLYGON, RLE)
    box, polygon, mask = labels.boxes
    assert (box.class_name, box.xyxy, box.polygons, box.mask) == ("car", (10, 20.5, 40, 45), (), None)
    assert (polygon.xyxy, polygon.polygons) == ((10, 20.5, 40, 45), ((10, 20.5, 40, 20.5, 40, 45),))
    pixels = np.zeros((50, 100), np.bool_)
    pixels[9, 9:11] = pixels[10, 8:10] = True
    assert (mask.class_name, mask.xyxy, mask.mask) == ("bus", (8, 9, 11, 11), Mask.from_array(pixels))
    assert (labels.size_wh, labels.has_faults, problems) == ((100, 50), False, [])


def test_an_image_without_shapes_is_empty_and_one_that_is_not_listed_unlabelled(scan: Any) -> None:
    images, problems, _ = read(
        scan, {"a.jpg": "", "b.jpg": "", "c.jpg": "", "x.xml": xml(image(BOX), image(name="b.jpg"))}
    )
    assert images["b.jpg"].labels.boxes == ()
    assert images["c.jpg"].labels is None
    assert problems == [("image_without_labels", "c.jpg", "")]


def test_the_example_of_the_documentation(scan: Any) -> None:
    shapes = """
    <box label="plate" xtl="797.33" ytl="870.92" xbr="965.52" ybr="928.94" occluded="0" z_order="4">
    </box>
    <polygon label="car" points="561.30,916.23;561.30,842.77;554.72,761.63" occluded="0" z_order="1">
    </polygon>
    <polyline label="traffic_line" points="462.10,0.00;126.80,1200.00" occluded="0" z_order="3">
    </polyline>
    <points label="wheel" points="574.90,939.48;1170.16,907.90" occluded="0" z_order="5">
    </points>
    <tag label="good_frame" source="manual">
    </tag>"""
    content = xml(image(shapes, name="filename000.jpg", more='width="1600" height="1200"'), labels="")
    images, problems, _ = read(scan, {"images/filename000.jpg": "", "annotations.xml": content})
    labels = images["images/filename000.jpg"].labels
    assert [(box.class_name, box.xyxy) for box in labels.boxes] == [
        ("plate", (797.33, 870.92, 965.52, 928.94)),
        ("car", (554.72, 761.63, 561.30, 916.23)),
    ]
    assert labels.size_wh == (1600, 1200)
    assert problems == [
        ("tag_left_out", "annotations.xml", ""),
        ("shape_not_supported", "annotations.xml", "filename000.jpg, shape 3"),
        ("shape_not_supported", "annotations.xml", "filename000.jpg, shape 4"),
    ]


@pytest.mark.parametrize(
    ("shape", "xyxy", "code"),
    [
        pytest.param(
            BOX.replace("z_order", 'rotation="90.00" z_order'), (12.75, 17.75, 37.25, 47.75), "rotated_box", id="box"
        ),
        pytest.param(BOX.replace("z_order", 'rotation="0.00" z_order'), (10, 20.5, 40, 45), None, id="not turned"),
        pytest.param(
            '<ellipse label="car" cx="30" cy="20" rx="10" ry="5"></ellipse>',
            (20, 15, 40, 25),
            "shape_as_box",
            id="ellipse",
        ),
        pytest.param(
            '<ellipse label="car" cx="30" cy="20" rx="10" ry="5" rotation="90"></ellipse>',
            (25, 10, 35, 30),
            "shape_as_box",
            id="turned ellipse",
        ),
        pytest.param(
            '<cuboid label="car" xtl1="1" ytl1="2" xbl1="1" ybl1="9" xtr1="8" ytr1="2" xbr1="8" ybr1="9" xtl2="3" '
            'ytl2="1" xbl2="3" ybl2="8" xtr2="10" ytr2="1" xbr2="10" ybr2="8"></cuboid>',
            (1, 1, 10, 9),
            "shape_as_box",
            id="cuboid",
        ),
    ],
)
def test_shapes_of_which_the_box_is_taken(scan: Any, shape: str, xyxy: tuple[float, ...], code: str | None) -> None:
    labels, problems = one(scan, shape)
    assert labels.boxes[0].xyxy == pytest.approx(xyxy)
    assert problems == ([(code, "a.jpg, shape 1")] if code else [])


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        pytest.param('<polyline label="car" points="1,2;3,4"/>', "shape_not_supported", id="polyline"),
        pytest.param('<points label="car" points="1,2"/>', "shape_not_supported", id="points"),
        pytest.param(
            '<skeleton label="car"><points label="eye" points="1,2"/></skeleton>', "shape_not_supported", id="skeleton"
        ),
        pytest.param(BOX.replace("car", "tree"), "unknown_class", id="label that is not declared"),
        pytest.param(BOX.replace(' label="car"', ""), "unknown_class", id="no label"),
        pytest.param(BOX.replace(' xtl="10.00"', ""), "malformed_box", id="no left"),
        pytest.param(BOX.replace("10.00", "ten"), "malformed_box", id="a word"),
        pytest.param(BOX.replace("z_order", 'rotation="inf" z_order'), "malformed_box", id="turned without end"),
        pytest.param('<polygon label="car" points="1,2;3,4"/>', "malformed_box", id="two points"),
        pytest.param('<polygon label="car" points="1,2;3,4;5"/>', "malformed_box", id="half a point"),
        pytest.param('<polygon label="car" points=""/>', "malformed_box", id="no points"),
        pytest.param('<polygon label="car" points="1,2;3,4;nan,6"/>', "malformed_box", id="NaN"),
        pytest.param('<cuboid label="car" xtl1="1"/>', "malformed_box", id="half a cuboid"),
        pytest.param(RLE.replace("2, 2, 1, 2, 5", "2, 2"), "malformed_box", id="runs too short"),
        pytest.param(RLE.replace("2, 2, 1, 2, 5", "12"), "malformed_box", id="runs of nothing"),
        pytest.param(RLE.replace("2, 2, 1, 2, 5", "2, -2, 12"), "malformed_box", id="runs below 0"),
        pytest.param(RLE.replace("2, 2, 1, 2, 5", "x"), "malformed_box", id="runs that are no numbers"),
        pytest.param(RLE.replace('left="7"', 'left="97"'), "malformed_box", id="mask outside"),
        pytest.param(RLE.replace('left="7"', 'left="-1"'), "malformed_box", id="mask left of the image"),
        pytest.param(RLE.replace('left="7"', 'left="7.5"'), "malformed_box", id="half pixels"),
        pytest.param(RLE.replace('width="4"', 'width="4e9"'), "malformed_box", id="a mask of no image"),
    ],
)
def test_shapes_that_cannot_be_used(scan: Any, shape: str, code: str) -> None:
    labels, problems = one(scan, shape, BOX)
    assert problems == [(code, "a.jpg, shape 1")]
    assert (len(labels.boxes), labels.has_faults) == (1, True)


@pytest.mark.parametrize(
    "more", ["", 'width="0" height="0"', 'width="x" height="nan"', 'width="99999999" height="9999999"']
)
def test_a_mask_needs_the_size_of_its_image(scan: Any, more: str) -> None:
    labels, problems = one(scan, RLE, more=more)
    assert (labels.boxes, problems) == ((), [("malformed_box", "a.jpg, shape 1")])


def test_a_crowd_is_an_attribute(scan: Any) -> None:
    crowd = BOX.replace("></box>", '><attribute name="is_crowd">true</attribute></box>')
    labels, _ = one(scan, BOX, crowd, crowd.replace("true", "false"))
    assert [box.is_crowd for box in labels.boxes] == [False, True, False]


def test_tags_alone_are_classes_of_images(scan: Any) -> None:
    both = TAG + TAG.replace("car", "bus")
    tagged = [
        image(TAG),
        image(TAG.replace("car", "bus"), name="b.jpg"),
        image(both, name="c.jpg"),
        image(name="d.jpg"),
    ]
    images, problems, task = read(
        scan, {**dict.fromkeys(("a.jpg", "b.jpg", "c.jpg", "d.jpg"), ""), "x.xml": xml(*tagged)}
    )
    assert task == "classification"
    assert [each.class_name for each in images.values()] == ["car", "bus", None, None]
    assert problems == [("several_classes", "x.xml", "c.jpg")]


@pytest.mark.parametrize(
    ("subset", "path", "split"),
    [
        pytest.param("train", "images/train/a.jpg", "train", id="folder and subset"),
        pytest.param("Validation", "images/a.jpg", "val", id="subset alone"),
        pytest.param("default", "images/test/a.jpg", "test", id="folder alone"),
        pytest.param("", "images/a.jpg", None, id="none"),
    ],
)
def test_subsets_are_published_splits(scan: Any, subset: str, path: str, split: str | None) -> None:
    content = xml(image(BOX, more=f'subset="{subset}" width="100" height="50"'))
    images, problems, _ = read(scan, {path: "", "annotations.xml": content})
    assert (images[path].published_split, len(images[path].labels.boxes), problems) == (split, 1, [])


def test_images_of_one_name_in_several_subsets(scan: Any) -> None:
    listed = [
        image(BOX, more=f'subset="{split}"') if split == "val" else image(more='subset="train"')
        for split in ("train", "val")
    ]
    files = {"images/train/a.jpg": "", "images/val/a.jpg": "", "annotations.xml": xml(*listed)}
    images, problems, _ = read(scan, files)
    assert {name: len(each.labels.boxes) for name, each in images.items()} == {
        "images/train/a.jpg": 0,
        "images/val/a.jpg": 1,
    }
    assert problems == []


def test_images_of_one_name_in_subsets_that_are_no_splits(scan: Any) -> None:
    listed = [image(BOX, more='subset="night"'), image(more='subset="day"')]
    files = {"images/day/a.jpg": "", "images/night/a.jpg": "", "annotations.xml": xml(*listed)}
    images, problems, _ = read(scan, files)
    assert {name: (len(each.labels.boxes), each.published_split) for name, each in images.items()} == {
        "images/day/a.jpg": (0, None),
        "images/night/a.jpg": (1, None),
    }
    assert problems == []


def test_several_files_and_images_that_are_missing(scan: Any) -> None:
    files = {
        "a.jpg": "",
        "1.xml": xml(image(BOX)),
        "2.xml": xml(image(), image(name="gone.jpg"), image(name="/etc/passwd")),
    }
    images, problems, _ = read(scan, files)
    assert len(images["a.jpg"].labels.boxes) == 1
    assert problems == [
        ("image_labelled_twice", "2.xml", "image 1"),
        ("image_not_found", "2.xml", "image 2"),
        ("image_not_found", "2.xml", "image 3"),
    ]


def test_a_file_cut_short_leaves_its_images_unlabelled(scan: Any) -> None:
    images, problems, _ = read(
        scan, {"a.jpg": "", "b.jpg": "", "1.xml": xml(image(BOX))[:-5], "2.xml": xml(image(BOX, name="b.jpg"))}
    )
    assert (images["a.jpg"].labels, len(images["b.jpg"].labels.boxes)) == (None, 1)
    assert problems == [("unreadable_labels", "1.xml", ""), ("image_without_labels", "a.jpg", "")]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(
            '<annotations><track id="0" label="car"/></annotations>', r"x\.xml: holds <track> elements", id="video"
        ),
        pytest.param(xml(mode="interpolation"), r"x\.xml: holds <track> elements", id="video without tracks"),
        pytest.param("<annotation/>", "none of 1 XML files is CVAT's", id="VOC"),
        pytest.param(
            "<!DOCTYPE a><annotations/>", r"x\.xml: refused, since it declares a document type", id="document type"
        ),
    ],
)
def test_refused_files(scan: Any, content: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(scan, {"a.jpg": "", "x.xml": content})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {"a.jpg": "", "x.xml": xml(image(BOX))}, "x.xml with CVAT's <annotations> of images, 1 images", id="images"
        ),
        pytest.param(
            {"a.jpg": "", "x.xml": xml()}, "x.xml with CVAT's <annotations> of images, 1 images", id="no images listed"
        ),
        pytest.param(
            {"a.jpg": "", "x.xml": xml(mode="interpolation")},
            "x.xml with CVAT's <annotations> of tracks, 1 images, no clips",
            id="tracks without their clip",
        ),
        pytest.param({"a.jpg": "", "b.mp4": "", "x.xml": xml(mode="interpolation")}, "", id="tracks with a clip"),
        pytest.param({"b.mp4": "", "x.xml": xml(image(BOX))}, "", id="no images"),
        pytest.param({"a.jpg": "", "x.xml": "<annotation/>"}, "", id="VOC"),
        pytest.param({"a.jpg": "", "x.xml": "{}"}, "", id="no XML"),
    ],
)
def test_evidence(scan: Any, files: dict[str, str], expected: str) -> None:
    assert cvat_images.evidence(scan(files)) == expected
