"""What versions a store holds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from visionyard.data.versions.packs import THREADS
from visionyard.data.versions.references import list_tags, list_versions
from visionyard.data.versions.remote import load_manifest
from visionyard.storage import ObjectInfo


@dataclass(frozen=True)
class VersionInfo:
    """A version of a store.

    Attributes:
        version: Its id.
        tags: What names it, sorted.
        dataset_digest: The digest of the dataset.
        task: What can be learnt.
        classes: Names in the order of their ids.
        item_counts: Items by split.
        size_bytes: Of all it refers to; what versions share counts in each.
        pushed_at: When its manifest was written, ISO 8601 UTC.
    """

    version: str
    tags: tuple[str, ...]
    dataset_digest: str
    task: str
    classes: tuple[str, ...]
    item_counts: dict[str, int]
    size_bytes: int
    pushed_at: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def list_store(store: str) -> list[VersionInfo]:
    """Return the versions of a store, the newest last.

    Raises:
        ArtifactError: A manifest or a tag is damaged.
        StorageError: The store refused or timed out.
    """
    named: dict[str, list[str]] = {}
    for tag, version_id in list_tags(store).items():
        named.setdefault(version_id, []).append(str(tag))
    found = sorted(list_versions(store).items(), key=lambda entry: (entry[1].modified_s, entry[0]))

    def describe(entry: tuple[str, ObjectInfo]) -> VersionInfo:
        version_id, info = entry
        manifest = load_manifest(store, version_id)
        dataset = manifest.contents.dataset
        return VersionInfo(
            version=version_id,
            tags=tuple(sorted(named.get(version_id, []))),
            dataset_digest=str(dataset.get("digest", "")),
            task=str(dataset.get("task", "")),
            classes=tuple(dataset.get("classes", ())),
            item_counts=dict(dataset.get("item_counts", {})),
            size_bytes=int(manifest.sizes.sum()),
            pushed_at=datetime.fromtimestamp(info.modified_s, UTC).isoformat(timespec="seconds"),
        )

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(describe, found))  # whole manifests are in memory eight at a time only
