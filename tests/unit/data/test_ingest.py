"""From a source to a `sources` artifact."""

import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.source_files import MP4, clips, items, photo, write
from visionyard import events
from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.formats import SourceTree, source_tree
from visionyard.data.ingest import ingest
from visionyard.data.items import Box
from visionyard.data.shards import read_blob
from visionyard.digests import digest_of_folder, sha256_bytes
from visionyard.errors import ConfigError
from visionyard.transforms import decode_image


def codes(folder: Path) -> dict[str, str]:
    return {problem.file: problem.code for problem in read_problems(folder)}


def test_images_by_class(by_class: str, target: Path) -> None:
    report = ingest(by_class, target)
    found = items(target)
    assert [(item.key, item.source, item.group, item.class_name) for item in found] == [
        ("cat-1", "cat/1.jpg", "cat/1.jpg", "cat"),
        ("cat-2", "cat/2.png", "cat/2.png", "cat"),
        ("dog-1", "dog/1.jpg", "dog/1.jpg", "dog"),
    ]
    for item in found:
        data = (Path(by_class) / item.source).read_bytes()
        assert read_blob(target / "shards", item.blob) == data
        assert item.sha256 == sha256_bytes(data)
        assert (item.width, item.height, item.boxes, item.timestamp_s) == (40, 30, None, None)
    with tarfile.open(target / "shards" / "images-00000.tar") as shard:
        assert shard.getnames() == ["cat-1.jpg", "cat-2.png", "dog-1.jpg"]
    assert read_manifest(target, "sources") == {
        "schema_version": 1,
        "artifact": "sources",
        "kind": "images_by_class",
        "kind_evidence": "3 images in 2 folders (cat, dog), no label files",
        "task": "classification",
        "classes": ["cat", "dog"],
        "digest": report.digest,
        "image_count": 3,
        "clip_count": 0,
        "total_bytes": sum(item.blob.size for item in found),
        "problem_counts": {},
        "group_pattern": "",
        "grouped_count": 0,
    }
    assert clips(target) == []
    assert report.classes == ("cat", "dog")
    assert list(report.figures().items())[:2] == [("image_count", 3), ("problem_count", 0)]
    assert report.metadata()["classes"] == "cat, dog"


def test_clips_by_class_are_stored_unopened(tmp_path: Path, target: Path) -> None:
    gif = photo(form="GIF")
    source = write(tmp_path / "s", {"train/a/1.mp4": MP4, "test/b/1.gif": gif, "train/a/2.avi": MP4 + b"2"})
    report = ingest(source, target)
    found = clips(target)
    assert [(c.source, c.class_name, c.media_type, c.published_split, c.tracks) for c in found] == [
        ("test/b/1.gif", "b", "image/gif", "test", None),
        ("train/a/1.mp4", "a", "video/mp4", "train", None),
        ("train/a/2.avi", "a", "video/mp4", "train", None),
    ]
    assert [read_blob(target / "shards", clip.blob) for clip in found] == [gif, MP4, MP4 + b"2"]
    assert (found[1].sha256, found[1].group) == (sha256_bytes(MP4), "train/a/1.mp4")
    assert codes(target) == {"train/a/2.avi": "extension_differs"}
    assert (report.clip_count, report.image_count, report.kind) == (3, 0, "clips_by_class")


CVAT = (
    "<annotations><meta><task><source>a.mp4</source></task></meta>"
    '<track id="0" label="z"><box frame="0" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    '<track id="1" label="b"><box frame="0" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track></annotations>'
)


def test_clips_with_cvat(tmp_path: Path, target: Path) -> None:
    report = ingest(write(tmp_path / "s", {"a.mp4": MP4, "a.xml": CVAT, "b.mp4": MP4}), target)
    first, second = clips(target)
    assert [track.class_name for track in first.tracks or ()] == ["z", "b"]
    assert second.tracks is None
    assert (report.kind, report.classes) == ("clips_cvat", ("b", "z"))
    assert codes(target) == {"b.mp4": "clip_without_labels"}


def voc(*boxes: tuple[float, ...], size_wh: tuple[int, int] = (40, 30), name: str = "cell") -> str:
    text = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax>"
        "</bndbox></object>"
        for b in boxes
    )
    return f"<annotation><size><width>{size_wh[0]}</width><height>{size_wh[1]}</height></size>{text}</annotation>"


