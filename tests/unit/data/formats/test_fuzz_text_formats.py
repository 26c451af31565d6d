"""Every reader of a text format against broken, hostile and mutated files.

What is asked of each: it refuses by a `DataError` that names the source or the file, or goes on and lists what is
wrong; it gives only files of the source; and what it gives can be stored.
"""

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionyard.data.formats import FORMATS, SourceTree, choose_format
from visionyard.data.formats.reading import checked_boxes
from visionyard.data.items import Problems
from visionyard.errors import DataError

SharedData = Callable[[str], Path]
KINDS = ("images_coco", "images_cvat", "clips_cvat", "images_label_studio", "images_yolo", "images_voc")
IMAGE_SIZE_WH = (100, 50)
# Texts that other programs stumbled over.
NASTY = [
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b.jpg",
    "x" * 70_000,
    "a/" * 5000,
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "1_0",
    "\u0661",
    "\ufeff",
    "\u2028",
    "\ud7ff",
    "true",
    "null",
    "[]",
    "{}",
    "https://[",
    "data:image/png;base64,AA",
    "%00%2e%2e%2f",
    "a.jpg",
]

COCO = {
    "info": {"year": 2020},
    "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "segmentation": [[1, 2, 31, 2, 31, 42]]},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "bbox": [1, 2, 3, 4],
            "segmentation": {"size": [50, 100], "counts": [7, 9, 4984]},
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 2,
            "bbox": [1, 2, 3, 4],
            "segmentation": {"size": [50, 100], "counts": "79hk4"},
        },
    ],
    "categories": [{"id": 1, "name": "car", "supercategory": "x"}, {"id": 2, "name": "bus"}],
}
_REGION = {"original_width": 100, "original_height": 50, "image_rotation": 0, "id": "r"}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/1a2b3c4d-a.jpg", "split": "train"},
        "annotations": [
            {
                "id": 3,
                "was_cancelled": False,
                "updated_at": "2021-03-01",
                "result": [
                    {
                        **_REGION,
                        "type": "rectanglelabels",
                        "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 5, "rectanglelabels": ["car"]},
                    },
                    {
                        **_REGION,
                        "id": "s",
                        "type": "polygonlabels",
                        "value": {"points": [[1, 2], [3, 4], [5, 1]], "polygonlabels": ["bus"]},
                    },
                    {
                        **_REGION,
                        "id": "t",
                        "type": "brushlabels",
                        "value": {"format": "rle", "rle": [0, 0, 78, 32, 57, 27, 255, 255], "brushlabels": ["bus"]},
                    },
                    {"id": "u", "type": "choices", "value": {"choices": ["good"]}},
                ],
            }
        ],
    },
    {"id": 2, "data": {"image": "b.jpg"}, "annotations": []},
]
CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><mode>annotation</mode>
<labels><label><name>car</name></label></labels></task></meta>
<image id="0" name="a.jpg" width="100" height="50" subset="train">
<box label="car" xtl="1.0" ytl="2.0" xbr="30.0" ybr="40.0" rotation="12.5">
<attribute name="is_crowd">true</attribute></box>
<polygon label="car" points="1.0,2.0;30.0,2.0;30.0,40.0"/>
<ellipse label="car" cx="5" cy="5" rx="2" ry="1" rotation="3"/>
<mask label="car" rle="1, 2, 1" left="3" top="4" width="2" height="2"/><tag label="car"/></image>
<image id="1" name="b.jpg" width="100" height="50"/></annotations>"""
CVAT_VIDEO = """<annotations><meta><task><labels><label><name>car</name></label></labels>
<original_size><width>100</width><height>50</height></original_size><source>clip.mp4</source></task></meta>
<track id="0" label="car"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4" outside="0" keyframe="1" rotation="3"/>
<polygon frame="4" points="1,2;3,4;5,6" outside="0"/>
<box frame="9" xtl="1" ytl="2" xbr="3" ybr="4" outside="1"/></track>
</annotations>"""
VOC = """<annotation><filename>a.jpg</filename><size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>car</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>
</object></annotation>"""
YOLO_YAML = "path: ../set\ntrain: images\nval: [val.txt, gone]\nnc: 2\nnames: [car, bus]\n"
YOLO_LINES = "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.4 0.1 0.4 0.6\n1 0.1 0.1 0.4 0.1 0.4 0.6 0.1 0.6\n"

SAMPLES: dict[str, dict[str, str]] = {
    "images_coco": {"a.jpg": "", "b.jpg": "", "train.json": json.dumps(COCO)},
    "images_cvat": {"a.jpg": "", "b.jpg": "", "annotations.xml": CVAT_IMAGES},
    "clips_cvat": {"clip.mp4": "", "annotations.xml": CVAT_VIDEO},
    "images_label_studio": {"a.jpg": "", "b.jpg": "", "tasks.json": json.dumps(LABEL_STUDIO)},
    "images_yolo": {
        "images/a.jpg": "",
        "labels/a.txt": YOLO_LINES,
        "data.yaml": YOLO_YAML,
        "val.txt": "images/a.jpg\n",
    },
    "images_voc": {"a.jpg": "", "a.xml": VOC, "ImageSets/Main/train.txt": "a\n"},
}


def read_all(root: Path, kind: str) -> Problems:
    """Read a source to its end as ingest does; a refusal is fine where it names the file."""
    problems = Problems()
    tree = SourceTree.scan(root, problems)
    names = {file.name for file in tree.files}
    try:
        choose_format(tree, "auto")
    except DataError as error:
        assert _names_something(str(error), root, names), error
    try:
        reading = FORMATS[kind].read(tree, problems)
        for image in reading.images:
            assert image.file.name in names
            boxes = checked_boxes(image.labels, IMAGE_SIZE_WH, problems) if image.labels else ()
            assert all(box.class_name.strip() for box in boxes or ())
            assert all(box.mask is None or box.mask.area for box in boxes or ())
            json.dumps([box.to_json() for box in boxes or ()], allow_nan=False)
        for clip in reading.clips:
            assert clip.file.name in names
            shapes = [shape for track in clip.tracks or () for shape in track.shapes]
            json.dumps([shape.xyxy for shape in shapes], allow_nan=False)
    except DataError as error:
        assert _names_something(str(error), root, names), error
    for problem in problems.found:
        assert problem.file == "" or problem.file in names or tree.has_folder(problem.file), problem
        assert len(problem.message) < 2000
        json.dumps(problem.to_json()).encode()
    return problems


def _names_something(message: str, root: Path, names: set[str]) -> bool:
    return message.startswith(root.name) or any(name in message for name in names)


@pytest.fixture
def scratch(make_source: Any, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that writes the sample of a kind anew."""

    def write(kind: str) -> Path:
        shutil.rmtree(tmp_path / "source", ignore_errors=True)
        root: Path = make_source(SAMPLES[kind])
        return root

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield write


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_are_read(scratch: Callable[[str], Path], kind: str) -> None:
    tree = SourceTree.scan(scratch(kind), Problems())
    assert choose_format(tree, "auto")[0].kind == kind
    reading = FORMATS[kind].read(tree, Problems())
    assert any(image.labels and image.labels.boxes for image in reading.images) or any(
        clip.tracks for clip in reading.clips
    )


