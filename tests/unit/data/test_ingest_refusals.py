"""Sources that cannot be brought in leave nothing behind."""

import errno
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.source_files import photo, write
from visionyard.data.ingest import ingest
from visionyard.data.shards import ShardWriter
from visionyard.errors import ConfigError, DataError, StorageError


@pytest.mark.parametrize(
    ("files", "kind", "error", "match"),
    [
        ({"a/x.jpg": b"", "b/y.jpg": b"text"}, "images_by_class", DataError, r"found 0 images and no class folder"),
        ({"a/x.jpg": photo()[:400], "b/y.jpg": b"\xff\xd8\xff"}, "auto", DataError,
         r"src: nothing usable; expected a folder of images for each class.*problems: a/x\.jpg: the image cannot be"),
        ({"a/x.jpg": photo()}, "images_yolo", DataError, "src: no data.yaml with class names"),
        ({"x.bin": b"\1\2"}, "auto", DataError, "src: the layout is not recognised"),
        ({"a/x.jpg": photo()}, "images_x", ConfigError, "data.kind = 'images_x'"),
        ({"a.jpg": photo(), "a.xml": "<!DOCTYPE a><annotation/>"}, "auto", DataError, "a.xml: refused"),
    ],
    ids=["no images", "all broken", "no names", "unknown layout", "unknown kind", "hostile XML"],
)  # fmt: skip
def test_refusals(tmp_path: Path, files: dict[str, bytes | str], kind: Any, error: type[Exception], match: str) -> None:
    source = write(tmp_path / "src", files)
    with pytest.raises(error, match=match):
        ingest(source, tmp_path / "out", kind=kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_sources_that_are_no_folder(tmp_path: Path, target: Path) -> None:
    (tmp_path / "bare").mkdir()
    write(tmp_path, {"one.jpg": photo()})
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


def test_a_hostile_archive_leaves_nothing(tmp_path: Path, target: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a/good.jpg", photo())
        packed.writestr("../../evil.jpg", photo())
    with pytest.raises(DataError, match=r"x\.zip: the member '\.\./\.\./evil\.jpg' leads outside"):
        ingest(str(tmp_path / "x.zip"), target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "x.zip"]
