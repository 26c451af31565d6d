"""Images and labels in TFRecord files."""

import gzip
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from visionyard.data.formats import SourceTree, choose_format, tfrecord
from visionyard.data.formats.packed_stream import PackedStream
from visionyard.data.formats.reading import SourceImage
from visionyard.data.formats.tf_example import encode_example, parse_example
from visionyard.data.formats.tfrecord_wire import framed, read_records
from visionyard.data.items import Problems
from visionyard.errors import DataError
from visionyard.geometry import Mask
from visionyard.transforms import decode_image

FILE = "train-00000-of-00001.tfrecord"


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (50, 100, 3), dtype=np.uint8)


def records(*examples: Mapping[str, Any]) -> bytes:
    return b"".join(framed(encode_example(example)) for example in examples)


def image(seed: int = 0, **features: Any) -> dict[str, Any]:
    named = {f"image/{name.replace('__', '/')}": values for name, values in features.items()}
    return {"image/encoded": [png(picture(seed))], **named}


def boxes(*xyxy: tuple[float, float, float, float], **features: Any) -> dict[str, Any]:
    names = ("xmin", "ymin", "xmax", "ymax")
    corners: dict[str, Any] = {f"object__bbox__{name}": [box[at] for box in xyxy] for at, name in enumerate(names)}
    return image(**corners, **{f"object__{name}": values for name, values in features.items()})


def read(tree: SourceTree, problems: Problems) -> list[SourceImage]:
    reading = tfrecord.read(tree, problems)
    images = list(reading.images)
    assert len(images) <= reading.item_count
    return images


def noted(problems: Problems) -> list[tuple[str, str, str]]:
    return [(problem.code, problem.file, problem.item) for problem in problems.found]


