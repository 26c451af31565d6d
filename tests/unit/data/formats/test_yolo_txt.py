"""YOLO txt."""

from typing import Any

import pytest

from visionyard.data.formats import yolo_txt
from visionyard.data.items import Problems
from visionyard.errors import DataError

YAML = "names: [cone, cube]\n"
LINE = "1 0.5 0.5 0.2 0.4\n"


def read(scan: Any, files: dict[str, str]) -> tuple[Any, dict[str, Any], list[tuple[str, str, str]]]:
    problems = Problems()
    reading = yolo_txt.read(scan(files), problems)
    images = {image.file.name: image for image in reading.images}
    assert reading.item_count == len(images)
    return reading, images, [(problem.code, problem.file, problem.item) for problem in problems.found]


@pytest.mark.parametrize(
    ("image", "label", "split"),
    [
        pytest.param("train/images/a.b.jpg", "train/labels/a.b.txt", "train", id="split above"),
        pytest.param("valid/images/a.jpg", "valid/labels/a.txt", "val", id="Roboflow's valid"),
        pytest.param("images/test/a.jpg", "labels/test/a.txt", "test", id="split below"),
        pytest.param("images/a.jpg", "labels/a.txt", None, id="no split"),
        pytest.param("images/x/images/a.jpg", "images/x/labels/a.txt", None, id="the last images counts"),
        pytest.param("obj_train_data/a.jpg", "obj_train_data/a.txt", None, id="side by side"),
        pytest.param("a.jpg", "a.txt", None, id="flat"),
    ],
)
def test_layouts(scan: Any, image: str, label: str, split: str | None) -> None:
    reading, images, problems = read(scan, {"data.yaml": YAML, image: "", label: LINE})
    box = images[image].labels.boxes[0]
    assert (box.class_name, box.item) == ("cube", "line 1")
    assert box.xyxy == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert (images[image].published_split, reading.classes, problems) == (split, ["cone", "cube"], [])


@pytest.mark.parametrize(
    ("name", "content", "classes"),
    [
        pytest.param("data.yaml", "names: ['b', 'a']", ["b", "a"], id="list keeps its order"),
        pytest.param("data.yml", "names:\n  1: a\n  0: b", ["b", "a"], id="numbers to names"),
        pytest.param("my.yaml", "path: .\nnames: {0: 7, 1: x}", ["7", "x"], id="any YAML with names"),
        pytest.param("classes.txt", "b\na\n\n", ["b", "a"], id="classes.txt"),
        pytest.param("obj.names", "b\r\na", ["b", "a"], id="obj.names"),
        pytest.param("data.yaml", "\ufeffnames: [b]", ["b"], id="byte order mark"),
    ],
)
def test_class_names(scan: Any, name: str, content: str, classes: list[str]) -> None:
    reading, _, problems = read(scan, {name: content, "other.yaml": "nothing: here", "a.jpg": "", "a.txt": ""})
    assert (reading.classes, problems) == (classes, [])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param("names: {0: a, 2: b}", "has the numbers '0', '2', expected 0 to 1", id="a gap"),
        pytest.param("names: [a, a]", "'a' is empty or stands there twice", id="twice"),
        pytest.param("names: []", "expected names as a list", id="empty"),
        pytest.param("names: cone", "expected names as a list or as numbers to names, got 'cone'", id="a word"),
        pytest.param("names: [a", "data.yaml: not valid YAML", id="no YAML"),
        pytest.param("names: " + "[" * 9000, r"not valid YAML \(brackets stand more than 50 deep", id="nested"),
        pytest.param("names: !!python/object/apply:os.system ['id']", "not valid YAML", id="code"),
        pytest.param("train: images", "no data.yaml with class names found", id="no names"),
    ],
)
def test_unusable_class_names(scan: Any, content: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(scan, {"data.yaml": content, "a.jpg": "", "a.txt": LINE})


def test_paths_of_exports_are_found_in_the_source(scan: Any) -> None:
    yaml = YAML + "nc: 3\npath: ../datasets/x\ntrain: ../first/images\nval: [second, gone]\ntest: /abs/third/images\n"
    names = [f"{folder}/{n}" for folder in ("first/images", "second", "third/images") for n in ("a.jpg",)]
    _, images, problems = read(scan, {"data.yaml": yaml, **dict.fromkeys(names, "")})
    assert [images[name].published_split for name in names] == ["train", "val", "test"]
    assert [p for p in problems if p[0] != "image_without_labels"] == [
        ("class_count_differs", "data.yaml", ""),
        ("split_not_found", "data.yaml", "val"),
    ]


def test_missing_and_empty_and_stray_label_files(scan: Any, make_source: Any) -> None:
    root = make_source({"images/b.jpg": "", "labels/x": "x"})
    (root / "labels/b.txt").touch()
    _, images, problems = read(
        scan, {"data.yaml": YAML, "images/a.jpg": "", "labels/c.txt": LINE, "README.dataset.txt": "hello"}
    )
    assert images["images/a.jpg"].labels is None
    assert images["images/b.jpg"].labels.boxes == ()
    assert problems == [("image_without_labels", "images/a.jpg", ""), ("labels_without_image", "labels/c.txt", "")]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param("0 0.5 0.5 0.2", "malformed_line", id="too few"),
        pytest.param("0 0.5 0.5 0.2 0.2 0.9", "malformed_line", id="with a confidence"),
        pytest.param("0 0.5 half 0.2 0.2", "malformed_line", id="a word"),
        pytest.param("0", "malformed_line", id="class alone"),
        pytest.param("2 0.5 0.5 0.2 0.2", "unknown_class", id="class too high"),
        pytest.param("-1 0.5 0.5 0.2 0.2", "unknown_class", id="class below 0"),
        pytest.param("0.5 0.5 0.5 0.2 0.2", "unknown_class", id="class between"),
        pytest.param("nan 0.5 0.5 0.2 0.2", "unknown_class", id="class NaN"),
        pytest.param("cone 0.5 0.5 0.2 0.2", "unknown_class", id="class by name"),
    ],
)
def test_faulty_lines(scan: Any, line: str, code: str) -> None:
    _, images, problems = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": f"\n{line}\n{LINE}"})
    assert problems == [(code, "a.txt", "line 2")]
    labels = images["a.jpg"].labels
    assert (len(labels.boxes), labels.has_faults) == (1, True)


