"""What is true of files and folders alone."""

import hashlib
import os
from pathlib import Path

import pytest

from visionyard import storage
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
