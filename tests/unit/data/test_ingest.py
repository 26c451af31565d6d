"""From a source to a `sources` artifact."""

import errno
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from collections import Counter, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard import events
from visionyard.data import image_loading
from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.ingest import ingest
from visionyard.data.items import Box, Clip, Item, read_json_lines
from visionyard.data.shards import ShardWriter, read_blob
from visionyard.digests import digest_of_folder, sha256_bytes
from visionyard.errors import ConfigError, DataError, StorageError
from visionyard.transforms import decode_image

MP4 = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 9


def jpeg(seed: int = 0, size_wh: tuple[int, int] = (40, 30), form: str = "JPEG", **options: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def write(root: Path, files: Mapping[str, bytes | str]) -> str:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return str(root)


def items(folder: Path) -> list[Item]:
    return [Item.from_json(values) for values in read_json_lines(folder / "images.jsonl")]


def clips(folder: Path) -> list[Clip]:
    return [Clip.from_json(values) for values in read_json_lines(folder / "clips.jsonl")]


def codes(folder: Path) -> dict[str, str]:
    return {problem.file: problem.code for problem in read_problems(folder)}


@pytest.fixture
def by_class(tmp_path: Path) -> str:
    return write(
        tmp_path / "photos",
        {"cat/1.jpg": jpeg(1), "cat/2.png": jpeg(2, form="PNG"), "dog/1.jpg": jpeg(3), "README.md": "hello"},
    )


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "sources"


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
    gif = jpeg(form="GIF")
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
        "JPEGImages/a.jpg": jpeg(1),
        "Annotations/a.xml": voc(*boxes),
        "JPEGImages/b.jpg": jpeg(2),
        "JPEGImages/c.jpg": jpeg(3),
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
        "valid/images/x.jpg": jpeg(1),
        "valid/labels/x.txt": "2 0.5 0.5 0.5 0.5\n",
        "train/images/x.jpg": jpeg(2),
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
    files: dict[str, bytes | str] = {"a/turned.jpg": jpeg(1, exif=exif), "b/page.webp": jpeg(2, form="WEBP")}
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
        "a/good.jpg": jpeg(1),
        "a/cut.jpg": jpeg(2, (300, 300))[:4000],
        "a/empty.jpg": b"",
        "a/text.jpg": b"hello",
        "a/really.jpg": jpeg(3, form="PNG"),
        "b/clip.mp4.jpg": MP4,
        "b/good.png": jpeg(4, form="PNG"),
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
    monkeypatch.setattr(image_loading, "MAX_IMAGE_BYTES", len(jpeg(1)) + 100)
    ingest(write(tmp_path / "s", {"a/1.jpg": jpeg(1), "b/1.jpg": jpeg(2, (400, 300))}), target)
    assert codes(target) == {"b/1.jpg": "unreadable_image"}


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
        name: jpeg(i, form="PNG" if "png" in name else "JPEG") for i, name in enumerate(names)
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
    source = write(tmp_path / "s", {name: jpeg(i) for i, name in enumerate(names)})
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
        pytest.param(lambda root: (root / "cat/1.jpg").write_bytes(jpeg(99)), id="an image"),
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


# What cannot be brought in leaves nothing behind.


@pytest.mark.parametrize(
    ("files", "kind", "error", "match"),
    [
        ({"a/x.jpg": b"", "b/y.jpg": b"text"}, "images_by_class", DataError, r"found 0 images and no class folder"),
        ({"a/x.jpg": jpeg()[:400], "b/y.jpg": b"\xff\xd8\xff"}, "auto", DataError,
         r"src: nothing usable; expected a folder of images for each class.*problems: a/x\.jpg: the image cannot be"),
        ({"a/x.jpg": jpeg()}, "images_yolo", DataError, "src: no data.yaml with class names"),
        ({"x.bin": b"\1\2"}, "auto", DataError, "src: the layout is not recognised"),
        ({"a/x.jpg": jpeg()}, "images_x", ConfigError, "data.kind = 'images_x'"),
        ({"a.jpg": jpeg(), "a.xml": "<!DOCTYPE a><annotation/>"}, "auto", DataError, "a.xml: refused"),
    ],
    ids=["no images", "all broken", "no names", "unknown layout", "unknown kind", "hostile XML"],
)  # fmt: skip
def test_refusals(tmp_path: Path, files: dict[str, bytes | str], kind: Any, error: type[Exception], match: str) -> None:
    source = write(tmp_path / "src", files)
    with pytest.raises(error, match=match):
        ingest(source, tmp_path / "out", kind=kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_one_file_may_be_the_source(tmp_path: Path, target: Path) -> None:
    rows = "".join(f"{n / 7:.3f},{'cat' if n % 2 else 'dog'}\n" for n in range(40))
    source = write(tmp_path / "src", {"rows.csv": f"weight,animal\n{rows}"})
    report = ingest(f"{source}/rows.csv", target, kind="table", target_column="animal")
    assert report.classes == ("cat", "dog")
    manifest = read_manifest(target, "sources")
    assert (manifest["kind"], manifest["task"], manifest["row_count"]) == ("table", "table", 40)


def test_sources_that_are_no_folder(tmp_path: Path, target: Path) -> None:
    (tmp_path / "bare").mkdir()
    write(tmp_path, {"one.jpg": jpeg()})
    with pytest.raises(DataError, match="bare: the folder is empty"):
        ingest(str(tmp_path / "bare"), target)
    with pytest.raises(DataError, match=r"ghost: no such file or folder; check data\.source"):
        ingest(str(tmp_path / "ghost"), target)
    with pytest.raises(DataError, match=r"one\.jpg: the layout is not recognised: found 0 videos, 1 images"):
        ingest(str(tmp_path / "one.jpg"), target)
    with pytest.raises(StorageError, match="gs://x: expected a path"):
        ingest("gs://x", target)
    assert not target.parent.exists()


def test_too_little_space_is_seen_before_anything_is_written(
    by_class: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(OSError, match=r"bytes needed, 1 free") as caught:
        ingest(by_class, target)
    assert caught.value.errno == errno.ENOSPC
    assert not target.parent.exists()


def test_a_disk_that_fills_up_leaves_nothing(by_class: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = ShardWriter.add_together

    def add_until_full(self: ShardWriter, files: Sequence[tuple[str, bytes]]) -> Any:
        if files[0][0].startswith("dog"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, files)

    monkeypatch.setattr(ShardWriter, "add_together", add_until_full)
    with pytest.raises(OSError, match="No space left"):
        ingest(by_class, target)
    assert list(target.parent.iterdir()) == []


# Archives and addresses.


def zipped(folder: str, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(Path(folder).rglob("*")):
            packed.write(file, Path("wrapped") / file.relative_to(folder))
    return path


def tarred(folder: str, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        packed.add(folder, "wrapped")
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_as_good_as_its_folder(
    by_class: str, target: Path, tmp_path: Path, pack: Callable[[str, Path], Path]
) -> None:
    archive = pack(by_class, tmp_path / "set.bin")
    report = ingest(str(archive), target, group_pattern="(cat|dog)")
    assert [item.source for item in items(target)] == ["wrapped/cat/1.jpg", "wrapped/cat/2.png", "wrapped/dog/1.jpg"]
    assert report.classes == ("cat", "dog")
    assert [path.name for path in target.parent.iterdir()] == ["sources"]


def test_a_hostile_archive_leaves_nothing(tmp_path: Path, target: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a/good.jpg", jpeg())
        packed.writestr("../../evil.jpg", jpeg())
    with pytest.raises(DataError, match=r"x\.zip: the member '\.\./\.\./evil\.jpg' leads outside"):
        ingest(str(tmp_path / "x.zip"), target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "x.zip"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_archive_on_the_web(by_class: str, tmp_path: Path, target: Path, web: str) -> None:
    tarred(by_class, tmp_path / "set.tar.gz")
    report = ingest(web + "/set.tar.gz?token=s3cr3t", target)
    assert (report.image_count, report.classes) == (3, ("cat", "dog"))
    assert [path.name for path in target.parent.iterdir()] == ["sources"]
    assert "s3cr3t" not in json.dumps(read_manifest(target, "sources"))
    with pytest.raises(StorageError, match=r"/gone\.zip: expected files there, found none"):
        ingest(web + "/gone.zip", target.with_name("other"))
    assert [path.name for path in target.parent.iterdir()] == ["sources"]


def test_memory_does_not_grow_with_the_images(tmp_path: Path, target: Path) -> None:
    import tracemalloc

    data = jpeg(5, (400, 400))
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
