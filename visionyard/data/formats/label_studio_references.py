"""Which image a task of Label Studio means: of addresses, uploads, local files and plain names the path to look for."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from visionyard.data.media import MEDIA_EXTENSIONS

_IMAGE_KEYS = ("image", "img", "photo", "picture")
# An uploaded file gets eight digits of its hash before its name.
_UPLOAD_MARK = re.compile(r"^[0-9a-f]{8}-(?=.)")
_LOCAL_FILES = "/data/local-files"


def image_of_task(data: Mapping[str, Any]) -> str:
    """Return the path that a task's data name as their image; empty when they name none."""
    texts = {key: value.strip() for key, value in data.items() if isinstance(value, str) and value.strip()}
    named = [texts[key] for key in _IMAGE_KEYS if key in texts]
    paths = [path for path in (_path_of(text) for text in (*named, *texts.values())) if path]
    with_extension = [path for path in paths if PurePosixPath(path).suffix.lower() in MEDIA_EXTENSIONS]
    return next(iter([*with_extension, *(_path_of(text) for text in named)]), "")


def without_upload_mark(path: str) -> str:
    """Return a path without what an upload put before the file's name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + _UPLOAD_MARK.sub("", name)


def _path_of(text: str) -> str:
    if text.startswith("data:"):  # the image itself, in the task
        return ""
    try:
        address = urlsplit(text)
    except ValueError:
        return text
    if address.path.rstrip("/").endswith(_LOCAL_FILES):
        return parse_qs(address.query).get("d", [""])[0]
    if address.scheme and address.netloc:
        return unquote(address.path)
    # A plain name may hold what an address gives a meaning to.
    return unquote(text) if text.startswith("/data/") else text