def label_files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.suffix in {".json", ".xml", ".txt", ".yaml"}]


def mutated(data: bytes, randomly: random.Random) -> bytes:
    """Return bytes with one to three changes: cut, doubled, overwritten, or a nasty text put in."""
    for _ in range(randomly.randint(1, 3)):
        start = randomly.randrange(len(data) + 1)
        stop = min(len(data), start + randomly.choice([0, 1, 2, 10, 100]))
        inserted = randomly.choice(
            [
                b"",
                data[start:stop] * 2,
                randomly.choice(NASTY).encode(),
                bytes(randomly.randrange(256) for _ in range(randomly.randint(1, 4))),
                randomly.choice([b"[" * 3000, b"<a>" * 3000, b"{", b"}", b"]", b'"', b"<", b">", b"&", b"\0"]),
            ]
        )
        data = data[:start] + inserted + data[stop:]
        if randomly.random() < 0.1:
            data = data[: randomly.randrange(len(data) + 1)]
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_samples(scratch: Callable[[str], Path], kind: str) -> None:
    randomly = random.Random(kind)
    root = scratch(kind)
    files = label_files(root)
    whole = {path: path.read_bytes() for path in files}
    for _ in range(250):
        path = randomly.choice(files)
        path.write_bytes(mutated(whole[path], randomly))
        read_all(root, kind)
        path.write_bytes(whole[path])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nasty", NASTY, ids=lambda text: repr(text[:12]))
