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
        pytest.param("names: {0: a, 2: b}", r"has the numbers \[0, 2\], expected 0 to 1", id="a gap"),
        pytest.param("names: [a, a]", "'a' is empty or stands there twice", id="twice"),
        pytest.param("names: []", "expected names as a list", id="empty"),
        pytest.param("names: cone", "expected names as a list or as numbers to names, got 'cone'", id="a word"),
        pytest.param("names: [a", "data.yaml: not valid YAML", id="no YAML"),
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


def test_a_polygon_is_taken_as_its_box(scan: Any) -> None:
    _, images, problems = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": "0 0.1 0.2 0.5 0.3 0.3 0.9"})
    assert images["a.jpg"].labels.boxes[0].xyxy == (0.1, 0.2, 0.5, 0.9)
    assert problems == [("polygon_as_box", "a.txt", "line 1")]


def test_a_number_that_is_not_one_reaches_the_box_check(scan: Any) -> None:
    _, images, _ = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": "0 nan 0.5 0.2 0.2"})
    assert str(images["a.jpg"].labels.boxes[0].xyxy[0]) == "nan"


def test_labels_that_are_not_text(scan: Any) -> None:
    _, images, problems = read(scan, {"data.yaml": YAML, "a.jpg": "", "a.txt": b"\xff\xfe0 0"})  # type: ignore[dict-item]
    assert (images["a.jpg"].labels, problems) == (None, [("unreadable_labels", "a.txt", "")])
