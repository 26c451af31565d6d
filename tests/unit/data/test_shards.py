"""Shards: any tar reader opens them, any blob is one ranged read, and equal content is equal bytes."""

import tarfile
from pathlib import Path

import pytest

from visionyard.data.shards import Blob, ShardWriter, copy_blob, read_blob
from visionyard.digests import sha256_bytes
from visionyard.errors import ArtifactError

FILES = {
    "a.jpg": b"x" * 1000,
    "empty": b"",
    "block": b"b" * 512,
    "folder/é.json": b"{}",
    "long-" + "n" * 150 + ".png": b"png",
    "large": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("shard_bytes", [1, 2048, 1 << 20], ids=["a shard a file", "small", "one shard"])
def test_blobs_and_tar_entries_are_the_files(tmp_path: Path, shard_bytes: int) -> None:
    with ShardWriter(tmp_path, "part", shard_bytes=shard_bytes) as writer:
        blobs = {name: writer.add(name, data) for name, data in FILES.items()}
    for name, data in FILES.items():
        assert read_blob(tmp_path, blobs[name]) == data
    found: dict[str, bytes] = {}
    for path in sorted(tmp_path.iterdir()):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    assert found == FILES
    shards = sorted(path.name for path in tmp_path.iterdir())
    assert shards == [f"part-{number:05d}.tar" for number in range(writer.shard_count)]
    assert (len(shards) == 1) == (shard_bytes == 1 << 20)


def test_a_file_on_disk_is_copied(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"v" * 5000)
    with ShardWriter(tmp_path / "shards", "clips") as writer:
        writer.add("first", b"1")
        blob, sha256 = writer.add_file("film.mp4", tmp_path / "film.mp4")
    assert (blob.size, sha256) == (5000, sha256_bytes(b"v" * 5000))
    copy_blob(tmp_path / "shards", blob, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == b"v" * 5000


def test_a_large_blob_is_copied_in_pieces(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    with ShardWriter(tmp_path, "clips") as writer:
        blob = writer.add("film", data)
    copy_blob(tmp_path, blob, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_files_added_together_stand_in_one_shard(tmp_path: Path) -> None:
    pairs = []
    with ShardWriter(tmp_path, "train", shard_bytes=4096) as writer:
        for number in range(20):
            sample = [(f"{number}.jpg", b"x" * (number * 100)), (f"{number}.json", b"{}")]
            pairs.append(writer.add_together(sample))
    assert writer.shard_count > 3
    for number, (image, label) in enumerate(pairs):
        assert image.shard == label.shard
        assert read_blob(tmp_path, image) == b"x" * (number * 100)
        assert read_blob(tmp_path, label) == b"{}"


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        with ShardWriter(tmp_path / folder, "part") as writer:
            for name, data in FILES.items():
                writer.add(name, data)
    assert (tmp_path / "one" / "part-00000.tar").read_bytes() == (tmp_path / "two" / "part-00000.tar").read_bytes()
    with tarfile.open(tmp_path / "one" / "part-00000.tar") as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar.getmembers()} == {(0, 0, "")}


def test_nothing_written_makes_no_shard(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards", "part") as writer:
        pass
    assert writer.shard_count == 0
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"part-00007\.tar: the shard is missing"):
        read_blob(tmp_path, Blob("part-00007.tar", 0, 10))


def test_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "part") as writer:
        blob = writer.add("file", b"x" * 1000)
    path = tmp_path / blob.shard
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ArtifactError, match=r"expected 1000 bytes at 512, got 88; the shard was cut short"):
        read_blob(tmp_path, blob)
    with pytest.raises(ArtifactError, match="cut short"):
        copy_blob(tmp_path, blob, tmp_path / "copy")
