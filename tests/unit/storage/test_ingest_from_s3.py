"""Ingesting from a bucket: as good as the folder, and going on where an interrupted try stopped."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard import storage
from visionyard.data.ingest import ingest
from visionyard.errors import PreemptedError, StorageError
from visionyard.storage.s3 import S3Store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 7, 3), number, np.uint8)).save(path)
    return tmp_path / "photos"


def test_a_bucket_is_as_good_as_its_folder(s3: str, photos: Path, tmp_path: Path) -> None:
    storage.upload_folder(photos, s3 + "/set")
    report = ingest(s3 + "/set", tmp_path / "out" / "sources")
    assert report == ingest(str(photos), tmp_path / "local")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sources"]


def test_a_try_that_was_stopped_is_gone_on_with(
    s3: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.upload_folder(photos, s3)
    fetched: list[str] = []

    def counting(stop_after: int) -> Callable[..., Any]:
        def fetch_counted(self: S3Store, target: Path, arrived: Callable[[int], None]) -> None:
            if len(fetched) >= stop_after:
                raise PreemptedError("received SIGTERM")
            fetched.append(target.name)
            fetch(self, target, arrived)

        return fetch_counted

    fetch = S3Store.fetch
    monkeypatch.setattr(S3Store, "fetch", counting(5))
    with pytest.raises(PreemptedError):
        ingest(s3, tmp_path / "out" / "sources")
    first_count = len(fetched)
    assert 5 <= first_count < 12
    monkeypatch.setattr(S3Store, "fetch", counting(100))
    assert ingest(s3, tmp_path / "out" / "sources").image_count == 12
    assert len(fetched) == 12
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sources"]


def test_what_another_source_left_is_not_taken(s3: str, photos: Path, tmp_path: Path) -> None:
    storage.upload_folder(photos, s3 + "/set")
    stale = tmp_path / ".sources.fetched" / "a" / "stale.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes((photos / "a" / "0.png").read_bytes())
    assert ingest(s3 + "/set", tmp_path / "sources").image_count == 12


def test_a_lacking_bucket_leaves_nothing(s3: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/set at .*: there is no such bucket"):
        ingest("s3://no-such-bucket/set", tmp_path / "sources")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_in_a_bucket(s3: str, photos: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        packed.add(photos, "photos")
    storage.write_bytes(s3 + "/sets/photos.tar.gz", stream.getvalue())
    assert ingest(s3 + "/sets/photos.tar.gz", tmp_path / "sources").image_count == 12
