"""Label Studio's exports; the samples follow its documentation of task and export formats."""

import json
import math
from typing import Any

import numpy as np
import pytest

from visionyard.data.formats import label_studio
from visionyard.data.formats.label_studio_brush import brush_mask
from visionyard.data.formats.label_studio_references import image_of_task, without_upload_mark
from visionyard.data.items import Problems
from visionyard.errors import DataError, ShapeError
from visionyard.geometry import Mask

SIZE = {"original_width": 100, "original_height": 50, "image_rotation": 0}


def encode_brush(values: list[int], *, word_bits: int = 8, lengths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Pack values as the published encoder does, runs of one value of all four lengths, single ones one by one."""
    bits = f"{len(values):032b}{word_bits - 1:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    at = 0
    while at < len(values):
        stop = at + 1
        while stop < len(values) and values[stop] == values[at] and stop - at < 1 << lengths[-1]:
            stop += 1
        place = next(place for place, length in enumerate(lengths) if stop - at <= 1 << length)
        bits += f"{int(stop - at > 1)}{place:02b}{stop - at - 1:0{lengths[place]}b}{values[at]:0{word_bits}b}"
        at = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def brush_of(pixels: np.ndarray) -> list[int]:
    return encode_brush(np.repeat(pixels.ravel() * 255, 4).tolist())


DISC = np.hypot(*np.mgrid[-15:35, -20:80]) < 12


def region(kind: str = "rectanglelabels", label: str = "car", *, value: Any = None, **more: Any) -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0} if value is None else value
    value = {**value, kind: [label]} if isinstance(value, dict) else value
    return {**SIZE, "id": "r1", "from_name": "label", "to_name": "image", "type": kind, "value": value, **more}


def choice(*names: str) -> dict[str, Any]:
    return {"id": "c", "from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": list(names)}}


def annotation(*results: Any, day: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 9, "result": list(results), "was_cancelled": False, "updated_at": f"2021-03-0{day}T22:16:08Z", **more}


def task(
    *annotations: Any, task_id: int = 1, image: Any = "/data/upload/1/1a2b3c4d-a.jpg", **data: Any
) -> dict[str, Any]:
    return {"id": task_id, "annotations": list(annotations), "predictions": [], "data": {"image": image, **data}}


def read(scan: Any, files: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]], Any]:
    problems = Problems()
    reading = label_studio.read(
        scan({name: json.dumps(each) if isinstance(each, list) else each for name, each in files.items()}), problems
    )
    images = {each.file.name: each for each in reading.images}
    assert reading.item_count == len(images)
    return images, [(problem.code, problem.item) for problem in problems.found], reading.task


def one(scan: Any, *results: Any) -> tuple[Any, list[tuple[str, str]]]:
    images, problems, kind = read(scan, {"a.jpg": "", "x.json": [task(annotation(*results))]})
    assert kind == "detection"
    return images["a.jpg"].labels, problems


def test_rectangles_polygons_and_brushes(scan: Any) -> None:
    polygon = region("polygonlabels", value={"points": [[10, 20], [40, 20], [40, 60]], "closed": True}, id="r2")
    brush = region("brushlabels", "bus", value={"format": "rle", "rle": brush_of(DISC)}, id="r3")
    labels, problems = one(scan, region(), polygon, brush)
    assert [(box.class_name, box.xyxy) for box in labels.boxes] == [
        ("car", pytest.approx((0.1, 0.2, 0.4, 0.6))),
        ("car", pytest.approx((0.1, 0.2, 0.4, 0.6))),
        ("bus", pytest.approx((0.09, 0.08, 0.32, 0.54))),
    ]
    assert labels.boxes[1].polygons == ((pytest.approx((0.1, 0.2, 0.4, 0.2, 0.4, 0.6))),)
    assert labels.boxes[2].mask == Mask.from_array(DISC)
    assert (labels.is_normalized, labels.size_wh, labels.has_faults, problems) == (True, (100, 50), False, [])


@pytest.mark.parametrize(
    ("value", "xyxy", "code"),
    [
        # About its upper left corner at (10, 10) px, 30 px wide and 20 px high.
        pytest.param(
            {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 90},
            (-0.1, 0.2, 0.1, 0.8),
            "rotated_box",
            id="turned",
        ),
        pytest.param(
            {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0},
            (0.4, 0.3, 0.6, 0.7),
            "shape_as_box",
            id="ellipse",
        ),
        pytest.param(
            {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 90},
            (0.45, 0.3, 0.55, 0.7),
            "shape_as_box",
            id="turned ellipse",
        ),
    ],
)
def test_shapes_of_which_the_box_is_taken(scan: Any, value: dict[str, Any], xyxy: tuple[float, ...], code: str) -> None:
    labels, problems = one(scan, region("ellipselabels" if "radiusX" in value else "rectanglelabels", value=value))
    assert labels.boxes[0].xyxy == pytest.approx(xyxy)
    assert problems == [(code, "task 1, region 1")]


def test_geometry_and_label_in_two_entries(scan: Any) -> None:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    results = [
        {**SIZE, "id": "q", "type": "rectangle", "value": value},
        {**SIZE, "id": "q", "type": "labels", "value": {**value, "labels": ["car"]}},
    ]
    labels, problems = one(scan, *results)
    assert [(box.class_name, problems) for box in labels.boxes] == [("car", [])]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        pytest.param(
            region("keypointlabels", value={"x": 1, "y": 2, "width": 1}), "shape_not_supported", id="key point"
        ),
        pytest.param(region("videorectangle", value={"sequence": []}), "shape_not_supported", id="video"),
        pytest.param(region(label=" "), "unknown_class", id="empty label"),
        pytest.param({**region(), "value": {"x": 1, "y": 2, "width": 3, "height": 4}}, "unknown_class", id="no label"),
        pytest.param(region(value={"x": 1, "y": 2, "width": 3}), "malformed_box", id="no height"),
        pytest.param(region(value={"x": "1", "y": 2, "width": 3, "height": 4}), "malformed_box", id="text"),
        pytest.param(region(value={"x": math.nan, "y": 2, "width": 3, "height": 4}), "malformed_box", id="NaN"),
        pytest.param(
            region(value={"x": 10**400, "y": 2, "width": 3, "height": 4}), "malformed_box", id="beyond any float"
        ),
        pytest.param(region(image_rotation=90), "malformed_box", id="on a turned image"),
        pytest.param(
            region(value={"x": 1, "y": 2, "width": 3, "height": 4, "rotation": "a"}),
            "malformed_box",
            id="turned by a text",
        ),
        pytest.param(
            region(value={"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 9}, original_width=0),
            "malformed_box",
            id="turned on an image without a size",
        ),
        pytest.param(region("polygonlabels", value={"points": [[1, 2], [3, 4]]}), "malformed_box", id="two points"),
        pytest.param(
            region("polygonlabels", value={"points": [[1, 2], [3, 4], [5]]}), "malformed_box", id="half a point"
        ),
        pytest.param(region("polygonlabels", value={"points": "1,2"}), "malformed_box", id="points as text"),
        pytest.param(region("brushlabels", value={"rle": brush_of(DISC)[:-9]}), "malformed_box", id="brush cut off"),
        pytest.param(
            region("brushlabels", value={"rle": brush_of(DISC & False)}), "malformed_box", id="brush of nothing"
        ),
        pytest.param(
            region("brushlabels", value={"rle": brush_of(DISC[1:])}), "malformed_box", id="brush of another size"
        ),
        pytest.param(region("brushlabels", value={"rle": [1, 2, 300]}), "malformed_box", id="brush of no bytes"),
        pytest.param(region("brushlabels", value={"rle": "abc"}), "malformed_box", id="brush as text"),
        pytest.param(
            region("brushlabels", value={"rle": brush_of(DISC)}, original_width=10**9, original_height=10**9),
            "malformed_box",
            id="brush of an image that fits no memory",
        ),
    ],
)
def test_regions_that_cannot_be_used(scan: Any, bad: dict[str, Any], code: str) -> None:
    labels, problems = one(scan, bad, {**region(), "id": "good"})
    assert problems == [(code, "task 1, region 1")]
    assert (len(labels.boxes), labels.has_faults) == (1, True)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param({"type": "relation", "from_id": "a", "to_id": "b"}, id="relation"),
        pytest.param({"type": "textarea", "value": {"text": ["x"]}}, id="text"),
        pytest.param({"type": "rating", "value": {"rating": 4}}, id="rating"),
        pytest.param({"type": ["list"], "value": {"rating": 4}, "id": [1]}, id="odd types"),
        pytest.param("text", id="no object"),
        pytest.param({"type": "rectanglelabels", "value": None}, id="no value"),
    ],
)
def test_what_is_no_region_is_passed_over(scan: Any, result: Any) -> None:
    labels, problems = one(scan, region(), result)
    assert (len(labels.boxes), labels.has_faults, problems) == (1, False, [])


def test_which_annotation_counts(scan: Any) -> None:
    boxes = [{**region(), "id": str(number)} for number in range(3)]
    tasks = [
        task(
            annotation(boxes[0], day=1),
            annotation(*boxes, day=3),
            annotation(*boxes[:2], day=2),
            task_id=1,
            image="a.jpg",
        ),
        task(annotation(boxes[0], day=1), annotation(*boxes, day=3, was_cancelled=True), task_id=2, image="b.jpg"),
        task(annotation(boxes[0], was_cancelled=True), task_id=3, image="c.jpg"),
        {**task(task_id=4, image="d.jpg"), "predictions": [annotation(*boxes)]},
        task(annotation(), task_id=5, image="e.jpg"),
    ]
    images, problems, _ = read(scan, {**{f"{name}.jpg": "" for name in "abcde"}, "x.json": tasks})
    counts = {name: each.labels and len(each.labels.boxes) for name, each in images.items()}
    assert {name: len(each.labels.boxes) if each.labels else None for name, each in images.items()} == {
        "a.jpg": 3,
        "b.jpg": 1,
        "c.jpg": None,
        "d.jpg": None,
        "e.jpg": 0,
    }, counts
    assert problems == [("several_annotations", "task 1"), ("image_without_labels", ""), ("image_without_labels", "")]


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        pytest.param("/data/upload/1/1a2b3c4d-a.jpg", "1a2b3c4d-a.jpg", id="upload"),
        pytest.param("/data/upload/1/1a2b3c4d-a.jpg", "images/a.jpg", id="upload, under its own name"),
        pytest.param("/data/local-files/?d=set/train/a.jpg", "train/a.jpg", id="local file"),
        pytest.param("/data/local-files/?d=set%2Ftrain%2Fa%20b.jpg", "train/a b.jpg", id="local file, quoted"),
        pytest.param("http://localhost:8080/data/local-files/?d=train/a.jpg", "train/a.jpg", id="local file on a host"),
        pytest.param("https://host/x/a.jpg?token=1&b=c.png", "a.jpg", id="address"),
        pytest.param("s3://bucket/train/a.jpg", "train/a.jpg", id="store"),
        pytest.param("a.jpg", "deep/a.jpg", id="plain"),
        pytest.param("a#1.jpg", "a#1.jpg", id="plain with a sign of addresses"),
        pytest.param("C:\\data\\a.jpg", "a.jpg", id="Windows"),
    ],
)
def test_references(scan: Any, reference: str, path: str) -> None:
    images, problems, _ = read(scan, {path: "", "x.json": [task(annotation(region()), image=reference)]})
    assert (len(images[path].labels.boxes), problems) == (1, [])


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        pytest.param("/data/upload/9/1a2b3c4d-b.jpg", "image_not_found", id="missing"),
        pytest.param("/data/local-files/?d=../../etc/passwd", "image_not_found", id="outside"),
        pytest.param("/data/local-files/", "image_not_found", id="no file"),
        pytest.param("data:image/png;base64,AAAA", "image_not_found", id="in the task"),
        pytest.param("https://[bad", "image_not_found", id="no address"),
        pytest.param("https://host/other/2.jpg", "ambiguous_image", id="ambiguous"),
        pytest.param("", "image_not_found", id="empty"),
        pytest.param(["a.jpg"], "image_not_found", id="a list"),
        pytest.param(None, "image_not_found", id="null"),
        pytest.param("x" * 100_000, "image_not_found", id="very long"),
    ],
)
def test_references_to_nothing(scan: Any, reference: Any, code: str) -> None:
    files = {"a.jpg": "", "m/2.jpg": "", "n/2.jpg": "", "x.json": [task(annotation(region()), image=reference)]}
    images, problems, _ = read(scan, files)
    assert problems[0] == (code, "task 1")
    assert all(each.labels is None for each in images.values())


def test_the_image_among_other_data() -> None:
    assert image_of_task({"id": 7, "note": "see b.txt", "photo_url": "https://h/a.JPG"}) == "/a.JPG"
    assert image_of_task({"a": "x.jpg", "image": "/data/upload/y.jpg"}) == "/data/upload/y.jpg"
    assert image_of_task({"image": "no-extension"}) == "no-extension"
    assert image_of_task({"text": "no-extension"}) == ""
    assert without_upload_mark("d/1a2b3c4d-x.jpg") == "d/x.jpg"
    assert without_upload_mark("d/1a2b3c4-x.jpg") == "d/1a2b3c4-x.jpg"


def test_choices_alone_are_classes_of_images(scan: Any) -> None:
    names = {"a": [choice("cat")], "b": [choice("cat", "dog")], "c": [choice("dog"), choice("dog")], "d": []}
    tasks = [task(annotation(*results), task_id=ord(name), image=f"{name}.jpg") for name, results in names.items()]
    images, problems, kind = read(scan, {**{f"{name}.jpg": "" for name in names}, "x.json": tasks})
    assert kind == "classification"
    assert [each.class_name for each in images.values()] == ["cat", None, "dog", None]
    assert problems == [("several_classes", f"task {ord('b')}")]


def test_choices_beside_regions_are_left_out(scan: Any) -> None:
    labels, problems = one(scan, choice("good"), region())
    assert (len(labels.boxes), problems) == (1, [("tag_left_out", "")])


@pytest.mark.parametrize(
    ("split", "path", "expected"),
    [
        pytest.param("train", "a.jpg", "train", id="in the task"),
        pytest.param("validation", "images/a.jpg", "val", id="another word"),
        pytest.param(None, "test/a.jpg", "test", id="by the folder"),
        pytest.param(7, "a.jpg", None, id="a number"),
    ],
)
def test_published_splits(scan: Any, split: Any, path: str, expected: str | None) -> None:
    images, _, _ = read(scan, {path: "", "x.json": [task(annotation(region()), image="a.jpg", split=split)]})
    assert images[path].published_split == expected


ROW = {"image": "/data/upload/1/1a2b3c4d-a.jpg", "id": 1, "annotator": 1, "annotation_id": 1, "lead_time": 2.5}


def row(day: int = 1, **values: Any) -> dict[str, Any]:
    return {**ROW, "created_at": f"2021-03-0{day}T22:16:08Z", "updated_at": f"2021-03-0{day}T22:16:08Z", **values}


def test_json_min(scan: Any) -> None:
    box = {
        "x": 10,
        "y": 20,
        "width": 30,
        "height": 40,
        "rotation": 0,
        "rectanglelabels": ["car"],
        "original_width": 100,
    }
    brush = {
        "format": "rle",
        "rle": brush_of(DISC),
        "brushlabels": ["bus"],
        "original_width": 100,
        "original_height": 50,
    }
    images, problems, kind = read(scan, {"a.jpg": "", "x.json": [row(label=[box, brush], split="test")]})
    assert (kind, problems, images["a.jpg"].published_split) == ("detection", [], "test")
    labels = images["a.jpg"].labels
    assert [box.class_name for box in labels.boxes] == ["car", "bus"]
    assert (labels.boxes[0].xyxy, labels.boxes[1].mask) == (pytest.approx((0.1, 0.2, 0.4, 0.6)), Mask.from_array(DISC))


def test_json_min_of_our_own_labelling_configuration(scan: Any) -> None:
    images, problems, kind = read(scan, {"a.jpg": "", "x.json": [row(**{"class": "cat"})]})
    assert (kind, images["a.jpg"].class_name, problems) == ("classification", "cat", [])


def test_json_min_of_regions_whose_control_is_called_as_a_choice(scan: Any) -> None:
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["car"]}
    images, problems, kind = read(scan, {"a.jpg": "", "x.json": [row(choice=[box])]})
    assert (kind, len(images["a.jpg"].labels.boxes), problems) == ("detection", 1, [])


def test_json_min_of_several_persons_takes_the_newest(scan: Any) -> None:
    rows = [row(2, choice="dog"), row(3, choice={"choices": ["cat"]}), row(1, choice="cow")]
    images, problems, kind = read(scan, {"a.jpg": "", "x.json": rows})
    assert (kind, images["a.jpg"].class_name) == ("classification", "cat")
    assert problems == [("image_labelled_twice", "task 1")] * 2


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{}", id="object"),
        pytest.param("[]", id="empty list"),
        pytest.param('[{"a": 1}]', id="another list"),
        pytest.param('[{"data": {"image": "a.jpg"}}]', id="data without annotations"),
        pytest.param("[1", id="broken"),
        pytest.param('{"images": [{"file_name": "a.jpg"}]}', id="COCO"),
    ],
)
def test_other_json_is_no_export(scan: Any, content: str) -> None:
    assert label_studio.evidence(scan({"a.jpg": "", "x.json": content})) == ""
    with pytest.raises(DataError, match="none of 1 JSON files is an export of Label Studio"):
        read(scan, {"a.jpg": "", "x.json": content})


def test_a_file_that_breaks_off_is_refused(scan: Any) -> None:
    content = json.dumps([task(annotation(region())), task()])[:-30]
    with pytest.raises(DataError, match=r"x\.json: not usable JSON at byte"):
        read(scan, {"a.jpg": "", "x.json": content})


def test_odd_entries_between_tasks(scan: Any) -> None:
    images, problems, _ = read(scan, {"a.jpg": "", "x.json": [task(annotation(region())), 7, None]})
    assert len(images["a.jpg"].labels.boxes) == 1
    assert [code for code, _ in problems] == ["malformed_entry"] * 2


def test_brush_decoding_of_all_run_lengths() -> None:
    random = np.random.default_rng(5)
    for _ in range(30):
        size_hw = (int(random.integers(1, 60)), int(random.integers(1, 60)))
        colours = random.integers(0, 4, (*size_hw, 4)) * (random.random((*size_hw, 1)) < random.uniform(0, 0.6))
        if random.random() < 0.5:
            colours[:] = colours[:, :, 3:]
        packed = encode_brush(colours.ravel().tolist(), lengths=(*sorted(random.integers(1, 17, 3).tolist()), 16))
        mask = brush_mask(packed, (size_hw[1], size_hw[0]))
        assert np.array_equal(mask.to_array(), colours[:, :, 3] > 0)


def test_brush_values_one_by_one() -> None:
    """Two pixels, red with an alpha and nothing, as one block of single values."""
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + f"{7:03b}"
    bits += "".join(f"{value:08b}" for value in (255, 0, 0, 9, 7, 7, 7, 0))
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert brush_mask(packed, (2, 1)).to_array().tolist() == [[True, False]]


def test_a_brush_run_behind_the_end_is_refused() -> None:
    packed = encode_brush([0] * 12)
    packed[3] = 8
    with pytest.raises(ShapeError, match="goes on behind its end"):
        brush_mask(packed, (2, 1))
