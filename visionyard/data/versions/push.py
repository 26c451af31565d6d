"""Push a dataset version: what the store lacks is sent, then the manifest that makes it one.

No lock is taken. Packs and manifests are named by their content, so pushes at the same time cannot harm each other; a
push that dies leaves packs that no version names, which the next one finds and need not send again.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionyard import events, storage
from visionyard.data.versions.chunking import cut, page_lengths
from visionyard.data.versions.folder import LocalVersion, read_folder
from visionyard.data.versions.layout import CONDEMNED, manifest_address, parse_tag
from visionyard.data.versions.manifest import (
    Contents,
    FilePlan,
    Manifest,
    encode_manifest,
    place_blobs,
    sha256,
)
from visionyard.data.versions.packs import PackWriter, Place, item_key, list_packs, metadata_key, read_tables
from visionyard.data.versions.pages import deflate, encode_page, make_page
from visionyard.data.versions.references import write_tag
from visionyard.data.versions.remote import load_manifest
from visionyard.digests import sha256_file
from visionyard.errors import ArtifactError, StorageError

_TRY_COUNT = 3


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes:
        store: Address of the store.
        version: Id of the version.
        tag: The tag that names it now; empty: none.
        dataset_digest: The digest of the dataset.
        item_count: Items of the version.
        new_item_count: Items that the store did not have.
        size_bytes: Of the dataset on disk.
        sent_bytes: Stored by this push, with tables and manifest.
        object_count: Objects written by this push.
    """

    store: str
    version: str
    tag: str
    dataset_digest: str
    item_count: int
    new_item_count: int
    size_bytes: int
    sent_bytes: int
    object_count: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def push(
    folder: Path,
    store: str,
    *,
    tag: str = "",
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PushReport:
    """Push a dataset version to a store; called again it goes on where it was stopped.

    Args:
        folder: The dataset.
        store: A folder, `file://` or `s3://bucket/prefix`.
        tag: `name:tag` to give it; empty: none.
        on_progress: Called with the bytes of the dataset looked at, and all of them.

    Returns:
        What was sent.

    Raises:
        ConfigError: The tag is none.
        ArtifactError: The folder is no dataset, or damaged.
        StorageError: The store refused or timed out, or garbage collection took away what the push relied upon, time
            and again.
    """
    wanted_tag = parse_tag(tag) if tag else None
    local = read_folder(folder)
    sent = _Sent(local.size_bytes(), on_progress)
    for _ in range(_TRY_COUNT):
        manifest, new_item_count = _send_blobs(local, store, sent)
        if _are_there(store, manifest) and _publish(store, manifest, sent):
            break
    else:
        raise StorageError(f"{store}: packs vanish while they are relied upon; run `gc` with a longer grace period")
    if wanted_tag:
        write_tag(store, wanted_tag, manifest.version_id)
    sent.tell(sent.total)
    return PushReport(
        store=storage.shown(store),
        version=manifest.version_id,
        tag=str(wanted_tag or ""),
        dataset_digest=str(local.info.get("digest", "")),
        item_count=manifest.contents.item_count,
        new_item_count=new_item_count,
        size_bytes=sent.total,
        sent_bytes=sent.byte_count,
        object_count=sent.object_count,
    )


class _Sent:
    """What went out so far, told as progress over the bytes of the dataset looked at."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        self.total = total
        self.byte_count = 0
        self.object_count = 0
        self._on_progress = on_progress
        self._adding = threading.Lock()

    def add(self, size: int) -> None:
        """Count an object, from any thread."""
        with self._adding:
            self.byte_count += size
            self.object_count += 1

    def tell(self, done: int) -> None:
        """Tell how many bytes of the dataset were looked at."""
        events.progress(done, self.total, unit="byte", label=f"pushing, {self.byte_count} bytes sent")
        self._on_progress(done, self.total)


def _send_blobs(local: LocalVersion, store: str, sent: _Sent) -> tuple[Manifest, int]:
    """Send what the store lacks; return the manifest, and how many items were new."""
    condemned = list_condemned(store)
    packs = [(name, info.size) for name, info in list_packs(store).items() if name not in condemned]
    known, damaged = read_tables(store, packs)
    for name in damaged:
        events.warn(f"{storage.shown(store)}: pack {name} has no readable table; what it holds is sent again")
    avoided = set(condemned) | set(damaged)
    with (
        PackWriter(store, avoided=avoided, sent=sent.add) as writer,
        # Metadata goes in packs of its own, so that all pages of a version come with few reads.
        PackWriter(store, avoided=avoided, sent=sent.add) as metadata_writer,
    ):
        hashes, new_item_count = _add_items(local, known, writer, sent)
        writer.flush()  # the last items are on their way while the pages are made
        lengths, pages = _add_pages(local, hashes, known, metadata_writer)
        files, chunks = _add_files(local, known, metadata_writer)
    contents = Contents(
        dataset={name: local.info[name] for name in ("digest", "task", "classes", "item_counts") if name in local.info},
        schema=local.schema,
        row_group_rows=local.row_group_rows,
        shards=local.shards,
        files=files,
        page_lengths=tuple(lengths),
        hashes=tuple(value.hex() for value in [*pages, *chunks]),
    )
    places = {**metadata_writer.places, **writer.places, **known}
    keys = [*map(item_key, hashes), *map(metadata_key, [*pages, *chunks])]
    return place_blobs(contents, [places[key] for key in keys]), new_item_count


def list_condemned(store: str) -> dict[str, storage.ObjectInfo]:
    """Return the tombstones of a store by the name of the pack: garbage collection is about to delete these.

    Raises:
        StorageError: The store refused or timed out.
    """
    return {info.key: info for info in storage.list_objects(storage.join(store, CONDEMNED))}


def _publish(store: str, manifest: Manifest, sent: _Sent) -> bool:
    """Make a version visible; return whether its packs are still there, however long this process was asleep."""
    if not _is_whole(store, manifest.version_id):
        content = encode_manifest(manifest)
        storage.write_bytes(manifest_address(store, manifest.version_id), content)
        sent.add(len(content))
    return _is_whole(store, manifest.version_id)


def _is_whole(store: str, version_id: str) -> bool:
    """Return whether the version is in the store with all its packs, perhaps other ones than those of this push."""
    if not storage.exists(manifest_address(store, version_id)):
        return False
    try:
        return _are_there(store, load_manifest(store, version_id))
    except ArtifactError:
        return False  # damaged: written anew


def _are_there(store: str, manifest: Manifest) -> bool:
    """Return whether all packs of a version are there to stay, seen just before it becomes visible."""
    condemned = list_condemned(store)
    there = list_packs(store)
    return all(pack in there and pack not in condemned for pack in manifest.packs)


def _add_items(
    local: LocalVersion, known: dict[bytes, Place], writer: PackWriter, sent: _Sent
) -> tuple[list[bytes], int]:
    hashes: list[bytes] = []
    new: set[bytes] = set()
    done = 0
    for data in local.items():
        value = sha256(data)
        key = item_key(value)
        hashes.append(value)
        if key not in known:
            new.add(key)
            writer.add(key, data)
        done += len(data)
        sent.tell(done)
    return hashes, len(new)


def _add_pages(
    local: LocalVersion, hashes: Sequence[bytes], known: dict[bytes, Place], writer: PackWriter
) -> tuple[list[int], list[bytes]]:
    lengths = page_lengths(hashes)
    contents = []
    first = 0
    for length in lengths:
        last = first + length
        page = make_page(local.table.slice(first, length), local.starts[first:last], list(hashes[first:last]))
        contents.append(encode_page(page))
        first = last
    return lengths, _add_metadata(contents, known, writer)


def _add_files(
    local: LocalVersion, known: dict[bytes, Place], writer: PackWriter
) -> tuple[tuple[FilePlan, ...], list[bytes]]:
    plans, hashes = [], []
    for path in local.files:
        with (local.folder / path).open("rb") as stream:
            chunks = _add_metadata(cut(stream), known, writer)
            plans.append(FilePlan(path, stream.tell(), sha256_file(local.folder / path), len(chunks)))
        hashes.extend(chunks)
    return tuple(plans), hashes


def _add_metadata(contents: Iterable[bytes], known: dict[bytes, Place], writer: PackWriter) -> list[bytes]:
    hashes = []
    for content in contents:
        value = sha256(content)
        hashes.append(value)
        if metadata_key(value) not in known:
            writer.add(metadata_key(value), deflate(content))
    return hashes
