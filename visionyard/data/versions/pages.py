"""Pages: the rows of the index, some thirty together, with the hash of each item's bytes.

A page is a function of the content of its items alone: it holds neither the shard nor the place in it, since both
change for every later item when one is added. Offsets are counted from where the item begins; the index is put together
again from the pages and the sizes of the items.
"""

import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionyard.digests import canonical_json
from visionyard.errors import ArtifactError

SHARD_COLUMN = "shard"
_OFFSET_SUFFIX = "_offset"
# A page of the most rows with many boxes and masks, and the manifest of fifty million items, are below; a stream that
# grows beyond is an attack.
_MOST_BYTES = 512 << 20
_GZIP_WINDOW = 31


@dataclass(frozen=True)
class Page:
    """Rows of the index and the items they are of.

    Attributes:
        columns: Values by column, without the shard; offsets from the beginning of the item.
        hashes: SHA-256 of the bytes of each item.
    """

    columns: dict[str, list[Any]]
    hashes: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.hashes)


def offset_columns(names: list[str]) -> list[str]:
    """Return the columns that say where in its shard a part of an item lies."""
    return [name for name in names if name.endswith(_OFFSET_SUFFIX)]


def make_page(rows: Any, starts: Any, hashes: list[bytes]) -> Page:
    """Make a page of some rows.

    Args:
        rows: pyarrow.Table, a slice of the index.
        starts: (N,) int64, where each item begins in its shard.
        hashes: SHA-256 of each item.
    """
    columns = rows.drop_columns([SHARD_COLUMN]).to_pydict()
    for name in offset_columns(list(columns)):
        columns[name] = [
            None if value is None else value - int(start) for value, start in zip(columns[name], starts, strict=True)
        ]
    return Page(columns, tuple(hashes))


def restore_columns(page: Page, starts: Any, shards: list[str]) -> dict[str, list[Any]]:
    """Return the columns of the index for a page whose items begin at `starts` in `shards`."""
    columns = dict(page.columns)
    for name in offset_columns(list(columns)):
        columns[name] = [
            None if value is None else value + int(start) for value, start in zip(columns[name], starts, strict=True)
        ]
    return {**columns, SHARD_COLUMN: shards}


def encode_page(page: Page) -> bytes:
    """Return the content of a page, the same bytes for the same rows.

    Raises:
        ArtifactError: A column holds what JSON cannot.
    """
    try:
        return canonical_json({"columns": page.columns, "items": [value.hex() for value in page.hashes]}).encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"index.parquet: a row cannot be kept ({error}); run prepare_dataset again") from None


def decode_page(data: bytes) -> Page:
    """Return the page of a content that was verified."""
    values = json.loads(data)
    return Page(values["columns"], tuple(bytes.fromhex(value) for value in values["items"]))


def deflate(data: bytes) -> bytes:
    """Return metadata as it is stored; it is named by its hash from before, so the level may change."""
    return zlib.compress(data, 6)


def gunzip(data: bytes) -> bytes:
    """Return the content of a gzip file; raises as `inflate`."""
    return inflate(data, window=_GZIP_WINDOW)


def inflate(data: bytes, *, window: int = zlib.MAX_WBITS) -> bytes:
    """Return metadata from its stored form.

    Raises:
        ArtifactError: It is none, or larger than metadata ever is.
    """
    stream = zlib.decompressobj(window)
    try:
        content = stream.decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise ArtifactError(f"not deflated metadata: {error}") from None
    if not stream.eof:
        raise ArtifactError(f"cut short, or larger than {_MOST_BYTES} bytes")
    return content


def item_starts(sizes: Any, item_counts: list[int]) -> Any:
    """Return where each item begins in its shard, (N,) int64.

    Args:
        sizes: (N,) int64 bytes of the items.
        item_counts: How many items each shard has, in order; N in all.
    """
    ends = np.cumsum(sizes)
    starts = ends - sizes
    first = np.cumsum([0, *item_counts])[:-1]
    return starts - np.repeat(starts[first] if len(starts) else starts, item_counts)
