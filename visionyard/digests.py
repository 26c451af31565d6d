"""Content digests: of bytes, files, folders, settings and of Visionyard's own code."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Return JSON whose text depends on content only: sorted keys, no spaces, NaN refused.

    Raises:
        ValueError: `value` holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value).encode())


def digest_of_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 over `lines` in the order given, each ended by a newline, without joining them in memory."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """Return the SHA-256 over the sorted relative paths and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_of_lines(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in files)


@cache
def code_digest() -> str:
    """Return the SHA-256 over Visionyard's own Python files, so that a cached result ends when the code changes.

    KFP's cache key holds the component's source but not the library it calls; this digest is a task input instead.
    """
    root = Path(__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in {".py", ".html", ".css", ".js"})
    return digest_of_lines(f"{path.relative_to(root).as_posix()} {sha256_file(path)}" for path in files)
