"""Labels in CSV files: whatever the columns are called, wherever the images lie."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionyard.data.formats import SourceTree, choose_format, csv_labels
from visionyard.data.formats.reading import SourceImage, checked_boxes
from visionyard.data.items import Problems
from visionyard.errors import DataError

Files = dict[str, bytes | str]


def read(tree: SourceTree, problems: Problems) -> dict[str, SourceImage]:
    return {image.file.name: image for image in csv_labels.read(tree, problems).images}


def noted(problems: Problems) -> list[tuple[str, str, str]]:
    return [(problem.code, problem.file, problem.item) for problem in problems.found]


PHOTOS: Files = {"img/a.jpg": "", "img/b.jpg": "", "img/c.png": ""}
EXPECTED = {"img/a.jpg": "cat", "img/b.jpg": "dog", "img/c.png": "cat"}


@pytest.mark.parametrize(
    "table",
    [
        pytest.param({"labels.csv": "path,label\nimg/a.jpg,cat\nimg/b.jpg,dog\nimg/c.png,cat\n"}, id="plain"),
        pytest.param({"img/l.csv": "filename,class\na.jpg,cat\nb.jpg,dog\nc.png,cat"}, id="relative to the CSV"),
        pytest.param({"x/l.csv": "File Name,Category\na.jpg,cat\nb.jpg,dog\nc.png,cat"}, id="by file name"),
        pytest.param({"l.tsv": "image\tlabel\na.jpg\tcat\nb.jpg\tdog\nc.png\tcat"}, id="TSV"),
        pytest.param({"l.csv": "image;label\na.jpg;cat\nb.jpg;dog\nc.png;cat"}, id="semicolons"),
        pytest.param({"l.csv": "a.jpg,cat\nb.jpg,dog\nc.png,cat"}, id="no header"),
        pytest.param({"l.csv": "cat|img/a.jpg\ndog|img/b.jpg\ncat|img/c.png"}, id="no header, class first, bars"),
        pytest.param({"l.csv": "foto,Tier\na.jpg,cat\nb.jpg,dog\nc.png,cat"}, id="a header in no known words"),
        pytest.param({"l.csv": "id,image_id,label\n1,a,cat\n2,b,dog\n3,c,cat"}, id="no extensions"),
        pytest.param({"l.csv": '"path","label"\n"img/a.jpg","cat"\n"b.jpg","dog"\n"c.png","cat"'}, id="quoted"),
        pytest.param({"l.csv": "\ufeffpath,label\r\na.jpg,cat\r\nb.jpg,dog\r\n\r\nc.png,cat\r\n"}, id="BOM, CRLF"),
        pytest.param({"l.csv": "path,label\na.jpg,cat\nb.jpg,dog\nc.png,cat".encode("utf-16")}, id="UTF-16"),
        pytest.param({"l.csv": "filename, cat, dog\na.jpg,1,0\nb.jpg,0,1\nc.png,1.0,0"}, id="a column a class"),
        pytest.param({"l.csv": "path,label\nC:\\x\\img\\a.jpg,cat\n..\\b.jpg, dog \nc.png,cat"}, id="Windows paths"),
        pytest.param({"1.csv": "path,label\na.jpg,cat", "2.csv": "path,label\nb.jpg,dog\nc.png,cat"}, id="two tables"),
        pytest.param(
            {"l.csv": "path,label\na.jpg,cat\nb.jpg,dog\nc.png,cat", "sample_submission.csv": "path,label\na.jpg,x"},
            id="a submission beside",
        ),
    ],
)
def test_classes(scan: Any, table: Files) -> None:
    tree, problems = scan({**PHOTOS, **table}), Problems()
    assert choose_format(tree, "auto")[0] is csv_labels.FORMAT
    assert {name: image.class_name for name, image in read(tree, problems).items()} == EXPECTED
    assert problems.found == []


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        pytest.param(
            {**PHOTOS, "l.csv": "path,label,split\na.jpg,x,train\nb.jpg,y,Validation\nc.png,x,test"},
            {"img/a.jpg": "train", "img/b.jpg": "val", "img/c.png": "test"},
            id="a column",
        ),
        pytest.param(
            {**PHOTOS, "train_labels.csv": "path,label\na.jpg,x\nb.jpg,x", "test.csv": "path,label\nc.png,y"},
            {"img/a.jpg": "train", "img/b.jpg": "train", "img/c.png": "test"},
            id="names of the tables",
        ),
        pytest.param(
            {"train/a.jpg": "", "valid/b.jpg": "", "l.csv": "path,label\ntrain/a.jpg,x\nvalid/b.jpg,y"},
            {"train/a.jpg": "train", "valid/b.jpg": "val"},
            id="folders of the images",
        ),
        pytest.param(
            {**PHOTOS, "l.csv": "train,a.jpg,x\nval,b.jpg,y\ntest,c.png,x"},
            {"img/a.jpg": "train", "img/b.jpg": "val", "img/c.png": "test"},
            id="a column without header",
        ),
    ],
)
def test_splits(scan: Any, files: Files, splits: dict[str, str]) -> None:
    problems = Problems()
    assert {name: image.published_split for name, image in read(scan(files), problems).items()} == splits
    assert problems.found == []


TF_HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param(
            TF_HEADER
            + "a.jpg,100,50,cat,1,2,30,40\na.jpg,100,50,dog,5,5,9.5,9\nb.jpg,100,50,cat,0,0,100,50\nc.png,,,,,,,",
            {
                "img/a.jpg": [("cat", (1, 2, 30, 40)), ("dog", (5, 5, 9.5, 9))],
                "img/b.jpg": [("cat", (0, 0, 100, 50))],
                "img/c.png": [],
            },
            id="TensorFlow, an image without objects",
        ),
        pytest.param(
            "ImageID,Source,LabelName,XMin,XMax,YMin,YMax\na,x,cat,0.1,0.5,0.2,1\nb,x,dog,0,1,0,1\nc,x,dog,0,1,0,0.5",
            {
                "img/a.jpg": [("cat", (10, 10, 50, 50))],
                "img/b.jpg": [("dog", (0, 0, 100, 50))],
                "img/c.png": [("dog", (0, 0, 100, 25))],
            },
            id="Open Images: shares",
        ),
        pytest.param(
            "img/a.jpg,1,2,30,40,cat\nimg/b.jpg,5,5,9,9,dog\nimg/c.png,,,,,",
            {"img/a.jpg": [("cat", (1, 2, 30, 40))], "img/b.jpg": [("dog", (5, 5, 9, 9))], "img/c.png": []},
            id="RetinaNet: no header",
        ),
    ],
)
def test_boxes(scan: Any, table: str, expected: dict[str, Any]) -> None:
    problems = Problems()
    tree = scan({**PHOTOS, "l.csv": table})
    assert csv_labels.read(tree, Problems()).task == "detection"
    for name, image in read(tree, problems).items():
        assert image.labels
        boxes = checked_boxes(image.labels, (100, 50), problems)
        assert boxes is not None
        assert [box.class_name for box in boxes] == [class_name for class_name, _ in expected[name]]
        assert [box.xyxy for box in boxes] == [pytest.approx(xyxy) for _, xyxy in expected[name]]
    assert problems.found == []


HEADER = "path,label,split\n"


@pytest.mark.parametrize(
    ("table", "expected", "message"),
    [
        pytest.param("gone.jpg,x,\n", ("image_not_found", "l.csv", "line 5"), "'gone.jpg' in the source", id="gone"),
        pytest.param("a.jpg,cat,train\n", ("image_labelled_twice", "l.csv", "line 5"), "line 2 of l.csv", id="twice"),
        pytest.param(
            "a.jpg,dog,train\n",
            ("conflicting_labels", "l.csv", "line 5"),
            "'dog' here and 'cat' in line 2",
            id="conflict",
        ),
        pytest.param(
            "a.jpg,cat,val\n", ("two_published_splits", "l.csv", "line 5"), "val here and of train", id="split"
        ),
        pytest.param("a.jpg,cat\n", ("malformed_line", "l.csv", "line 5"), "2 cells, expected 3", id="short row"),
        pytest.param(
            'a.jpg,"cat,train\n', ("malformed_line", "l.csv", "line 5"), "2 cells, expected 3", id="open quote"
        ),
    ],
)
def test_rows_that_are_wrong_are_noted(scan: Any, table: str, expected: tuple[str, str, str], message: str) -> None:
    problems = Problems()
    good = "img/a.jpg,cat,train\nimg/b.jpg,dog,train\nimg/c.png,cat,train\n"
    found = read(scan({**PHOTOS, "l.csv": HEADER + good + table}), problems)
    assert expected in noted(problems)
    assert any(message in problem.message for problem in problems.found)
    assert found["img/a.jpg"].class_name == (None if expected[0] == "conflicting_labels" else "cat")


def test_images_that_no_row_names_are_told(scan: Any) -> None:
    problems = Problems()
    found = read(scan({**PHOTOS, "l.csv": "path,label,split\na.jpg,cat,holdout\nb.jpg,,\n"}), problems)
    assert [image.class_name for image in found.values()] == ["cat", None, None]
    assert noted(problems) == [
        ("unknown_split", "l.csv", "line 2"),
        ("image_without_labels", "img/b.jpg", ""),
        ("image_without_labels", "img/c.png", ""),
    ]


def test_boxes_that_are_wrong_are_noted(scan: Any) -> None:
    problems = Problems()
    rows = "a.jpg,100,50,cat,1,2,thirty,40\na.jpg,100,50,,1,2,3,4\nb.jpg,100,50,cat,nan,0,3,4\n"
    found = read(scan({**PHOTOS, "l.csv": TF_HEADER + rows}), problems)
    assert noted(problems)[:2] == [("malformed_box", "l.csv", "line 2"), ("malformed_box", "l.csv", "line 3")]
    assert found["img/a.jpg"].labels
    assert checked_boxes(found["img/a.jpg"].labels, (100, 50), problems) is None
    assert found["img/b.jpg"].labels
    assert checked_boxes(found["img/b.jpg"].labels, (100, 50), problems) is None
    assert problems.found[-1].code == "box_not_a_number"


def test_rows_of_several_classes_are_told(scan: Any) -> None:
    rows = "".join(f"{number}.jpg,{number % 2},{1 - number % 2}\n" for number in range(20))
    files: Files = {f"{number}.jpg": "" for number in range(22)}
    problems = Problems()
    found = read(scan({**files, "l.csv": f"image,cat,dog\n{rows}20.jpg,1,1\n21.jpg,0,0\n"}), problems)
    assert [found[name].class_name for name in ("0.jpg", "1.jpg", "20.jpg", "21.jpg")] == ["dog", "cat", None, None]
    assert noted(problems) == [
        ("several_classes", "l.csv", "line 22"),
        ("image_without_labels", "20.jpg", ""),
        ("image_without_labels", "21.jpg", ""),
    ]


def test_names_in_another_encoding_are_read_and_told(scan: Any) -> None:
    problems = Problems()
    tree = scan({"a.jpg": "", "b.jpg": "", "l.csv": "path,label\na.jpg,Käse\nb.jpg,Brot".encode("cp1252")})
    assert read(tree, problems)["a.jpg"].class_name == "Käse"
    assert noted(problems) == [("encoding_guessed", "l.csv", "")]


@pytest.mark.parametrize(
    "table",
    [
        pytest.param("x,y\n1,2\n", id="no images"),
        pytest.param("path,size,time\na.jpg,1,2\n", id="no single label"),
        pytest.param("", id="empty"),
        pytest.param(b"path,label\na.jpg,\0\0", id="zero bytes"),
        pytest.param('path,label\n"' + "x" * 200_000, id="an endless cell"),
    ],
)
def test_other_tables_are_no_labels(scan: Any, table: str | bytes) -> None:
    tree = scan({**PHOTOS, "l.csv": table})
    assert csv_labels.evidence(tree) == ""
    with pytest.raises(DataError, match=r"source: no CSV or TSV names images of the source and their classes"):
        csv_labels.read(tree, Problems())


TABLE = (TF_HEADER + "a.jpg,100,50,cat,1,2,30,40\nb.jpg,100,50,dog,5,5,9,9\nc.png,,,,,,,\n").encode()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(TABLE)), st.one_of(st.binary(max_size=20), st.text(max_size=9).map(str.encode)))
def test_altered_tables_are_read_or_told(make_source: Callable[[Files], Path], at: int, inserted: bytes) -> None:
    root = make_source({**PHOTOS, "l.csv": TABLE[:at] + inserted + TABLE[at + len(inserted) :]})
    problems = Problems()
    try:
        images = read(SourceTree.scan(root, Problems()), problems)
    except DataError as error:
        assert "source: no CSV" in str(error)
    else:
        assert list(images) == list(PHOTOS)
    assert all(problem.file in {"l.csv", *PHOTOS} for problem in problems.found)
