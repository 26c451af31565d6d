"""What is true of files and folders alone."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contents
from visionyard import storage
from visionyard.atomic import partial_path
from visionyard.errors import StorageError
from visionyard.storage import local


def test_a_digest_ignores_file_times(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_bytes(b"alpha")
    (tmp_path / "deep" / "b.txt").write_bytes(b"beta")
    before = storage.source_digest(str(tmp_path))
    os.utime(tmp_path / "a.txt", (0, 0))
    assert storage.source_digest(str(tmp_path)) == before
    (tmp_path / "a.txt").rename(tmp_path / "z.txt")
    assert storage.source_digest(str(tmp_path)) != before
    assert storage.source_digest(str(tmp_path / "z.txt")) == hashlib.sha256(b"alpha").hexdigest()


def test_a_file_that_goes_while_a_folder_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_bytes(b"x")
    monkeypatch.setattr(local, "walk_files", lambda folder: iter([folder / "gone.partial", folder / "there"]))
    assert [info.key for info in storage.list_objects(str(tmp_path))] == ["there"]


def test_a_folder_that_goes_while_another_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    scandir = os.scandir

    def scan(folder: Any) -> Any:
        if not isinstance(folder, int) and Path(folder).name == "b":
            shutil.rmtree(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert [info.key for info in storage.list_objects(str(tmp_path))] == ["a/file", "c/file"]
    with pytest.raises(StorageError, match="gone: no such file or folder"):
        list(local.walk_files(tmp_path / "gone"))


def test_unfinished_files_are_neither_digested_nor_sent(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "whole").write_bytes(b"x")
    before = storage.source_digest(str(folder))
    partial_path(folder / "deep" / "half").write_bytes(b"x")
    (folder / ".shards.partial").mkdir()
    (folder / ".shards.partial" / "first").write_bytes(b"x")
    assert storage.source_digest(str(folder)) == before
    storage.upload_folder(folder, str(tmp_path / "sent"))
    storage.fetch_folder(str(folder), tmp_path / "fetched")
    assert contents(tmp_path / "sent") == contents(tmp_path / "fetched") == {"deep/whole": b"x"}
