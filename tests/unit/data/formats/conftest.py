"""Sources made of a few files, for the readers."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from visionyard.data.formats import SourceTree
from visionyard.data.items import Problems

Files = Mapping[str, bytes | str]


def _image(extension: str) -> bytes:
    stream = io.BytesIO()
    name = {".jpg": "JPEG", ".png": "PNG", ".gif": "GIF"}[extension]
    Image.new("RGB", (100, 50), (120, 60, 30)).save(stream, name)
    return stream.getvalue()


CONTENTS = {
    **{extension: _image(extension) for extension in (".jpg", ".png", ".gif")},
    ".mp4": b"\0\0\0\x18ftypisom" + bytes(64),
    ".avi": b"RIFF\0\0\0\0AVI " + bytes(64),
}


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[[Files], Path]:
    """Return a function that writes files: empty contents stand for a 100x50 image or a clip, by the extension."""

    def make(files: Files) -> Path:
        root = tmp_path / "source"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content or CONTENTS.get(path.suffix, b"")
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return root

    return make


@pytest.fixture
def scan(make_source: Callable[[Files], Path]) -> Callable[..., SourceTree]:
    """Return a function that writes files and lists them."""

    def scan_files(files: Files, problems: Problems | None = None) -> SourceTree:
        return SourceTree.scan(make_source(files), problems or Problems())

    return scan_files