def test_images_in_voc_with_every_fault_of_boxes(tmp_path: Path, target: Path) -> None:
    boxes = ((1, 2, 20, 25), (float("nan"), 0, 5, 5), (3, 3, 3, 9), (30, 20, 50, 28), (41, 0, 60, 5))
    files: dict[str, bytes | str] = {
        "JPEGImages/a.jpg": photo(1),
        "Annotations/a.xml": voc(*boxes),
        "JPEGImages/b.jpg": photo(2),
        "JPEGImages/c.jpg": photo(3),
        "Annotations/c.xml": voc((1, 1, 9, 9), size_wh=(80, 60)),
        "ImageSets/Main/test.txt": "b\n",
    }
    report = ingest(write(tmp_path / "s", files), target)
    first, second = items(target)
    assert first.boxes == (Box("cell", (1.0, 2.0, 20.0, 25.0)), Box("cell", (30.0, 20.0, 40.0, 28.0)))
    assert (second.boxes, second.published_split) == (None, "test")
    found = [(problem.code, problem.file, problem.item) for problem in read_problems(target)]
    assert found == [
        ("box_not_a_number", "Annotations/a.xml", "object 2"),
        ("box_without_area", "Annotations/a.xml", "object 3"),
        ("box_outside_image", "Annotations/a.xml", "object 4"),
        ("box_outside_image", "Annotations/a.xml", "object 5"),
        ("size_differs", "Annotations/c.xml", ""),
        ("image_without_labels", "JPEGImages/b.jpg", ""),
    ]
    assert read_manifest(target, "sources")["problem_counts"]["box_outside_image"] == 2
    assert (report.problem_count, report.classes) == (6, ("cell",))


def test_yolo_classes_keep_the_order_of_their_ids(tmp_path: Path, target: Path) -> None:
    files: dict[str, bytes | str] = {
        "data.yaml": "names: [z, unused, b]",
        "valid/images/x.jpg": photo(1),
        "valid/labels/x.txt": "2 0.5 0.5 0.5 0.5\n",
        "train/images/x.jpg": photo(2),
        "train/labels/x.txt": "",
    }
    report = ingest(write(tmp_path / "s", files), target)
    assert report.classes == ("z", "unused", "b")
    assert [(item.boxes, item.published_split) for item in items(target)] == [
        ((), "train"),
        ((Box("b", (10.0, 7.5, 30.0, 22.5)),), "val"),
    ]


