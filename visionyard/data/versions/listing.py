"""What versions a store holds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from visionyard.data.versions.packs import THREADS
from visionyard.data.versions.references import list_tags, list_versions
from visionyard.data.versions.remote import load_manifest


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
    with ThreadPoolExecutor(THREADS) as pool:
        manifests = pool.map(lambda entry: load_manifest(store, entry[0]), found)
        return [
            VersionInfo(
                version=version_id,
                tags=tuple(sorted(named.get(version_id, []))),
                dataset_digest=str(manifest.contents.dataset.get("digest", "")),
                task=str(manifest.contents.dataset.get("task", "")),
                classes=tuple(manifest.contents.dataset.get("classes", ())),
                item_counts=dict(manifest.contents.dataset.get("item_counts", {})),
                size_bytes=int(manifest.sizes.sum()),
                pushed_at=datetime.fromtimestamp(info.modified_s, UTC).isoformat(timespec="seconds"),
            )
            for (version_id, info), manifest in zip(found, manifests, strict=True)
        ]
