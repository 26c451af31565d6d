"""Approval by a person as data: an object in the store that names a bundle, who approved it, and when.

`<store>/approvals/<bundle digest>.json`. No pod waits for it: a run that needs it ends, saying so, and the next one
goes on from its cached stages.
"""

import json
from dataclasses import asdict, dataclass

from visionyard.errors import ConfigError, StorageError
from visionyard.storage import exists, join, read_bytes, write_bytes

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Approval:
    """Who let which bundle pass.

    Attributes:
        bundle_digest: 64 hex digits.
        by: Who.
        when: In ISO 8601, UTC.
        comment: Why, in their words.
    """

    bundle_digest: str
    by: str
    when: str
    comment: str = ""


def approve(store: str, approval: Approval) -> str:
    """Write an approval and return its address; a later one for the same bundle replaces it.

    Args:
        store: Folder or s3:// prefix, as in promotion.store.
        approval: What to write.

    Raises:
        ConfigError: It names nobody, or no digest.
        StorageError: The store refused or timed out.
    """
    digest = approval.bundle_digest
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ConfigError(f"{digest!r}: expected the digest of a bundle, 64 hex digits")
    if not approval.by.strip():
        raise ConfigError("an approval names who gives it; say --by NAME")
    address = _address(store, digest)
    content = {"schema_version": SCHEMA_VERSION, **asdict(approval)}
    write_bytes(address, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return address


def find_approval(store: str, bundle_digest: str) -> Approval | None:
    """Return the approval of a bundle, or None.

    Raises:
        StorageError: The store refused or timed out, or the object is no approval of this bundle.
    """
    address = _address(store, bundle_digest)
    if not exists(address):
        return None
    try:
        values = json.loads(read_bytes(address))
        version = values.pop("schema_version")
        approval = Approval(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StorageError(f"{address}: not an approval; remove it and approve the bundle again") from None
    if version != SCHEMA_VERSION or approval.bundle_digest != bundle_digest or not approval.by.strip():
        raise StorageError(
            f"{address}: expected schema_version {SCHEMA_VERSION}, the digest {bundle_digest[:12]} and a name; approve "
            "the bundle again"
        )
    return approval


def _address(store: str, bundle_digest: str) -> str:
    if not store:
        raise ConfigError("promotion.store is empty; approvals need a folder or an s3:// prefix that runs can read")
    return join(join(store, "approvals"), f"{bundle_digest}.json")