def test_images_that_decoders_could_see_differently_are_stored_as_seen(tmp_path: Path, target: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files: dict[str, bytes | str] = {"a/turned.jpg": photo(1, exif=exif), "b/page.webp": photo(2, form="WEBP")}
    source = write(tmp_path / "s", files)
    ingest(source, target)
    for item in items(target):
        stored = read_blob(target / "shards", item.blob)
        expected = decode_image((Path(source) / item.source).read_bytes())
        np.testing.assert_array_equal(decode_image(stored), expected)
        assert stored.startswith(b"\x89PNG")
        assert item.sha256 == sha256_bytes(stored)
        assert (item.height, item.width) == expected.shape[:2]
    assert items(target)[0].height == 40


def test_bad_images_are_left_out_and_told(tmp_path: Path, target: Path) -> None:
    files = {
        "a/good.jpg": photo(1),
        "a/cut.jpg": photo(2, (300, 300))[:4000],
        "a/empty.jpg": b"",
        "a/text.jpg": b"hello",
        "a/really.jpg": photo(3, form="PNG"),
        "b/clip.mp4.jpg": MP4,
        "b/good.png": photo(4, form="PNG"),
    }
    report = ingest(write(tmp_path / "s", files), target, kind="images_by_class")
    assert [item.source for item in items(target)] == ["a/good.jpg", "a/really.jpg", "b/good.png"]
    assert codes(target) == {
        "a/cut.jpg": "unreadable_image",
        "a/empty.jpg": "empty_file",
        "a/really.jpg": "extension_differs",
        "a/text.jpg": "not_media",
        "b/clip.mp4.jpg": "not_an_image",
    }
    assert report.problem_count == 5


def test_an_oversized_file_is_not_read(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_tree, "MAX_IMAGE_BYTES", len(photo(1)) + 100)
    ingest(write(tmp_path / "s", {"a/1.jpg": photo(1), "b/1.jpg": photo(2, (400, 300))}), target)
    assert codes(target) == {"b/1.jpg": "unreadable_image"}


@pytest.mark.parametrize(
    ("data", "extension", "code"),
    [(photo(), "jpg", "unreadable_image"), (MP4, "mp4", "unreadable_file")],
    ids=["image", "clip"],
)
def test_a_file_that_goes_while_others_are_read_is_left_out_and_told(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, extension: str, code: str
) -> None:
    source = write(tmp_path / "s", {f"{name}.{extension}": data for name in ("a/stays", "b/goes", "b/stays")})
    scan = SourceTree.scan

    def scan_and_lose(*arguments: Any, **options: Any) -> SourceTree:
        tree = scan(*arguments, **options)
        (Path(source) / f"b/goes.{extension}").unlink()
        return tree

    monkeypatch.setattr(SourceTree, "scan", scan_and_lose)
    report = ingest(source, target)
    assert codes(target) == {f"b/goes.{extension}": code}
    assert (report.image_count + report.clip_count, report.classes) == (2, ("a", "b"))


def test_names_that_would_make_one_key_both_live(tmp_path: Path, target: Path) -> None:
    names = [
        "a/b.jpg",
        "a/b.png",
        "a/b.JPG",
        "a-b/x.jpg",
        "a/b-x.jpg",
        "ünï/日本.jpg",
        "ünï/中文.jpg",
        "q/" + "n" * 200 + ".jpg",
    ]
    files: dict[str, bytes | str] = {
        name: photo(i, form="PNG" if "png" in name else "JPEG") for i, name in enumerate(names)
    }
    ingest(write(tmp_path / "s", files), target)
    found = items(target)
    assert sorted(item.source for item in found) == sorted(names)
    assert len({item.key for item in found}) == len(names)
    assert all(
        set(item.key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for item in found
    )
    assert all(0 < len(item.key) <= 120 for item in found)
    for item in found:
        assert read_blob(target / "shards", item.blob) == files[item.source]


def test_groups_by_pattern(tmp_path: Path, target: Path) -> None:
    names = ["a/day1-01.jpg", "a/day1-02.jpg", "b/day2-01.jpg", "b/other.jpg"]
    source = write(tmp_path / "s", {name: photo(i) for i, name in enumerate(names)})
    ingest(source, target, group_pattern=r"/(day\d+)-")
    assert [item.group for item in items(target)] == ["day1", "day1", "day2", "b/other.jpg"]
    assert read_manifest(target, "sources")["grouped_count"] == 3


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        pytest.param("(", r"data\.group_pattern = '\(': not a regular expression", id="invalid"),
        pytest.param(r"day\d", "has no group; put parentheses", id="no group"),
    ],
)
def test_wrong_patterns(by_class: str, target: Path, pattern: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ingest(by_class, target, group_pattern=pattern)
    assert not target.parent.exists()


def test_a_pattern_that_matches_nothing_is_told(by_class: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(events, "warn", told.append)
    ingest(by_class, target, group_pattern="(nothing)")
    assert "matched none of the paths" in told[0]


def test_same_content_same_bytes(by_class: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ingest(by_class, tmp_path / "one")
    copy = tmp_path / "elsewhere" / "other-name"
    shutil.copytree(by_class, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    scandir = os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: reversed(list(scandir(path))))
        assert ingest(str(copy), tmp_path / "two") == first
    assert digest_of_folder(tmp_path / "one") == digest_of_folder(tmp_path / "two")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: (root / "cat/1.jpg").write_bytes(photo(99)), id="an image"),
        pytest.param(lambda root: (root / "cat/1.jpg").rename(root / "dog/2.jpg"), id="a label"),
        pytest.param(lambda root: (root / "cat/1.jpg").unlink(), id="fewer images"),
    ],
)
def test_the_digest_follows_the_content(by_class: str, tmp_path: Path, change: Callable[[Path], Any]) -> None:
    first = ingest(by_class, tmp_path / "one").digest
    assert ingest(by_class, tmp_path / "one", group_pattern="^(cat|dog)").digest != first
    (Path(by_class) / "notes.txt").write_text("no content")
    assert ingest(by_class, tmp_path / "one").digest == first
    change(Path(by_class))
    assert ingest(by_class, tmp_path / "one").digest != first


def test_an_earlier_result_is_replaced(by_class: str, target: Path) -> None:
    write(target, {"stale": "x"})
    write(target.with_name(".sources.partial"), {"stale": "x"})
    write(target.with_name(".sources.unpacked"), {"stale": "x"})
    ingest(by_class, target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["sources"]
    assert sorted(path.name for path in target.iterdir()) == [
        "clips.jsonl",
        "images.jsonl",
        "manifest.json",
        "problems.jsonl",
        "shards",
    ]


def test_memory_does_not_grow_with_the_images(tmp_path: Path, target: Path) -> None:
    import tracemalloc

    data = photo(5, (400, 400))
    peaks = {}
    for count in (40, 160):
        source = write(tmp_path / f"s{count}", {f"{'ab'[i % 2]}/{i}.jpg": data for i in range(count)})
        tracemalloc.start()
        ingest(source, target)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[160] < peaks[40] + 20 * len(data)


def test_counts_by_class(by_class: str, target: Path) -> None:
    ingest(by_class, target)
    assert Counter(item.class_name for item in items(target)) == {"cat": 2, "dog": 1}
