"""What all writers share: what is refused, what is told as lost, how files are named, and nothing half-written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.labelled_sets import make_set
from visionyard.data.items import Box, Problems
from visionyard.data.labelled import LabelledImage, LabelledSet
from visionyard.data.writers import FORMATS, write_as
from visionyard.errors import ArtifactError, ConfigError, DataError
from visionyard.geometry import Mask

BOX = Box("cat", (2.0, 2.0, 8.0, 8.0))
MASK = Mask.from_array(np.pad(np.ones((4, 4), bool), ((2, 18), (2, 26))))
KEPT: dict[str, dict[str, Any]] = {
    "classification": {"class_name": "cat"},
    "detection": {"boxes": (BOX,)},
    "semantic_segmentation": {"mask": np.zeros((24, 32), np.uint8)},
}


def _write(labelled: LabelledSet, target: Path, name: str) -> list[str]:
    problems = Problems()
    write_as(labelled, target, FORMATS[name], problems)
    return [problem.code for problem in problems.found]


LOST = {
    "a crowd in yolo": ("yolo", replace(BOX, is_crowd=True), ["crowd_as_object"]),
    "a crowd in voc": ("voc", replace(BOX, is_crowd=True), ["crowd_as_object"]),
    "a crowd in csv": ("csv", replace(BOX, is_crowd=True), ["crowd_as_object"]),
    "a crowd in label_studio": ("label_studio", replace(BOX, is_crowd=True), ["crowd_as_object"]),
    "a crowd in coco": ("coco", replace(BOX, is_crowd=True), []),
    "a crowd in cvat": ("cvat", replace(BOX, is_crowd=True), []),
    "a mask in voc": ("voc", replace(BOX, mask=MASK), ["mask_left_out"]),
    "a mask in csv": ("csv", replace(BOX, mask=MASK), ["mask_left_out"]),
    "a mask in coco": ("coco", replace(BOX, mask=MASK), []),
    "a box beside its mask in yolo": ("yolo", replace(BOX, mask=MASK), ["box_of_mask"]),
    "a box beside its mask in cvat": ("cvat", replace(BOX, mask=MASK), ["box_of_mask"]),
    "a box around its mask in cvat": ("cvat", replace(BOX, mask=MASK, xyxy=(2.0, 2.0, 6.0, 6.0)), []),
}


@pytest.mark.parametrize(("name", "box", "codes"), LOST.values(), ids=LOST)
def test_what_a_format_cannot_hold_is_told(name: str, box: Box, codes: list[str], tmp_path: Path):
    assert _write(make_set("detection", ["cat"], [{"boxes": (box,)}]), tmp_path / "out", name) == codes


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "n" * 256, "Thumbs.db", ".."])
def test_a_class_that_cannot_be_a_folder_is_refused(name: str, tmp_path: Path):
    labelled = make_set("classification", [name], [{"class_name": name}])
    with pytest.raises(DataError, match=r"cannot name a folder.*write csv or tfrecord"):
        _write(labelled, tmp_path / "out", "folders")
    assert list(tmp_path.iterdir()) == []


def test_class_folders_cannot_say_that_some_have_no_split(tmp_path: Path):
    labelled = make_set("classification", ["a"], [{"class_name": "a", "split": "train"}, {"class_name": "a"}])
    with pytest.raises(DataError, match="some images have a split and others have none"):
        _write(labelled, tmp_path / "out", "folders")


@pytest.mark.parametrize("name", ["voc", "cvat", "label_studio"])
def test_a_character_that_xml_cannot_hold_is_refused(name: str, tmp_path: Path):
    labelled = make_set("detection", ["bell\x07"], [{"boxes": (replace(BOX, class_name="bell\x07"),)}])
    with pytest.raises(DataError, match=r"'bell\\x07' holds a character that XML cannot hold"):
        _write(labelled, tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_needs_escapes_leaves_the_label_map_out(tmp_path: Path):
    labelled = make_set("classification", ['a"b'], [{"class_name": 'a"b'}])
    assert _write(labelled, tmp_path / "out", "tfrecord") == ["label_map_left_out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all-00000-of-00001.tfrecord"]


def test_boxes_within_the_first_pixel_are_no_csv(tmp_path: Path):
    labelled = make_set("detection", ["dot"], [{"boxes": (Box("dot", (0.0, 0.0, 1.0, 1.0)),)}])
    with pytest.raises(DataError, match="no box reaches beyond the first pixel"):
        _write(labelled, tmp_path / "out", "csv")


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_labelled_is_nothing_to_write(name: str, tmp_path: Path):
    task = min(FORMATS[name].tasks)
    with pytest.raises(DataError, match="made up: none of 1 images has a label"):
        _write(make_set(task, ["cat"], [{}]), tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_without_a_label_is_told_once(name: str, tmp_path: Path):
    task = min(FORMATS[name].tasks)
    labelled = make_set(task, ["cat"], [KEPT[task], {}])
    assert _write(labelled, tmp_path / "out", name) == ["image_without_labels"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_failure_on_the_way_leaves_nothing(name: str, tmp_path: Path):
    def fail(_: object) -> bytes:
        raise ArtifactError("the shard was cut short")

    task = min(FORMATS[name].tasks)
    whole = make_set(task, ["cat"], [KEPT[task]] * 3)
    images = list(whole.images())
    broken = [*images[:2], LabelledImage(images[2].item, fail)]
    with pytest.raises(ArtifactError, match="cut short"):
        _write(replace(whole, images=lambda: iter(broken)), tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


def test_a_filled_folder_stays(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    labelled = make_set("detection", ["cat"], [{"boxes": (BOX,)}])
    with pytest.raises(ConfigError, match="is there and not empty"):
        _write(labelled, tmp_path, "coco")
    with pytest.raises(ConfigError, match=r"mine\.txt: is there and not empty"):
        _write(labelled, tmp_path / "mine.txt", "coco")
    assert (tmp_path / "mine.txt").read_text() == "mine"


SOURCES = {
    "plain": (["a/one.jpg", "b/two.png"], ["one.png", "two.png"]),
    "the same in two folders": (["a/one.jpg", "b/one.jpg"], ["item-0.png", "item-1.png"]),
    "the same but for case": (["a/one.jpg", "b/ONE.jpg"], ["item-0.png", "item-1.png"]),
    "with spaces": (["a/one two.jpg", "b/three.jpg"], ["item-0.png", "item-1.png"]),
    "hidden": ([".one.jpg", "two.jpg"], ["item-0.png", "item-1.png"]),
}


@pytest.mark.parametrize(("sources", "names"), SOURCES.values(), ids=SOURCES)
def test_files_keep_their_names_where_all_are_plain_and_differ(sources: list[str], names: list[str], tmp_path: Path):
    labelled = make_set("detection", ["cat"], [{"boxes": (BOX,)}] * 2)
    images = [
        replace(image, item=replace(image.item, source=source))
        for image, source in zip(labelled.images(), sources, strict=True)
    ]
    _write(replace(labelled, images=lambda: iter(images)), tmp_path / "out", "coco")
    assert sorted(path.name for path in (tmp_path / "out/all").iterdir()) == names


def test_frames_are_named_by_their_keys(tmp_path: Path):
    labelled = make_set("detection", ["cat"], [{"boxes": (BOX,)}])
    (image,) = labelled.images()
    frame = replace(image, item=replace(image.item, source="clip.mp4", timestamp_s=1.0))
    _write(replace(labelled, images=lambda: iter([frame])), tmp_path / "out", "coco")
    assert [path.name for path in (tmp_path / "out/all").iterdir()] == ["item-0.png"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_set_gives_the_same_bytes(name: str, tmp_path: Path):
    task = min(FORMATS[name].tasks)
    files = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        _write(make_set(task, ["cat"], [{**KEPT[task], "split": "train"}] * 2), folder, name)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files.append([(path.relative_to(folder), path.read_bytes()) for path in paths])
    assert files[0] == files[1]