CAT, DOG = image(1, class__text=["cat"], class__label=[1]), image(2, class__text=["dog"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_classification(scan: Any, pack: Callable[[bytes], bytes]) -> None:
    name = FILE + (".gz" if pack is gzip.compress else "")
    named = {**DOG, "image/filename": ["pets/../x y.png"]}
    tree, problems = scan({name: pack(records(CAT, named, named)), "valid/a.tfrec": records(CAT)}), Problems()
    assert choose_format(tree, "auto")[0] is tfrecord.FORMAT
    reading = tfrecord.read(tree, problems)
    images = list(reading.images)
    assert (reading.item_count, reading.task, reading.classes, problems.found) == (4, "classification", None, [])
    assert [(i.file.name, i.class_name, i.published_split) for i in images] == [
        (f"{name}/00000001.png", "cat", "train"),
        (f"{name}/pets/x y.png", "dog", "train"),
        (f"{name}/x y-00000003.png", "dog", "train"),
        ("valid/a.tfrec/00000001.png", "cat", "val"),
    ]
    assert all(image.data for image in images)
    seeds = (1, 2, 2, 1)
    for each, seed in reversed(list(zip(images, seeds))):
        assert each.data
        assert (decode_image(each.data()) == picture(seed)).all()


LABEL_MAP = "# made by hand\nitem {\n  id: 1\n  name: 'n01'\n  display_name: \"cat\"\n}\nitem { name: 'C#' id: 7 }\n"


@pytest.mark.parametrize(
    ("files", "feature", "class_name"),
    [
        pytest.param({"label_map.pbtxt": LABEL_MAP}, {"image/class/label": [1]}, "cat", id="label map, shown name"),
        pytest.param({"label_map.pbtxt": LABEL_MAP}, {"image/class/label": [7]}, "C#", id="label map, name"),
        pytest.param({"labels.txt": "0:daisy\n1:rose\n"}, {"image/class/label": [1]}, "rose", id="slim"),
        pytest.param({"label.labels.txt": "daisy\nrose\n"}, {"label": [1]}, "rose", id="TensorFlow Datasets"),
        pytest.param({}, {"label": [12]}, "12", id="numbers only"),
        pytest.param({}, {"label": [-1]}, None, id="TensorFlow Datasets, unlabelled"),
        pytest.param({}, {}, None, id="no label"),
        pytest.param({"labels.txt": "a\nb"}, {"label": [2]}, None, id="a number without name"),
    ],
)
def test_names_of_class_numbers(
    scan: Any, files: dict[str, str], feature: dict[str, Any], class_name: str | None
) -> None:
    problems = Problems()
    (found,) = read(scan({FILE: records({"image": [png(picture(0))], **feature}), **files}), problems)
    assert found.class_name == class_name
    assert bool(problems.found) == (class_name is None)


def test_boxes_masks_and_crowds(scan: Any) -> None:
    pixels = np.zeros((50, 100), dtype=np.uint8)
    pixels[10:20, 30:40] = 1
    example = boxes(
        (0.25, 0.5, 0.75, 1.0),
        (0.3, 0.2, 0.4, 0.4),
        class__text=["cone", "cube"],
        is_crowd=[1, 0],
        mask=[b"", png(pixels)],
    )
    problems = Problems()
    tree = scan({FILE: records(example, boxes(class__text=[]))})
    assert tfrecord.read(tree, Problems()).task == "detection"
    first, second = read(tree, problems)
    assert first.labels
    assert second.labels
    assert (first.labels.is_normalized, first.labels.has_faults, second.labels.boxes) == (True, False, ())
    cone, cube = first.labels.boxes
    assert (cone.class_name, cone.xyxy, cone.is_crowd, cone.mask) == ("cone", (0.25, 0.5, 0.75, 1.0), True, None)
    assert (cube.is_crowd, cube.mask, cube.item) == (False, Mask.from_array(pixels > 0), "record 1, object 2")
    assert problems.found == []


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


TWO = records(CAT, DOG)
FIRST_BYTES = len(records(CAT))


@pytest.mark.parametrize(
    ("data", "count", "expected", "message"),
    [
        pytest.param(flipped(TWO, 40), 1, ("damaged_record", 1), "its bytes were altered", id="check sum"),
        pytest.param(flipped(TWO, FIRST_BYTES), 1, ("damaged_record", 2), "check sum of its length", id="length"),
        pytest.param(TWO[:-9], 1, ("damaged_record", 2), "ends 9 bytes before", id="truncated"),
        pytest.param(
            records(CAT, {"a": [1]}), 1, ("record_without_image", 2), "image/encoded, found a;", id="no image"
        ),
        pytest.param(records(CAT) + framed(b"\x0a\x7f"), 1, ("damaged_record", 2), "leads behind", id="no example"),
        pytest.param(
            records(CAT, boxes((0, 0, 1, 1), class__text=[])),
            2,
            ("malformed_box", 2),
            "[1, 1, 1, 1] corners, 0 names and 0 numbers",
            id="no class",
        ),
        pytest.param(
            records(CAT, {**boxes((0, 0, 1, 1), class__text=["a"]), "image/object/bbox/xmax": []}),
            2,
            ("malformed_box", 2),
            "[1, 1, 0, 1] corners",
            id="a corner less",
        ),
        pytest.param(
            records(CAT, boxes((0, 0, 1, 1), class__text=[""])),
            2,
            ("unknown_class", 2),
            "object 1 has an empty class; dropped",
            id="empty class",
        ),
        pytest.param(
            records(CAT, boxes((0, 0, 1, 1), class__text=["a"], mask=[b"no PNG"])),
            2,
            ("malformed_mask", 2),
            "the mask of object 1: ",
            id="mask",
        ),
    ],
)
def test_what_is_wrong_is_noted(scan: Any, data: bytes, count: int, expected: tuple[str, int], message: str) -> None:
    problems = Problems()
    assert len(read(scan({FILE: data}), problems)) == count
    assert noted(problems) == [(expected[0], FILE, f"record {expected[1]}")]
    assert message in problems.found[0].message


def test_boxes_that_are_lost_do_not_count_as_nothing_there(scan: Any) -> None:
    (found,) = read(scan({FILE: records(boxes((0, 0, 1, 1), class__text=[]))}), Problems())
    assert found.labels
    assert found.labels.has_faults


def test_damaged_gzip(scan: Any) -> None:
    data = gzip.compress(TWO)
    problems = Problems()
    read(scan({f"{FILE}.gz": data[:-20]}), problems)
    assert problems.found[-1].code == "unreadable_file"
    assert "its gzip data are damaged (Compressed file ended before" in problems.found[-1].message


@pytest.mark.parametrize(
    ("files", "match"),
    [
        pytest.param({"a.txt": "x"}, r"source: expected TFRecord files.*found no file named so", id="no file"),
        pytest.param(
            {FILE: TWO, "labels.txt": "a\na"}, "labels.txt: the class name 'a' is empty or.*twice", id="twice"
        ),
        pytest.param({FILE: TWO, "labels.txt": "\n"}, "labels.txt: holds no class names", id="no names"),
        pytest.param({FILE: TWO, "labels.txt": b"\xff"}, "labels.txt: not UTF-8 text", id="bytes"),
        pytest.param(
            {FILE: TWO, "label_map.pbtxt": "item { id: 1 }"}, "item 1 lacks a name or a number", id="nameless"
        ),
        pytest.param(
            {FILE: TWO, "label_map.pbtxt": "item { id: 1 name: 'a' } item { id: 1 name: 'b' }"},
            "item 2 has the id 1 of another item",
            id="id twice",
        ),
    ],
)
def test_refused(scan: Any, files: dict[str, bytes | str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        tfrecord.read(scan(files), Problems())


@pytest.mark.parametrize("name", [FILE, "a.record", "coco_val.record-00003-of-00010", "x.tfrec.gz"])
def test_other_bytes_under_such_a_name_are_no_evidence(scan: Any, name: str) -> None:
    assert tfrecord.evidence(scan({name: b"PK\x03\x04" + bytes(99)})) == ""
    assert tfrecord.evidence(scan({name: records({"a": [1.0]})})) == ""
    assert tfrecord.evidence(scan({name: TWO})) == f"1 TFRecord files such as {name}"


def test_a_file_that_tensorflow_wrote() -> None:
    # tfx/examples/tfjs_next_page_prediction/data/data.tfrecord.gz of github.com/tensorflow/tfx, Apache-2.0.
    path = Path(__file__).parents[3] / "fixtures" / "next_page.tfrecord.gz"
    with PackedStream(path, is_packed=True) as stream:
        found = list(read_records(stream))
    assert [record.fault for record in found] == [""] * 100
    assert parse_example(found[0].data) == {"session_index": (1,), "cur_page": (b"page2",), "label": (b"page3",)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.binary(max_size=12), st.integers(0, 12), st.booleans())
def test_altered_files_give_images_or_notes(
    tmp_path: Path, at: int, inserted: bytes, removed: int, is_packed: bool
) -> None:
    data = records({**boxes((0, 0, 1, 1), class__text=["a"], is_crowd=[0]), "image/encoded": [b"\xff\xd8\xff"]}, CAT)
    packed = gzip.compress(data, mtime=0) if is_packed else data
    (tmp_path / FILE).write_bytes(packed[:at] + inserted + packed[at + removed :])
    problems = Problems()
    images = read(SourceTree.scan(tmp_path, Problems()), problems)
    assert all(image.file.name.startswith(f"{FILE}/") for image in images)
    assert len(images) == 2 or problems.found
    assert {problem.file for problem in problems.found} <= {FILE}
