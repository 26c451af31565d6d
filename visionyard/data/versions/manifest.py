"""The manifest of a version: what it is made of, and where each part lies. Gzipped JSON, the one object that names it.

| field | meaning |
| --- | --- |
| schema_version, artifact | 1, `dataset_version` |
| dataset | digest, task, classes and item_counts of dataset.json, for a listing |
| schema, row_group_rows | Arrow schema of the index (base64) and how its rows were grouped; null without an index |
| shards | name, item_count, tail_bytes (zeros behind its last item) of each, in the order of the rows |
| files | path, size, sha256, chunk_count of each other file |
| page_lengths | rows of each page |
| hashes | SHA-256 of the pages, then of the chunks of the files |
| packs | names of the packs |
| sizes | stored bytes of each blob: the items in the order of the rows, the pages, the chunks |
| runs | pack number, offset, blob count: of blobs, in that order, that lie one behind another |

The id of a version is the SHA-256 over all but the last three, so it says what the version holds, not where. Any item
is found from the manifest alone (one request), so that its bytes arrive with the second.
"""

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from visionyard.data.versions.packs import Place
from visionyard.data.versions.pages import gunzip
from visionyard.digests import canonical_json, digest_of
from visionyard.errors import ArtifactError
from visionyard.storage.addresses import checked_key

_SCHEMA_VERSION = 1
_ARTIFACT = "dataset_version"


@dataclass(frozen=True)
class ShardPlan:
    """A shard: its items, one behind another, and then zeros."""

    name: str
    item_count: int
    tail_bytes: int


@dataclass(frozen=True)
class FilePlan:
    """A file that is no shard: its chunks, one behind another."""

    path: str
    size: int
    sha256: str
    chunk_count: int


@dataclass(frozen=True)
class Contents:
    """What a version holds, wherever it lies; the fields are those of the manifest."""

    dataset: dict[str, Any]
    schema: str | None
    row_group_rows: int | None
    shards: tuple[ShardPlan, ...]
    files: tuple[FilePlan, ...]
    page_lengths: tuple[int, ...]
    hashes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"schema_version": _SCHEMA_VERSION, "artifact": _ARTIFACT, **asdict(self)}

    @cached_property
    def version_id(self) -> str:
        """64 hex digits."""
        return digest_of(self.to_json())

    @property
    def item_count(self) -> int:
        """Items of all splits."""
        return sum(shard.item_count for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """A version and where its blobs lie: the items in the order of the rows, then the pages, then the chunks.

    Attributes:
        contents: What it holds.
        packs: Names of the packs.
        pack_numbers: (N,) int32, of each blob.
        offsets: (N,) int64, in its pack.
        sizes: (N,) int64 bytes, as stored.
    """

    contents: Contents
    packs: tuple[str, ...]
    pack_numbers: Any
    offsets: Any
    sizes: Any

    @property
    def version_id(self) -> str:
        """64 hex digits."""
        return self.contents.version_id


def place_blobs(contents: Contents, places: Sequence[Place]) -> Manifest:
    """Return the manifest of a version whose blobs lie at these places."""
    packs = tuple(sorted({place.pack for place in places}))
    numbers = {pack: number for number, pack in enumerate(packs)}
    return Manifest(
        contents,
        packs,
        np.array([numbers[place.pack] for place in places], np.int32),
        np.array([place.offset for place in places], np.int64),
        np.array([place.size for place in places], np.int64),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the stored form."""
    values = {
        **manifest.contents.to_json(),
        "packs": list(manifest.packs),
        "sizes": manifest.sizes.tolist(),
        "runs": _runs(manifest),
    }
    return gzip.compress(canonical_json(values).encode(), mtime=0)


def _runs(manifest: Manifest) -> list[list[int]]:
    if not len(manifest.sizes):
        return []
    ends = manifest.offsets + manifest.sizes
    follows = (manifest.pack_numbers[1:] == manifest.pack_numbers[:-1]) & (manifest.offsets[1:] == ends[:-1])
    first = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    counts = np.diff([*first, len(manifest.sizes)])
    columns = (manifest.pack_numbers[first], manifest.offsets[first], counts)
    return [[int(value) for value in run] for run in zip(*columns, strict=True)]


def decode_manifest(data: bytes, *, address: str, version_id: str) -> Manifest:
    """Read a manifest and hold it to the id it is stored under.

    Args:
        data: The stored form.
        address: Where it was read, for messages.
        version_id: What it must be the manifest of.

    Raises:
        ArtifactError: It is damaged, altered, or of an unknown version.
    """
    try:
        text = gunzip(data)
    except ArtifactError as error:
        raise ArtifactError(f"{address}: not a readable manifest ({error}); push the dataset again") from None
    try:
        values = json.loads(text)
        known = values["schema_version"]
        if known != _SCHEMA_VERSION:
            raise ArtifactError(
                f"{address}: schema_version {known!r} is not known, expected {_SCHEMA_VERSION}; use a newer Visionyard"
            )
        contents = _contents(values, address)
        manifest = _placed(contents, values)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtifactError(f"{address}: not a readable manifest ({error}); push the dataset again") from None
    if contents.version_id != version_id:
        raise ArtifactError(
            f"{address}: its content is that of version {contents.version_id}; the manifest was altered, push the "
            "dataset again"
        )
    return manifest


def _contents(values: dict[str, Any], address: str) -> Contents:
    contents = Contents(
        dataset=dict(values["dataset"]),
        schema=values["schema"],
        row_group_rows=values["row_group_rows"],
        shards=tuple(ShardPlan(**shard) for shard in values["shards"]),
        files=tuple(FilePlan(**file) for file in values["files"]),
        page_lengths=tuple(values["page_lengths"]),
        hashes=tuple(values["hashes"]),
    )
    for name in (*(shard.name for shard in contents.shards), *(file.path for file in contents.files)):
        checked_key(address, name)
    return contents


def _placed(contents: Contents, values: dict[str, Any]) -> Manifest:
    sizes = np.array(values["sizes"], np.int64)
    runs = np.array(values["runs"], np.int64).reshape(-1, 3)
    counts = runs[:, 2]
    expected = contents.item_count + len(contents.hashes)
    if len(sizes) != expected or counts.sum() != expected or sum(contents.page_lengths) != contents.item_count:
        raise ValueError(f"{len(sizes)} sizes, {counts.sum()} places and {contents.item_count} items do not fit")
    if len(contents.hashes) != len(contents.page_lengths) + sum(file.chunk_count for file in contents.files):
        raise ValueError("its hashes are not those of its pages and chunks")
    if runs.min(initial=0) < 0 or sizes.min(initial=0) < 0 or runs[:, 0].max(initial=-1) >= len(values["packs"]):
        raise ValueError("it places blobs outside its packs")
    before = np.cumsum(sizes) - sizes
    first = np.cumsum(counts) - counts
    offsets = before + np.repeat(runs[:, 1] - before[first], counts) if expected else before
    return Manifest(contents, tuple(values["packs"]), np.repeat(runs[:, 0], counts).astype(np.int32), offsets, sizes)


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of a blob, 32 bytes."""
    return hashlib.sha256(data).digest()