def test_an_outline_becomes_a_mask(scan: Any) -> None:
    lines = "0 0.1 0.2 0.5 0.3 0.3 0.9\n1 0.1 0.2 0.5 0.2 0.5 0.9 0.1 0.9"
    _, images, problems = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": lines})
    boxes = images["a.jpg"].labels.boxes
    assert [box.xyxy for box in boxes] == [(0.1, 0.2, 0.5, 0.9)] * 2
    assert boxes[0].polygons == ((0.1, 0.2, 0.5, 0.3, 0.3, 0.9),)
    assert problems == []


OBB = "0 0.3 0.2 0.5 0.4 0.3 0.6 0.1 0.4\n"


def test_oriented_boxes_are_told_apart_by_the_yaml(scan: Any) -> None:
    _, images, problems = read(scan, {"data.yaml": YAML + "task: obb", "a.jpg": "", "a.txt": OBB + LINE})
    boxes = images["a.jpg"].labels.boxes
    assert (boxes[0].xyxy, boxes[0].polygons, len(boxes)) == ((0.1, 0.2, 0.5, 0.6), (), 2)
    assert problems == [("rotated_box", "data.yaml", "task")]


def test_outlines_of_four_points_alone_may_be_oriented_boxes(scan: Any) -> None:
    _, images, problems = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": OBB + OBB + LINE})
    assert len(images["a.jpg"].labels.boxes[0].polygons) == 1
    assert problems == [("maybe_oriented_boxes", "data.yaml", "")]


def test_key_points_leave_their_box(scan: Any) -> None:
    yaml = YAML + "kpt_shape: [2, 3]"
    lines = "1 0.5 0.5 0.2 0.4 0.1 0.1 2 0.2 0.2 1\n" + LINE + "1 0.5 0.5 0.2 0.4 0.1 0.1\n"
    _, images, problems = read(scan, {"data.yaml": yaml, "a.jpg": "", "a.txt": lines})
    labels = images["a.jpg"].labels
    assert [box.xyxy for box in labels.boxes] == [pytest.approx((0.4, 0.3, 0.6, 0.7))] * 2
    assert labels.has_faults
    assert problems == [("malformed_line", "a.txt", "line 3"), ("shape_not_supported", "data.yaml", "kpt_shape")]


