"""Garbage collection: delete the packs that no version refers to, safely beside pushes and without a lock.

A pack without a reference is first condemned: an empty object of its name says so. Pushes never rely on a condemned
pack, and look once more just before they make their version visible. It is deleted a grace period later, by a later
collection, which reads all manifests anew: a push that relied on the pack before it was condemned has ended since, and
its version holds the pack. Packs younger than the grace period are those of a push under way, or of one that was killed
and will go on; they are left alone.
"""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from visionyard import events, storage
from visionyard.atomic import is_leftover
from visionyard.data.versions.layout import CONDEMNED, manifest_address, pack_address, tag_address
from visionyard.data.versions.packs import THREADS, list_packs
from visionyard.data.versions.push import list_condemned
from visionyard.data.versions.references import list_tags, list_versions, resolve
from visionyard.data.versions.remote import load_manifest
from visionyard.storage.local import walk_files

GRACE_S = 24 * 3600.0


@dataclass
class CollectReport:
    """What a collection did, or would do.

    Attributes:
        is_dry: Nothing was changed.
        removed_versions: Versions asked to be removed.
        removed_tags: What named them.
        kept_pack_count: Packs that a version refers to.
        young_pack_count: Packs without a reference, younger than the grace period.
        leftover_count: Unfinished files of killed pushes to a folder, older than the grace period, that are deleted.
        condemned: Packs that will be deleted a grace period from now.
        deleted: Packs deleted.
        freed_bytes: Of the packs deleted.
        condemned_bytes: Of the packs condemned, now or before.
    """

    is_dry: bool
    removed_versions: list[str] = field(default_factory=list)
    removed_tags: list[str] = field(default_factory=list)
    kept_pack_count: int = 0
    young_pack_count: int = 0
    leftover_count: int = 0
    condemned: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    freed_bytes: int = 0
    condemned_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def collect(store: str, *, removed: Sequence[str] = (), is_dry: bool = True, grace_s: float = GRACE_S) -> CollectReport:
    """Remove versions that are named, and condemn or delete the packs that no version refers to.

    Args:
        store: Address of the store.
        removed: Versions to remove first, `name:tag` or an id; their tags go with them.
        is_dry: Change nothing, say what would be done.
        grace_s: How long a pack is condemned before it is deleted, and how old it must be; longer than any push takes.
            0 deletes at once: only where nobody pushes.

    Raises:
        ConfigError: There is no such version.
        ArtifactError: A manifest is damaged: what it refers to is not known, so nothing is deleted.
        StorageError: The store refused or timed out.
    """
    report = CollectReport(is_dry)
    packs, condemned = list_packs(store), list_condemned(store)
    packs_of = _packs_of(store, list_versions(store))
    referred = {pack for names in packs_of.values() for pack in names}
    for name in sorted(set(condemned) & (referred | (set(condemned) - set(packs)))):
        condemned.pop(name)
        if not is_dry:
            storage.delete(_tombstone(store, name))
    _remove_versions(store, removed, report)
    kept = {pack for version_id in packs_of.keys() - report.removed_versions for pack in packs_of[version_id]}
    report.kept_pack_count = len(kept & set(packs))
    due: list[str] = []
    for name in sorted(set(packs) - kept):
        if name in condemned and _age_s(condemned[name]) >= grace_s:
            due.append(name)
        elif _age_s(packs[name]) < grace_s:
            report.young_pack_count += 1
        elif name not in condemned:
            report.condemned.append(name)
            if not is_dry:
                storage.write_bytes(_tombstone(store, name), b"")
        if name in condemned or name in report.condemned:
            report.condemned_bytes += packs[name].size
    if grace_s <= 0:
        due, report.condemned = sorted({*due, *report.condemned}), []
    _delete(store, due, packs, set(packs_of), report)
    report.condemned_bytes -= report.freed_bytes
    _delete_leftovers(store, grace_s, report)
    return report


def _remove_versions(store: str, removed: Sequence[str], report: CollectReport) -> None:
    """Remove manifests and the tags that name them; tags first, so that none names what is not there."""
    report.removed_versions = sorted({resolve(store, reference) for reference in removed})
    for version_id in report.removed_versions:
        load_manifest(store, version_id)
    if not removed:
        return
    for tag, version_id in list_tags(store).items():
        if version_id in report.removed_versions:
            report.removed_tags.append(str(tag))
            if not report.is_dry:
                storage.delete(tag_address(store, tag))
    if not report.is_dry:
        for version_id in report.removed_versions:
            storage.delete(manifest_address(store, version_id))


def _delete(
    store: str, due: Sequence[str], packs: dict[str, storage.ObjectInfo], known: set[str], report: CollectReport
) -> None:
    """Delete packs that are due, less those that a version refers to which appeared in the meantime."""
    others = _packs_of(store, list_versions(store).keys() - known) if due else {}
    appeared = {pack for names in others.values() for pack in names}
    for done, name in enumerate(due, start=1):
        if name in appeared:
            continue
        report.deleted.append(name)
        report.freed_bytes += packs[name].size
        if not report.is_dry:
            storage.delete(pack_address(store, name))
            storage.delete(_tombstone(store, name))
        events.progress(done, len(due), unit="pack", label="deleting")


def _delete_leftovers(store: str, grace_s: float, report: CollectReport) -> None:
    if not storage.is_local(store) or not storage.local_path(store).is_dir():
        return
    for path in walk_files(storage.local_path(store), with_leftovers=True):
        with suppress(FileNotFoundError):  # another writer has finished it
            if is_leftover(path.name) and time.time() - path.stat().st_mtime >= grace_s:
                report.leftover_count += 1
                if not report.is_dry:
                    path.unlink()


def _packs_of(store: str, version_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the packs that each version refers to; of the manifests, eight are in memory at once."""
    ordered = sorted(version_ids)
    with ThreadPoolExecutor(THREADS) as pool:
        packs = pool.map(lambda version_id: load_manifest(store, version_id).packs, ordered)
        return dict(zip(ordered, packs, strict=True))


def _age_s(info: storage.ObjectInfo) -> float:
    """Return how long ago an object was written; 0 where the store does not say, so that nothing is deleted."""
    return time.time() - info.modified_s if info.modified_s else 0.0


def _tombstone(store: str, pack: str) -> str:
    return storage.join(store, f"{CONDEMNED}/{pack}")
