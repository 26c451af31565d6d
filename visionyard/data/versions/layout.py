"""Where the parts of dataset versions lie in a store, and how a version is named.

versions/<id>.json.gz    the manifest of a version (manifest.py), written last: with it the version is there
packs/<sha256>.pack      items and metadata (packs.py), named by the SHA-256 of the whole object
tags/<name>/<tag>        the id of the version that the tag means now
condemned/<sha256>       empty: garbage collection deletes this pack a grace period from now (collect.py)

Manifests and packs are named by their content, so they never change and two pushes cannot disagree about one. A version
is named by `<name>:<tag>` or by its id, of which eight digits do, as `s3://bucket/datasets@cones:v2`.
"""

import re
from dataclasses import dataclass

from visionyard.errors import ConfigError
from visionyard.storage import join

VERSIONS = "versions"
PACKS = "packs"
TAGS = "tags"
CONDEMNED = "condemned"
MANIFEST_SUFFIX = ".json.gz"
PACK_SUFFIX = ".pack"

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_TAG = re.compile(rf"^({_NAME}):({_NAME})$")
_ID = re.compile(r"^[0-9a-f]{8,64}$")


@dataclass(frozen=True)
class Tag:
    """A name for a version that may later mean another, as `cones:v2`."""

    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


def parse_tag(text: str) -> Tag:
    """Return the tag that `name:tag` names.

    Raises:
        ConfigError: It is none.
    """
    match = _TAG.match(text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no name of a version: expected name:tag of letters, digits, '.', '_' and '-', "
            "such as cones:v2"
        )
    return Tag(match.group(1), match.group(2))


def is_reference(text: str) -> bool:
    """Return whether a text can name a version within a store: `name:tag`, or 8 to 64 hex digits."""
    return bool(_TAG.match(text) or _ID.match(text))


def is_version_address(address: str) -> bool:
    """Return whether an address ends in `@<name>:<tag>` or `@<id>`, as that of a version does; nothing is asked."""
    store, _, reference = address.rpartition("@")
    return bool(store) and is_reference(reference)


def split_address(address: str) -> tuple[str, str]:
    """Return the store and the reference of a version's address.

    Raises:
        ConfigError: It does not end in a reference.
    """
    if not is_version_address(address):
        raise ConfigError(
            f"{address}: names no version; expected <store>@<name>:<tag> or <store>@<id> (8 to 64 hex digits), such as "
            "s3://bucket/datasets@cones:v2; `visionyard dataset list` shows what is there"
        )
    store, _, reference = address.rpartition("@")
    return store, reference


def pack_address(store: str, pack: str) -> str:
    """Return where a pack lies."""
    return join(store, f"{PACKS}/{pack}{PACK_SUFFIX}")


def manifest_address(store: str, version_id: str) -> str:
    """Return where the manifest of a version lies."""
    return join(store, f"{VERSIONS}/{version_id}{MANIFEST_SUFFIX}")


def tag_address(store: str, tag: Tag) -> str:
    """Return where a tag lies."""
    return join(store, f"{TAGS}/{tag.name}/{tag.tag}")
