"""Listing a source: order, litter, links, and what is said of files that are not used."""

import os
from pathlib import Path
from typing import Any

import pytest

from visionyard.data.formats import SourceTree, source_tree
from visionyard.data.formats.source_tree import report_unused
from visionyard.data.items import Problems
from visionyard.errors import DataError, MediaError


def codes(problems: Problems) -> dict[str, str]:
    return {problem.file: problem.code for problem in problems.found}


def test_files_are_sorted_and_litter_is_passed_over(scan: Any) -> None:
    problems = Problems()
    tree = scan(
        {"b.jpg": "", "a/z.jpg": "", "a-b.jpg": "", ".DS_Store": "x", "__MACOSX/b.jpg": "", "Thumbs.db": "x"}, problems
    )
    assert [file.name for file in tree.files] == ["a-b.jpg", "a/z.jpg", "b.jpg"]
    assert problems.found == []


def test_links_are_followed_inside_only(make_source: Any, tmp_path: Path) -> None:
    root = make_source({"real/a.jpg": ""})
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8\xff")
    for name, goal in {
        "inside.jpg": "real/a.jpg",
        "outside.jpg": "../secret.jpg",
        "dangling.jpg": "nowhere",
        "loop": ".",
        "folder": "real",
    }.items():
        (root / name).symlink_to(goal)
    os.mkfifo(root / "pipe.jpg")
    problems = Problems()
    tree = SourceTree.scan(root, problems)
    assert [file.name for file in tree.files] == ["inside.jpg", "real/a.jpg"]
    assert codes(problems) == {
        "outside.jpg": "link_left_out",
        "dangling.jpg": "link_left_out",
        "loop": "link_left_out",
        "folder": "link_left_out",
        "pipe.jpg": "not_a_file",
    }


def test_a_name_that_is_not_utf8(make_source: Any) -> None:
    root = make_source({"a.jpg": ""})
    with open(os.fsencode(root) + b"/caf\xe9.jpg", "wb") as stream:  # noqa: PTH123 a name that Path cannot print
        stream.write(b"x")
    problems = Problems()
    assert [file.name for file in SourceTree.scan(root, problems).files] == ["a.jpg"]
    assert codes(problems) == {"caf\\xe9.jpg": "name_not_utf8"}


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "bare" / "deep").mkdir(parents=True)
    with pytest.raises(DataError, match="bare: the folder is empty"):
        SourceTree.scan(tmp_path / "bare", Problems())
    with pytest.raises(DataError, match="ghost: expected a folder or a file"):
        SourceTree.scan(tmp_path / "ghost", Problems())


HEIC = b"\0\0\0\x18ftypheic" + bytes(64)


@pytest.mark.parametrize(
    ("wants_clips", "name", "content", "code"),
    [
        pytest.param(False, "a.jpg", b"", None, id="image"),
        pytest.param(False, "a.gif", b"", None, id="GIF as image"),
        pytest.param(True, "a.gif", b"", None, id="GIF as clip"),
        pytest.param(True, "a.mp4", b"", None, id="clip"),
        pytest.param(False, "a.jpg", b"\x89PNG\r\n\x1a\n", "extension_differs", id="PNG called jpg"),
        pytest.param(True, "a.mp4", b"RIFF....AVI ", "extension_differs", id="AVI called mp4"),
        pytest.param(False, "a.mp4", b"", "not_an_image", id="clip among images"),
        pytest.param(True, "a.jpg", b"", "not_a_clip", id="image among clips"),
        pytest.param(True, "a.mp4", b"\xff\xd8\xff", "not_a_clip", id="JPEG called mp4"),
        pytest.param(False, "a.heic", HEIC, "unsupported_image", id="HEIC"),
        pytest.param(False, "a.jpg", b"hello", "not_media", id="text called jpg"),
        pytest.param(True, "a.mp4", b"PK\x03\x04", "not_media", id="zip called mp4"),
        pytest.param(False, "a.zip", b"PK\x03\x04", "archive_left_out", id="archive inside"),
        pytest.param(True, "a.mp3", b"ID3\x04", "sound_left_out", id="MP3"),
        pytest.param(True, "a.m4a", b"\0\0\0\x20ftypM4A ", "sound_left_out", id="M4A"),
        pytest.param(True, "a.mp4", b"\0\0\0\x20ftypM4A ", "sound_left_out", id="M4A called mp4"),
        pytest.param(False, "a.wav", b"RIFF....WAVEfmt ", "sound_left_out", id="WAV among images"),
        pytest.param(True, "a.m3u8", b"#EXTM3U\n#EXT-X-VERSION:3\n", "playlist_left_out", id="playlist"),
        pytest.param(False, "README.md", b"# hi", None, id="text"),
        pytest.param(False, "LICENSE", b"MIT", None, id="licence"),
    ],
)
def test_what_is_said_of_a_file(scan: Any, wants_clips: bool, name: str, content: bytes, code: str | None) -> None:
    problems = Problems()
    report_unused(scan({name: content}), problems, wants_clips=wants_clips)
    assert codes(problems) == ({name: code} if code else {})


def test_files_that_hold_images_are_passed_over(scan: Any) -> None:
    tree = scan({"a.gz": b"\x1f\x8b", "b.gz": b"\x1f\x8b"})
    problems = Problems()
    report_unused(tree, problems, wants_clips=False, is_container=lambda file: file.name == "a.gz")
    assert codes(problems) == {"b.gz": "archive_left_out"}


def test_one_file_is_a_source(make_source: Any) -> None:
    root = make_source({"a.jpg": b"", "b.jpg": b""})
    tree = SourceTree.scan(root / "b.jpg", Problems())
    assert [file.name for file in tree.files] == ["b.jpg"]
    assert tree.path("b.jpg") == root / "b.jpg"
    assert tree.label == "b.jpg"


def test_empty_files(make_source: Any) -> None:
    root = make_source({"note.txt": ""})
    (root / "a.mp4").touch()
    (root / "b.jpg").touch()
    problems = Problems()
    report_unused(SourceTree.scan(root, problems), problems, wants_clips=True)
    assert codes(problems) == {"a.mp4": "empty_file", "b.jpg": "empty_file"}


def test_an_image_that_is_too_large_or_gone_is_not_read(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = scan({"a.jpg": "", "b.png": ""})
    large, gone = tree.images()
    tree.path(gone.name).unlink()
    with pytest.raises(MediaError, match="it went away after the folder was listed"):
        tree.read_image(gone)
    assert tree.read_image(large) == tree.path("a.jpg").read_bytes()
    monkeypatch.setattr(source_tree, "MAX_IMAGE_BYTES", large.size - 1)
    with pytest.raises(MediaError, match=f"the file has {large.size} bytes, expected at most {large.size - 1}"):
        tree.read_image(large)