@pytest.mark.parametrize(
    ("yaml", "lists", "splits"),
    [
        pytest.param(
            "train: train.txt\nval: lists/val.txt",
            {"train.txt": "./images/a.jpg\n\nimages/b.jpg\n", "lists/val.txt": "/home/me/set/images/c.jpg"},
            ["train", "train", "val"],
            id="lists",
        ),
        pytest.param(
            "path: /home/me/set\ntrain: train.txt\nval: [val1.txt, val2.txt]",
            {"train.txt": "images/a.jpg", "val1.txt": "images/b.jpg", "val2.txt": "images/c.jpg"},
            ["train", "val", "val"],
            id="list of lists",
        ),
        pytest.param(
            "train: train.txt\ntest: images", {"train.txt": "images/a.jpg"}, ["train", "test", "test"], id="both"
        ),
        pytest.param("train: images\nval: images", {}, ["train"] * 3, id="one folder for two"),
    ],
)
def test_split_lists(scan: Any, yaml: str, lists: dict[str, str], splits: list[str]) -> None:
    files = {f"images/{name}.jpg": "" for name in "abc"}
    labels = {f"labels/{name}.txt": LINE for name in "abc"}
    _, images, problems = read(scan, {"data.yaml": YAML + yaml, **files, **labels, **lists})
    assert [each.published_split for each in images.values()] == splits
    assert [code for code, _, _ in problems] == (["two_published_splits"] if "train: images" in yaml else [])


def test_faulty_split_lists(scan: Any) -> None:
    files = {"data.yaml": YAML + "train: t.txt\nval: v.txt", "t.txt": "a.jpg\n../../etc/passwd", "v.txt": "a.jpg"}
    _, images, problems = read(scan, {**files, "a.jpg": "", "a.txt": LINE})
    assert images["a.jpg"].published_split == "train"
    assert problems == [("image_not_found", "t.txt", "line 2"), ("two_published_splits", "v.txt", "line 1")]


def test_a_path_of_a_hundred_thousand_folders_is_no_folder(scan: Any) -> None:
    _, _, problems = read(scan, {"data.yaml": f"{YAML}train: {'a/' * 100_000}", "a.jpg": "", "a.txt": LINE})
    assert problems == [("split_not_found", "data.yaml", "train")]


def test_the_export_of_cvat_and_darknet(scan: Any) -> None:
    files = {
        "obj.data": "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
        "obj.names": "cone\ncube\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
        "valid.txt": "data/obj_valid_data/b.jpg\n",
        "obj_train_data/a.jpg": "",
        "obj_train_data/a.txt": LINE,
        "obj_valid_data/b.jpg": "",
        "obj_valid_data/b.txt": LINE,
    }
    reading, images, problems = read(scan, files)
    assert [each.published_split for each in images.values()] == ["train", "val"]
    assert (reading.classes, problems) == (["cone", "cube"], [])


def test_class_names_are_texts_whatever_yaml_makes_of_them(scan: Any) -> None:
    reading, _, _ = read(scan, {"data.yaml": "names: [no, on, 1.0, 0x1f, 2020-01-01]", "a.jpg": "", "a.txt": ""})
    assert reading.classes == ["no", "on", "1.0", "0x1f", "2020-01-01"]


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ("17", "'17'"),
        ("[17]", r"\['17'\]"),
        ("[17, 4]", "'4'"),
        ("[0, 3]", "'0'"),
        ("[a, b]", "'a'"),
        ("[99999999, 3]", "999"),
    ],
)
def test_unusable_key_points(scan: Any, shape: str, shown: str) -> None:
    with pytest.raises(DataError, match=rf"data\.yaml: kpt_shape is .*{shown}.*, expected how many points and 2 or 3"):
        read(scan, {"data.yaml": YAML + f"kpt_shape: {shape}", "a.jpg": "", "a.txt": LINE})


def test_a_list_of_names_without_end_is_refused(scan: Any) -> None:
    with pytest.raises(DataError, match=r"classes\.txt: it has 700000 bytes, expected 262144 at most"):
        read(scan, {"classes.txt": "a name\n" * 100_000, "a.jpg": "", "a.txt": LINE})


def test_a_yaml_that_unfolds_without_end_is_refused_at_once(scan: Any) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60))
    with pytest.raises(DataError, match="expected names as a list or as numbers to names"):
        read(scan, {"data.yaml": bomb + "names: *a59", "a.jpg": "", "a.txt": LINE})


def test_a_number_that_is_not_one_reaches_the_box_check(scan: Any) -> None:
    _, images, _ = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": "0 nan 0.5 0.2 0.2"})
    assert str(images["a.jpg"].labels.boxes[0].xyxy[0]) == "nan"


def test_labels_that_are_not_text(scan: Any) -> None:
    _, images, problems = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": b"\xff\xfe0 0"})  # type: ignore[dict-item]
    assert (images["a.jpg"].labels, problems) == (None, [("unreadable_labels", "a.txt", "")])