def test_nasty_texts_in_every_place(scratch: Callable[[str], Path], kind: str, nasty: str) -> None:
    """Each value of a sample in turn is a text that is none of those meant."""
    randomly = random.Random(nasty)
    root = scratch(kind)
    for path in label_files(root):
        whole = path.read_text()
        words = sorted(set(_words(whole)))
        for word in randomly.sample(words, min(8, len(words))):
            path.write_text(whole.replace(word, nasty if path.suffix != ".json" else json.dumps(nasty)[1:-1]))
            read_all(root, kind)
        path.write_text(whole)


def _words(text: str) -> Iterator[str]:
    for mark in '"<>=,:[]{};\n/':
        text = text.replace(mark, " ")
    yield from (word for word in text.split() if len(word) > 1)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, -1, 10**30, float("nan"), float("inf"), 1.5])
    | st.sampled_from([text for text in NASTY if len(text) < 500]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "id", "points", "counts"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*place, key))


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _replaced(value[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize("kind", ["images_coco", "images_label_studio"])
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_value_in_any_place_of_json(scratch: Callable[[str], Path], kind: str, data: st.DataObject) -> None:
    root = scratch(kind)
    (path,) = root.glob("*.json")
    value = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(list(_places(value))))
        value = _replaced(value, place, data.draw(JSON_VALUES))
    path.write_text(json.dumps(value))
    read_all(root, kind)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        pytest.param("images_coco", "train.json", '{"images": ' + "[" * 1_000_000, id="COCO nested"),
        pytest.param("images_coco", "train.json", '{"a":' * 100_000, id="COCO nested objects"),
        pytest.param(
            "images_coco",
            "train.json",
            '{"images": [{"id": 1, "file_name": "' + "x" * 3_000_000,
            id="COCO endless name",
        ),
        pytest.param("images_label_studio", "tasks.json", "[" * 1_000_000, id="Label Studio nested"),
        pytest.param("images_cvat", "annotations.xml", "<annotations>" + "<a>" * 200_000, id="CVAT nested"),
        pytest.param(
            "images_cvat",
            "annotations.xml",
            f"<annotations>{'<image>' * 50_000}{'</image>' * 50_000}</annotations>",
            id="CVAT images in images",
        ),
        pytest.param(
            "images_cvat",
            "annotations.xml",
            f'<annotations><image name="{"a" * 3_000_000}"/></annotations>',
            id="CVAT endless name",
        ),
        pytest.param("images_voc", "a.xml", "<annotation>" + "<object>" * 200_000, id="VOC nested"),
        pytest.param(
            "clips_cvat", "annotations.xml", "<annotations><track>" + "<box>" * 200_000, id="CVAT tracks nested"
        ),
        pytest.param("images_yolo", "data.yaml", "names: " + "[" * 20_000, id="YAML nested"),
        pytest.param("images_yolo", "labels/a.txt", "0 " + "0.5 " * 300_000, id="YOLO endless line"),
        pytest.param("images_yolo", "val.txt", "../" * 300_000, id="YOLO endless path"),
    ],
)
def test_files_made_to_exhaust(scratch: Callable[[str], Path], kind: str, name: str, content: str) -> None:
    root = scratch(kind)
    (root / name).write_text(content)
    read_all(root, kind)


@pytest.mark.parametrize(
    ("folder", "kind", "patterns"),
    [
        pytest.param("bccd", "images_voc", ["Annotations/BloodImage_0000[0-3].xml"], id="bccd"),
        pytest.param("cones-and-cubes", "images_yolo", ["valid/labels/*-1*.txt", "data.yaml"], id="cones-and-cubes"),
        pytest.param("chess-pieces", "images_coco", ["test/_annotations.coco.json"], id="chess-pieces"),
    ],
)
def test_mutated_real_files(
    shared_data: SharedData, tmp_path: Path, folder: str, kind: str, patterns: list[str]
) -> None:
    """Real label files, changed here and there; images stand in by a few bytes, since no reader looks into them."""
    source, randomly = shared_data(folder), random.Random(folder)
    root = tmp_path / "source"
    labels = [path for pattern in patterns for path in sorted(source.glob(pattern))][:12]
    wanted = {path.stem for path in labels}
    for path in source.rglob("*.jpg"):
        if kind == "images_coco" or path.stem in wanted:
            copy = root / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes()[:64])
    for path in labels:
        copy = root / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    files = label_files(root)
    assert files
    for _ in range(40):
        path = randomly.choice(files)
        whole = path.read_bytes()
        path.write_bytes(mutated(whole, randomly))
        read_all(root, kind)
        path.write_bytes(whole)
