"""The health check: every problem with file and item, and no image lost without a word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.data.artifacts import IMAGES
from visionyard.data.duplicates import drop_duplicates
from visionyard.data.health import Intake, check_balance, check_health
from visionyard.data.items import Problem, Problems
from visionyard.data.leaks.sketches import make_sketches
from visionyard.errors import ArtifactError, ConfigError, DataError

WHOLE = (1.0, 2.0, 30.0, 40.0)


def check(artifacts: Any, *, listed: tuple[str, ...] = (), wanted: tuple[str, ...] = ()) -> tuple[Intake, Problems]:
    problems = Problems()
    folders = (artifacts.sources, artifacts.frames)
    return check_health(folders, listed=listed, wanted=wanted, problems=problems), problems


@pytest.mark.parametrize(
    ("xyxy", "kept", "code", "message"),
    [
        pytest.param((float("nan"), 0, 5, 5), None, "box_not_a_number", "car box (nan, 0, 5, 5) holds a", id="nan"),
        pytest.param((0, 0, float("inf"), 5), None, "box_not_a_number", "(0, 0, inf, 5)", id="infinity"),
        pytest.param((5, 5, 5, 9), None, "box_without_area", "(5, 5, 5, 9) has no area; dropped", id="no width"),
        pytest.param((9, 9, 5, 12), None, "box_without_area", "(9, 9, 5, 12)", id="inverted"),
        pytest.param((70, 5, 80, 9), None, "box_outside_image", "lies outside the image of 64x48 px", id="right of it"),
        pytest.param((64, 5, 80, 9), None, "box_outside_image", "dropped", id="touching the border"),
        pytest.param((-9, -9, 10, 10), (0, 0, 10, 10), "box_outside_image", "clipped to it", id="beyond the corner"),
        pytest.param((1, 2, 64.9, 48.9), (1, 2, 64, 48), None, None, id="rounded beyond the border"),
        pytest.param((0, 0, 64, 48), (0, 0, 64, 48), None, None, id="the whole image"),
    ],
)
def test_boxes_are_checked(
    xyxy: Any, kept: Any, code: str | None, message: str | None, build_artifacts: Any, image_spec: Any, tmp_path: Path
) -> None:
    good = ("car", WHOLE)
    artifacts = build_artifacts([image_spec("a", boxes=(good, ("car", (0, 0, 1, 1)))), image_spec("b", boxes=(good,))])
    lines = [json.loads(line) for line in (artifacts.sources / IMAGES).read_text().splitlines()]
    lines[0]["boxes"][1]["xyxy"] = list(xyxy)
    (artifacts.sources / IMAGES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    intake, problems = check(artifacts)
    boxes = list(intake.records[0].xyxy or ())
    assert boxes == [*WHOLE, *(kept or ())]
    assert intake.records[0].class_ids == (0,) * (len(boxes) // 4)
    if code is None:
        assert problems.found == []
    else:
        (problem,) = problems.found
        assert (problem.code, problem.file, problem.item) == (code, "a.jpg", "box 2")
        assert message is not None
        assert message in problem.message


def test_a_box_in_a_clip_is_named_with_its_time(build_artifacts: Any, image_spec: Any) -> None:
    frame = image_spec("f", group="clip", boxes=(("car", (3, 3, 3, 3)), ("car", WHOLE)), timestamp_s=1.5)
    _, problems = check(build_artifacts(frames=[frame]))
    assert (problems.found[0].file, problems.found[0].item) == ("clip.mp4", "1.500 s, box 1")


def test_an_image_without_objects_is_kept_and_one_without_label_is_counted(
    build_artifacts: Any, image_spec: Any
) -> None:
    specs = [image_spec("a", boxes=(("car", WHOLE),)), image_spec("b", boxes=()), image_spec("c", boxes=None)]
    intake, problems = check(build_artifacts(specs))
    assert [record.key for record in intake.records] == ["a", "b"]
    assert intake.unlabelled_count == 1
    assert problems.found == [Problem("image_without_labels", "c.jpg", "it has no label; left out")]


def test_items_of_both_artifacts_are_taken_and_keys_stay_unique(build_artifacts: Any, image_spec: Any) -> None:
    artifacts = build_artifacts(
        [image_spec("k", class_name="a", seed=1), image_spec("k-2", class_name="a", seed=2)],
        frames=[image_spec("k", group="clip", class_name="b", seed=3, timestamp_s=0.5)],
    )
    intake, _ = check(artifacts)
    assert [record.key for record in intake.records] == ["k", "k-2", "k-3"]
    assert [record.artifact for record in intake.records] == [0, 0, 1]
    assert [record.place for record in intake.records] == ["k.jpg", "k-2.jpg", "clip.mp4 at 0.500 s"]


@pytest.mark.parametrize(
    ("listed", "wanted", "classes"),
    [
        pytest.param((), (), ["ant", "bee", "cat"], id="sorted"),
        pytest.param(("cat", "ant", "bee"), (), ["cat", "ant", "bee"], id="in the source's order"),
        pytest.param(("cat", "ant", "bee"), ("bee", "cat"), ["bee", "cat"], id="as asked"),
    ],
)
def test_classes_and_their_order(
    listed: tuple[str, ...], wanted: tuple[str, ...], classes: list[str], build_artifacts: Any, image_spec: Any
) -> None:
    specs = [image_spec(name, class_name=name) for name in ("bee", "cat", "ant")]
    intake, problems = check(build_artifacts(specs), listed=listed, wanted=wanted)
    assert intake.classes == classes
    assert {record.key: classes[record.class_ids[0]] for record in intake.records} == {name: name for name in classes}
    assert intake.other_class_items == 3 - len(classes)
    assert problems.found == []


def test_boxes_of_other_classes_are_left_out_and_counted(build_artifacts: Any, image_spec: Any) -> None:
    specs = [image_spec("a", boxes=(("car", WHOLE), ("bus", WHOLE))), image_spec("b", boxes=(("bus", WHOLE),))]
    intake, problems = check(build_artifacts(specs), wanted=("car",))
    assert [record.class_ids for record in intake.records] == [(0,), ()]
    assert intake.other_class_boxes == 2
    assert problems.found == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        pytest.param(("car", "cart", "boat"), "'cart', 'boat' not in the data; there are: bus, car", id="unknown"),
        pytest.param(("car", "car"), "'car' stands there twice", id="twice"),
    ],
)
def test_classes_that_are_not_there_are_refused(
    wanted: tuple[str, ...], message: str, build_artifacts: Any, image_spec: Any
) -> None:
    artifacts = build_artifacts([image_spec("a", boxes=(("car", WHOLE), ("bus", WHOLE)))])
    with pytest.raises(ConfigError, match=rf"data\.classes: {message}"):
        check(artifacts, wanted=wanted)


def test_a_class_that_the_source_does_not_list_is_told(build_artifacts: Any, image_spec: Any) -> None:
    boxes = build_artifacts([image_spec("a", boxes=(("car", WHOLE), ("caar", WHOLE)))], name="boxes")
    intake, problems = check(boxes, listed=("car", "bus"))
    assert (intake.classes, intake.records[0].class_ids) == (["car"], (0,))
    assert [(found.code, found.file, found.item) for found in problems.found] == [
        ("class_without_items", "", "bus"),
        ("unknown_class", "a.jpg", "box 2"),
    ]
    assert "class 'caar' is not among the source's classes" in problems.found[1].message
    whole = build_artifacts([image_spec("a", class_name="car"), image_spec("b", class_name="caar")], name="whole")
    intake, problems = check(whole, listed=("car", "bus"))
    assert [record.key for record in intake.records] == ["a"]
    assert intake.classes == ["car", "bus"]  # an empty class of a classification is refused by the split
    assert problems.counts() == {"unknown_class": 1}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        pytest.param([], "there is no image", id="none"),
        pytest.param([{}, {}], "none of 2 images has a label", id="no labels"),
        pytest.param([{"boxes": ()}], "none of 1 images has a label", id="only images that show nothing"),
        pytest.param(
            [{"boxes": (("car", (5, 5, 5, 5)),)}],
            r"none of 1 images has a usable label:\n  box_without_area: 1\n    0\.jpg, box 1: car box \(5, 5, 5, 5\) ",
            id="no usable label",
        ),
        pytest.param(
            [{"boxes": (("car", (5, 5, 5, 5)),) * 5}],
            r"box_without_area: 5\n.*box 1.*\n.*box 2.*\n.*box 3.*\n    \.\.\. and 2 more$",
            id="many problems",
        ),
        pytest.param(
            [{"boxes": (("car", WHOLE),)}, {"class_name": "car"}],
            r"0\.jpg has boxes and 1\.jpg has a class of the whole image: .* make a dataset of each",
            id="two tasks",
        ),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(
    specs: list[dict[str, Any]], message: str, build_artifacts: Any, image_spec: Any
) -> None:
    artifacts = build_artifacts([image_spec(str(number), **values) for number, values in enumerate(specs)])
    with pytest.raises(DataError, match=message):
        check(artifacts)


def test_an_unreadable_image_is_told_and_left_out(
    build_artifacts: Any, image_spec: Any, encode_image: Callable[..., bytes], random_picture: Callable[..., np.ndarray]
) -> None:
    cut = encode_image(random_picture(0))[:400]
    artifacts = build_artifacts(
        [
            image_spec("a", class_name="x"),
            image_spec("b", class_name="x", data=cut),
            image_spec("c", class_name="x", data=b"?"),
        ]
    )
    intake, problems = check(artifacts)
    assert [record.key for record in intake.records] == ["a"]
    assert [(found.code, found.file) for found in problems.found] == [
        ("unreadable_image", "b.jpg"),
        ("unreadable_image", "c.jpg"),
    ]
    assert "may be truncated; left out" in problems.found[0].message


@pytest.mark.parametrize(
    ("image_format", "extension"),
    [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif"), ("GIF", "gif")],
)
def test_the_extension_says_what_the_bytes_are(
    image_format: str, extension: str, build_artifacts: Any, image_spec: Any, encode_image: Any, random_picture: Any
) -> None:
    data = encode_image(random_picture(0), image_format)
    intake, _ = check(build_artifacts([image_spec("a", class_name="x", data=data)]))
    assert intake.records[0].extension == extension


@pytest.mark.parametrize(("side", "is_told"), [(15, True), (16, False)])
def test_tiny_images_are_told(side: int, is_told: bool, build_artifacts: Any, image_spec: Any) -> None:
    intake, problems = check(build_artifacts([image_spec("a", class_name="x", size_hw=(side, 40))]))
    assert len(intake.records) == 1
    assert [found.message for found in problems.found] == (
        ["40x15 px: a side is shorter than 16 px"] if is_told else []
    )


def test_altered_bytes_are_refused(build_artifacts: Any, image_spec: Any) -> None:
    artifacts = build_artifacts([image_spec("a", class_name="x")])
    (shard,) = (artifacts.sources / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"images-00000\.tar: the bytes of a are not those that were written"):
        check(artifacts)


def test_a_missing_list_of_images_is_refused(build_artifacts: Any, image_spec: Any) -> None:
    artifacts = build_artifacts([image_spec("a", class_name="x")])
    (artifacts.frames / IMAGES).unlink()
    with pytest.raises(ArtifactError, match=r"frames/images\.jsonl: the list of images is missing"):
        check(artifacts)


def test_one_of_several_equal_items_is_kept(build_artifacts: Any, image_spec: Any) -> None:
    specs = [
        image_spec("c", group="g3", class_name="x", seed=1),
        image_spec("b", group="g2", class_name="x", seed=1),
        image_spec("a", group="g1", class_name="x", seed=1),
        image_spec("d", group="g4", class_name="x", seed=2),
    ]
    for order, name in ((specs, "one"), (specs[::-1], "two")):
        intake, problems = check(build_artifacts(order, name=name))
        drop_duplicates(intake, within_published=False, problems=problems)
        assert sorted(record.key for record in intake.records) == ["a", "d"]
        assert sorted((found.code, found.file, found.item) for found in problems.found) == [
            ("duplicate_image", "b.jpg", "b"),
            ("duplicate_image", "c.jpg", "c"),
        ]
        assert "the same image and label as a.jpg" in problems.found[0].message
        assert sorted(intake.same_images) == [("g1", "g2"), ("g1", "g3")]


def test_equal_images_with_other_labels_are_both_kept(build_artifacts: Any, image_spec: Any) -> None:
    specs = [
        image_spec("a", boxes=(("car", WHOLE),), seed=1),
        image_spec("b", boxes=(("car", (1, 2, 30, 41)),), seed=1),
    ]
    intake, problems = check(build_artifacts(specs))
    drop_duplicates(intake, within_published=False, problems=problems)
    assert [record.key for record in intake.records] == ["a", "b"]
    assert problems.found == [
        Problem("conflicting_labels", "b.jpg", "the same image as a.jpg with another label; both are kept", "b")
    ]


def test_published_splits_keep_a_copy_each(build_artifacts: Any, image_spec: Any) -> None:
    specs = [
        image_spec(key, class_name="x", seed=1, published_split=split)
        for key, split in (("a", "train"), ("b", "test"), ("c", "train"))
    ]
    intake, problems = check(build_artifacts(specs))
    drop_duplicates(intake, within_published=True, problems=problems)
    assert [record.key for record in intake.records] == ["a", "b"]
    assert problems.counts() == {"duplicate_image": 1}


def test_imbalance_and_few_groups_are_told(build_artifacts: Any, image_spec: Any) -> None:
    specs = [image_spec(f"x{number}", class_name="x") for number in range(20)]
    specs += [image_spec(f"y{number}", class_name="y") for number in range(2)]
    specs += [image_spec(f"z{number}", class_name="z") for number in range(5)]
    intake, problems = check(build_artifacts(specs))
    check_balance(intake, problems)
    assert [(found.code, found.item) for found in problems.found] == [
        ("class_imbalance", "y"),
        ("class_with_few_groups", "y"),
    ]
    assert "class 'y' has 2 items, 'x' has 20" in problems.found[0].message


def test_sketches_are_made_of_the_items_kept_in_the_order_of_the_records(build_artifacts: Any, image_spec: Any) -> None:
    specs = [image_spec(name, class_name=name) for name in ("bee", "cat", "ant")] + [image_spec("fly", data=b"?")]
    specs[3].class_name = "bee"
    artifacts = build_artifacts(specs)
    folders = (artifacts.sources, artifacts.frames)
    intake = check_health(folders, listed=(), wanted=("bee", "ant"), problems=Problems(), is_sketched=True)
    # Not for the cat: a scratch file has room only for what may be kept.
    assert intake.sketches.count == 3
    intake.records.reverse()
    sketches = intake.release_sketches()
    expected = make_sketches([specs[2].encoded, specs[0].encoded])
    for name in ("thumbnails", "prints", "descriptors", "points", "corner_counts", "has_structure"):
        np.testing.assert_array_equal(getattr(sketches, name), getattr(expected, name))
    assert sketches.has_structure.all()
    assert intake.sketches.count == 0


def test_a_file_without_label_is_told_once(build_artifacts: Any, image_spec: Any) -> None:
    told = Problem("image_without_labels", "b.jpg", "no XML file of its name; kept as unlabelled")
    specs = [image_spec("a", class_name="x"), image_spec("b"), image_spec("c")]
    frames = [image_spec(f"f{number}", group="clip", timestamp_s=number / 2) for number in range(3)]
    artifacts = build_artifacts(specs, frames=frames)
    problems = Problems([told])
    intake = check_health((artifacts.sources, artifacts.frames), listed=(), wanted=(), problems=problems)
    assert intake.unlabelled_count == 5
    assert [problem.file for problem in problems.found] == ["b.jpg", "c.jpg", "clip.mp4"]
