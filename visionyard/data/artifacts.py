"""The folders between the data stages: sources (from ingest), frames (from extract_frames), dataset versions.

Each holds a small JSON manifest with a schema version, JSON lines or Parquet with a row an item, and tar shards.

sources/   manifest.json, images.jsonl (Item a line), clips.jsonl (Clip a line), problems.jsonl, shards/
frames/    manifest.json, images.jsonl (Item a line), problems.jsonl, shards/
dataset/   dataset.json, index.parquet, problems.jsonl, shards/   (see visionyard.data.dataset)

A blob's shard is relative to the artifact's `shards/` folder.
"""

import json
from pathlib import Path
from typing import Any

from visionyard.data.items import Problem, read_json_lines
from visionyard.errors import ArtifactError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
IMAGES = "images.jsonl"
CLIPS = "clips.jsonl"
PROBLEMS = "problems.jsonl"
SHARDS = "shards"


def write_manifest(folder: Path, artifact: str, values: dict[str, Any], *, name: str = MANIFEST) -> None:
    """Write the manifest of an artifact folder.

    Args:
        folder: The artifact's working folder.
        artifact: What it is: `sources`, `frames`, `dataset`.
        values: Everything else; no clock, no host, no absolute path.
        name: File name of the manifest.
    """
    content = {"schema_version": SCHEMA_VERSION, "artifact": artifact, **values}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path, artifact: str, *, name: str = MANIFEST) -> dict[str, Any]:
    """Read and check the manifest of an artifact folder.

    Raises:
        ArtifactError: There is none, it is not JSON, of another kind or of an unknown schema version.
    """
    path = folder / name
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{folder}: expected a {artifact} folder with {name}, found none") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); run the stage that wrote it again") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: schema_version {version!r} is not known, expected {SCHEMA_VERSION}; use the Visionyard that "
            "wrote it, or run the stage again with this one"
        )
    if values.get("artifact") != artifact:
        raise ArtifactError(f"{path}: expected a {artifact} folder, got {values.get('artifact')!r}")
    return dict(values)


def read_problems(folder: Path) -> list[Problem]:
    """Return the problems that the stage wrote down, in its order; none when the file is absent."""
    path = folder / PROBLEMS
    return [Problem(**values) for values in read_json_lines(path)] if path.exists() else []
