"""COCO JSON."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.source_files import items
from visionyard.data.formats import choose_format, coco
from visionyard.data.ingest import ingest
from visionyard.data.items import Problems, read_json_lines
from visionyard.errors import DataError
from visionyard.geometry import Mask

CATEGORIES = [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}]
DISC = np.hypot(*np.mgrid[-15:35, -20:80]) < 12
MASK = Mask.from_array(DISC)


def annotation(**values: Any) -> dict[str, Any]:
    return {
        "id": 8 if values.get("category_id") == 3 else 7,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 20, 30, 5.5],
        **values,
    }


def image(image_id: Any = 1, file_name: str = "a.jpg", **values: Any) -> dict[str, Any]:
    return {"id": image_id, "file_name": file_name, "width": 100, "height": 50, **values}


def document(*annotations: Any, images: Any = None, categories: Any = None, **more: Any) -> dict[str, Any]:
    images = [image()] if images is None else images
    return {"images": images, "annotations": list(annotations), "categories": categories or CATEGORIES, **more}


def read(scan: Any, files: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str, str]], list[str]]:
    problems = Problems()
    texts = {name: json.dumps(each) if isinstance(each, dict | list) else each for name, each in files.items()}
    reading = coco.read(scan(texts), problems)
    images = {each.file.name: each for each in reading.images}
    assert reading.item_count == len(images)
    return images, [(problem.code, problem.file, problem.item) for problem in problems.found], reading.classes


def one(scan: Any, *annotations: Any, **values: Any) -> tuple[Any, list[tuple[str, str]]]:
    both = [annotation(id=1, category_id=3), *annotations]
    images, problems, _ = read(scan, {"a.jpg": "", "x.json": document(*both, **values)})
    return images["a.jpg"].labels, [(code, item) for code, _, item in problems]


def test_boxes_and_classes(scan: Any) -> None:
    files = {"a.jpg": "", "b.jpg": "", "x.json": document(annotation(), images=[image(), image(2, "b.jpg")])}
    images, problems, classes = read(scan, files)
    (box,) = images["a.jpg"].labels.boxes
    assert (box.class_name, box.xyxy, box.item) == ("cat", (10, 20, 40, 25.5), "annotation 7")
    assert images["a.jpg"].labels.size_wh == (100, 50)
    assert images["b.jpg"].labels.boxes == ()  # listed without a box: nothing is there
    assert (problems, classes) == ([("class_without_boxes", "x.json", "categories")], ["cat", "dog"])


@pytest.mark.parametrize("order", [("categories", "annotations", "images"), ("annotations", "info", "images")])
def test_the_order_of_the_lists_does_not_matter(scan: Any, order: tuple[str, ...]) -> None:
    values = document(annotation(), annotation(id=8, category_id=3), info={"year": 2020})
    values = {**{key: values[key] for key in order}, **values}
    images, problems, _ = read(scan, {"a.jpg": "", "x.json": values})
    assert [box.class_name for box in images["a.jpg"].labels.boxes] == ["cat", "dog"]
    assert problems == []


@pytest.mark.parametrize(
    ("files", "split"),
    [
        pytest.param({"train/_annotations.coco.json": "", "train/a.jpg": ""}, "train", id="Roboflow"),
        pytest.param({"annotations/instances_val2017.json": "", "val2017/a.jpg": ""}, "val", id="COCO"),
        pytest.param({"annotations/instances_test.json": "", "images/a.jpg": ""}, "test", id="by the file alone"),
        pytest.param({"x.json": "", "test/a.jpg": ""}, "test", id="by the image's folder"),
        pytest.param({"train_test.json": "", "a.jpg": ""}, None, id="two splits in a name"),
        pytest.param({"labels.json": "", "a.jpg": ""}, None, id="none"),
    ],
)
def test_published_splits(scan: Any, files: dict[str, Any], split: str | None) -> None:
    name = next(iter(files))
    both = document(annotation(), annotation(category_id=3))
    images, problems, _ = read(scan, {**files, name: both})
    (found,) = images.values()
    assert (found.published_split, len(found.labels.boxes), problems) == (split, 2, [])


def test_files_of_several_splits(scan: Any) -> None:
    files = {f"{split}2017/1.jpg": "" for split in ("train", "val")}
    for split, left in (("train", 1), ("val", 2)):
        values = document(
            annotation(bbox=[left, 0, 5, 5]), annotation(category_id=3), images=[image(file_name="1.jpg")]
        )
        files[f"annotations/instances_{split}2017.json"] = values
    images, problems, _ = read(scan, files)
    assert {name: each.labels.boxes[0].xyxy[0] for name, each in images.items()} == {
        "train2017/1.jpg": 1,
        "val2017/1.jpg": 2,
    }
    assert problems == []


@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param({"size": [50, 100], "counts": MASK.counts}, id="compressed"),
        pytest.param({"size": [50, 100], "counts": np.diff([0, *MASK.edges(), 5000]).tolist()}, id="numbers"),
    ],
)
def test_run_lengths(scan: Any, segmentation: dict[str, Any]) -> None:
    labels, problems = one(scan, annotation(segmentation=segmentation, bbox=[9, 4, 23, 23], iscrowd=1))
    assert (labels.boxes[1].mask, labels.boxes[1].is_crowd, labels.boxes[1].polygons) == (MASK, True, ())
    assert (labels.boxes[0].is_crowd, problems) == (False, [])


@pytest.mark.parametrize(
    ("segmentation", "polygons"),
    [
        pytest.param([[10, 20, 40, 20, 40, 25.5]], ((10, 20, 40, 20, 40, 25.5),), id="one"),
        pytest.param([10, 20, 40, 20, 40, 25.5], ((10, 20, 40, 20, 40, 25.5),), id="not in a list"),
        pytest.param([[10, 20, 20, 20, 20, 25], [30, 20, 40, 20, 40, 25]], None, id="two parts"),
        pytest.param([], (), id="none"),
        pytest.param([[]], (), id="an empty one"),
        pytest.param(None, (), id="null"),
        pytest.param({}, (), id="empty object"),
    ],
)
def test_outlines(scan: Any, segmentation: Any, polygons: Any) -> None:
    labels, problems = one(scan, annotation(segmentation=segmentation))
    assert labels.boxes[1].polygons == (polygons if polygons is not None else tuple(map(tuple, segmentation)))
    assert (labels.boxes[1].xyxy, labels.boxes[1].mask, problems) == ((10, 20, 40, 25.5), None, [])


@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param([[1, 2, 3, 4]], id="two points"),
        pytest.param([[1, 2, 3, 4, 5, 6, 7]], id="odd"),
        pytest.param([["1", 2, 3, 4, 5, 6]], id="texts"),
        pytest.param([[[1, 2], [3, 4], [5, 6]]], id="points in lists"),
        pytest.param("poly", id="text"),
        pytest.param(7, id="number"),
        pytest.param({"size": [50, 100]}, id="no counts"),
        pytest.param({"size": [50, 100], "counts": [1, 2]}, id="runs too short"),
        pytest.param({"size": [50, 100], "counts": "?"}, id="text that is no run lengths"),
        pytest.param({"size": [50, 100], "counts": MASK.counts + "1"}, id="text too long"),
        pytest.param({"size": [-50, -100], "counts": [5000]}, id="sizes below 0"),
        pytest.param({"size": [True, 100], "counts": [100]}, id="size that is a bool"),
        pytest.param({"size": "50x100", "counts": [5000]}, id="size as text"),
        pytest.param({"size": [10**30, 10**30], "counts": [10**60]}, id="of no image"),
    ],
)
def test_masks_that_cannot_be_used_leave_their_box(scan: Any, segmentation: Any) -> None:
    labels, problems = one(scan, annotation(segmentation=segmentation))
    assert problems == [("malformed_mask", "annotation 7")]
    assert (labels.boxes[1].xyxy, labels.boxes[1].polygons, labels.boxes[1].mask) == ((10, 20, 40, 25.5), (), None)


@pytest.mark.parametrize(
    ("values", "code", "count"),
    [
        pytest.param({"bbox": [10, 20, 30]}, "malformed_box", 1, id="three numbers"),
        pytest.param({"bbox": None}, "malformed_box", 1, id="no box"),
        pytest.param({"bbox": ["1", 2, 3, 4]}, "malformed_box", 1, id="text"),
        pytest.param({"category_id": 2}, "unknown_class", 1, id="class that is not listed"),
        pytest.param({"category_id": "1"}, "unknown_class", 1, id="class as text"),
        pytest.param({"category_id": [1]}, "unknown_class", 1, id="class as list"),
        pytest.param(
            {"bbox": [30, 20, 60, 50], "segmentation": [[30, 20, 60, 20, 60, 50, 30, 50]]},
            "box_differs_from_mask",
            2,
            id="two corners instead of a corner and a size",
        ),
    ],
)
def test_faulty_annotations(scan: Any, values: dict[str, Any], code: str, count: int) -> None:
    labels, problems = one(scan, annotation(**values))
    assert (code, "annotation 7") in problems
    assert (len(labels.boxes), labels.has_faults) == (count, count == 1)


def test_a_box_left_out_is_that_around_its_mask(scan: Any) -> None:
    polygon, runs = [[10, 20, 40, 20, 40, 25.5]], {"size": [50, 100], "counts": MASK.counts}
    first, second = annotation(segmentation=polygon), annotation(segmentation=runs, id=9)
    del first["bbox"], second["bbox"]
    labels, problems = one(scan, first, second)
    assert [box.xyxy for box in labels.boxes[1:]] == [(10, 20, 40, 25.5), (9, 4, 32, 27)]
    assert problems == []


def test_annotation_ids_that_stand_twice_are_told(scan: Any) -> None:
    labels, problems = one(scan, annotation(), annotation(), annotation(id=10**30), annotation(id="x"))
    assert (len(labels.boxes), problems) == (5, [("duplicate_annotation_id", "")])


def test_annotations_without_an_image(scan: Any) -> None:
    labels, problems = one(scan, annotation(image_id=9), annotation(image_id="x"), annotation(image_id=9))
    assert len(labels.boxes) == 1
    assert ("labels_without_image", "") in problems


@pytest.mark.parametrize(
    ("second", "code", "has_labels"),
    [
        pytest.param(image(1, "a.jpg"), "duplicate_image_id", True, id="the same entry twice"),
        pytest.param(image(1, "b.jpg"), "duplicate_image_id", False, id="an id of two images"),
        pytest.param(image(2, "a.jpg"), "image_labelled_twice", True, id="two ids of one image"),
        pytest.param(image(2, "gone.jpg"), "image_not_found", True, id="missing"),
        pytest.param(image(2, "/etc/passwd"), "image_not_found", True, id="outside the source"),
        pytest.param(image(None, "b.jpg"), "malformed_entry", True, id="no id"),
        pytest.param(image([2], "b.jpg"), "malformed_entry", True, id="a list as id"),
        pytest.param(image(2, ""), "malformed_entry", True, id="no name"),
        pytest.param({"id": 2}, "malformed_entry", True, id="no file_name"),
        pytest.param("b.jpg", "malformed_entry", True, id="a text"),
    ],
)
def test_faulty_images(scan: Any, second: Any, code: str, has_labels: bool) -> None:
    values = document(annotation(), annotation(category_id=3), images=[image(), second])
    images, problems, _ = read(scan, {"a.jpg": "", "b.jpg": "", "x.json": values})
    codes = [each for each, _, _ in problems]
    assert codes[0] == code
    assert set(codes) == {code, "image_without_labels"}  # b.jpg, or both
    assert (images["a.jpg"].labels is not None) is has_labels


@pytest.mark.parametrize(
    ("categories", "expected", "code"),
    [
        pytest.param([{"id": 1, "name": "cat"}], ["cat"], None, id="one"),
        pytest.param(
            [{"id": 0, "name": "pets"}, {"id": 1, "name": "cat", "supercategory": "pets"}],
            ["cat"],
            "parent_class_left_out",
            id="parent",
        ),
        pytest.param(
            [{"id": 1, "name": "cat"}, {"id": 0, "name": "person", "supercategory": "person"}],
            ["person", "cat"],
            "class_without_boxes",
            id="its own parent",
        ),
        pytest.param(
            [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}],
            ["cat"],
            "duplicate_category_id",
            id="one id, two names",
        ),
        pytest.param([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat "}], ["cat"], None, id="one name, two ids"),
        pytest.param([{"id": 1, "name": "cat"}, {"id": 2}], ["cat"], "malformed_entry", id="no name"),
        pytest.param([{"id": 1, "name": "cat"}, {"id": "2", "name": "x"}], ["cat"], "malformed_entry", id="text as id"),
        pytest.param([{"id": 1, "name": "cat"}, 4], ["cat"], "malformed_entry", id="a number"),
    ],
)
def test_categories(scan: Any, categories: list[Any], expected: list[str], code: str | None) -> None:
    values = document(annotation(), categories=categories)
    _, problems, classes = read(scan, {"a.jpg": "", "x.json": values})
    assert classes == expected
    assert [each for each, _, _ in problems] == ([code] if code else [])


def test_classes_of_several_files_are_merged_by_name(scan: Any) -> None:
    first = document(annotation(), categories=[{"id": 1, "name": "cat"}])
    second = document(annotation(), categories=[{"id": 1, "name": "cow"}, {"id": 2, "name": "cat"}])
    files = {"train/a.jpg": "", "train/c.json": first, "val/a.jpg": "", "val/c.json": second}
    images, problems, classes = read(scan, files)
    assert classes == ["cat", "cow"]
    assert images["val/a.jpg"].labels.boxes[0].class_name == "cow"
    assert problems == []


def test_a_file_without_annotations_leaves_its_images_unlabelled(scan: Any) -> None:
    values = document()
    del values["annotations"]
    images, _, classes = read(scan, {"a.jpg": "", "image_info_test.json": values})
    assert (images["a.jpg"].labels, images["a.jpg"].published_split, classes) == (None, "test", ["cat", "dog"])


def test_an_empty_list_of_annotations_says_that_nothing_is_there(scan: Any) -> None:
    images, problems, _ = read(scan, {"a.jpg": "", "instances_test.json": document()})
    assert (images["a.jpg"].labels.boxes, problems) == ((), [])


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param({"caption": "a cat"}, "shape_not_supported", id="captions"),
        pytest.param({"segments_info": [], "file_name": "a.png"}, "shape_not_supported", id="panoptic segments"),
        pytest.param({"bbox": [1, 2, 3, 4]}, "malformed_entry", id="boxes of no class"),
    ],
)
def test_annotations_of_no_class_do_not_say_that_nothing_is_there(scan: Any, said: dict[str, Any], code: str) -> None:
    alone = document({"id": 1, "image_id": 1, **said}, images=[image(), image(2, "b.jpg")])
    images, problems, _ = read(scan, {"a.jpg": "", "b.jpg": "", "x.json": alone})
    assert [each.labels for each in images.values()] == [None, None]
    assert [found[:2] for found in problems] == [(code, "x.json")]

    among = {**alone, "annotations": [*alone["annotations"], annotation(image_id=3)]}
    among["images"] = [*alone["images"], image(3, "c.jpg")]
    images, problems, _ = read(scan, {**dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), ""), "x.json": among})
    assert [(len(each.labels.boxes), each.labels.has_faults) for each in images.values()] == [
        (0, True),
        (0, False),
        (1, False),
    ]
    assert (code, "x.json") in [found[:2] for found in problems]


def test_other_files_of_the_same_images_are_told(scan: Any) -> None:
    captions = {"images": [image()], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]}
    points = document(annotation(keypoints=[1, 2, 2]), annotation(keypoints=[1, 2, 2], category_id=3))
    files = {"a.jpg": "", "instances.json": document(annotation(), annotation(category_id=3))}
    images, problems, _ = read(scan, {**files, "captions.json": captions, "keypoints.json": points})
    assert len(images["a.jpg"].labels.boxes) == 2
    assert problems == [
        ("shape_not_supported", "captions.json", "caption"),
        ("shape_not_supported", "keypoints.json", "keypoints"),
        ("image_labelled_twice", "captions.json", "image 1"),
        ("image_labelled_twice", "keypoints.json", "image 1"),
    ]


def test_letters_of_other_scripts(scan: Any) -> None:
    values = document(annotation(), images=[image(file_name="日本/ä.jpg")], categories=[{"id": 1, "name": "猫"}])
    text = json.dumps(values, ensure_ascii=False)
    images, problems, classes = read(scan, {"日本/ä.jpg": "", "x.json": text})
    assert (classes, problems, images["日本/ä.jpg"].labels.boxes[0].class_name) == (["猫"], [], "猫")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param('{"shapes": [], "version": 1}', r"x\.json has 'shapes', 'version'\)", id="other keys"),
        pytest.param("[1, 2]", r"x\.json is a list", id="a list"),
        pytest.param('{"a": ', r"x\.json: not usable JSON at byte 6", id="cut off"),
        pytest.param('{"images": [{"id": 1}]}', "has 'images'", id="images without names"),
    ],
)
def test_what_is_not_coco_is_refused_with_what_was_seen(scan: Any, content: str, match: str) -> None:
    with pytest.raises(DataError, match=f"no COCO file found.*{match}"):
        read(scan, {"a.jpg": "", "x.json": content})
    with pytest.raises(DataError, match="layout is not recognised"):
        choose_format(scan({"a.jpg": "", "x.json": content}), "auto")


def test_a_file_that_breaks_off_is_refused_with_the_place(scan: Any) -> None:
    text = json.dumps(document(annotation(), annotation()))[:-40]
    with pytest.raises(DataError, match=rf"val\.json: not usable JSON at byte {text.rindex(chr(34))}: Unterminated"):
        read(scan, {"a.jpg": "", "val.json": text})


def test_the_evidence_reads_no_more_than_the_head(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"info": {"year": 1}, "images": [image()]})[:-2]
    tree = scan({"a.jpg": "", "x.json": text + ', {"id": 2}, broken'})
    assert choose_format(tree, "auto")[1] == "x.json with COCO's images and annotations, 1 images"


def test_chess_pieces(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    report = ingest(str(shared_data("chess-pieces")), tmp_path / "out")
    found = items(tmp_path / "out")
    names = [f"{colour}-{piece}" for colour in ("black", "white") for piece in _PIECES]
    assert (report.kind, report.image_count, report.classes) == ("images_coco", 117, ("bishop", *names))
    counts = Counter(box.class_name for item in found for box in item.boxes or ())
    assert (counts.total(), counts["bishop"]) == (1055, 1)  # the mistaken class has one box
    assert Counter(item.published_split for item in found) == {"train": 30, "val": 58, "test": 29}
    assert [item.source[:10] for item in found if item.boxes == ()] == ["test/e0d38"]  # the empty board
    problems = [each["code"] for each in read_json_lines(tmp_path / "out" / "problems.jsonl")]
    assert problems == ["parent_class_left_out"]


_PIECES = ("bishop", "king", "knight", "pawn", "queen", "rook")
