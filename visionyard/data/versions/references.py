"""Which version a name means: tags, and ids of which the first digits do."""

from concurrent.futures import ThreadPoolExecutor

from visionyard import storage
from visionyard.data.versions.layout import (
    MANIFEST_SUFFIX,
    TAGS,
    VERSIONS,
    Tag,
    parse_tag,
    tag_address,
)
from visionyard.data.versions.packs import THREADS
from visionyard.errors import ArtifactError, ConfigError, StorageError

_ID_DIGITS = 64


def resolve(store: str, reference: str) -> str:
    """Return the id of the version that `name:tag` or the first digits of an id name.

    Raises:
        ConfigError: There is none, or several begin so.
        ArtifactError: The tag is damaged.
        StorageError: The store refused or timed out.
    """
    if ":" in reference:
        return read_tag(store, parse_tag(reference))
    if len(reference) == _ID_DIGITS:
        return reference
    found = [version_id for version_id in list_versions(store) if version_id.startswith(reference)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} versions begin so, give more digits" if found else "no version begins so"
    raise ConfigError(f"{storage.shown(store)}@{reference}: {problem}; `visionyard dataset list` shows what is there")


def list_versions(store: str) -> dict[str, storage.ObjectInfo]:
    """Return the manifests of a store by version id, sorted.

    Raises:
        StorageError: The store refused or timed out.
    """
    infos = storage.list_objects(storage.join(store, VERSIONS))
    named = {info.key.removesuffix(MANIFEST_SUFFIX): info for info in infos if info.key.endswith(MANIFEST_SUFFIX)}
    return {version_id: info for version_id, info in named.items() if len(version_id) == _ID_DIGITS}


def list_tags(store: str) -> dict[Tag, str]:
    """Return the version id of each tag, sorted by name and tag.

    Raises:
        StorageError: The store refused or timed out.
    """
    tags: list[Tag] = []
    for info in storage.list_objects(storage.join(store, TAGS)):
        name, _, tag = info.key.partition("/")
        if not name.startswith(".") and tag and not tag.startswith("."):
            tags.append(Tag(name, tag))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(tags, pool.map(lambda tag: read_tag(store, tag), tags), strict=True))


def read_tag(store: str, tag: Tag) -> str:
    """Return the version id that a tag means.

    Raises:
        ConfigError: There is no such tag.
        ArtifactError: The tag is damaged.
        StorageError: The store refused or timed out.
    """
    address = tag_address(store, tag)
    try:
        version_id = storage.read_bytes(address).decode("ascii", errors="replace").strip()
    except StorageError:
        if storage.exists(address):
            raise
        raise ConfigError(
            f"{storage.shown(store)} has no version {tag}; `visionyard dataset list` shows what is there"
        ) from None
    if len(version_id) != _ID_DIGITS or set(version_id) - set("0123456789abcdef"):
        raise ArtifactError(f"{address}: expected the id of a version, got {version_id[:80]!r}; set the tag again")
    return version_id


def write_tag(store: str, tag: Tag, version_id: str) -> None:
    """Let a tag mean a version, whatever it meant before.

    Raises:
        StorageError: The store refused or timed out.
    """
    storage.write_bytes(tag_address(store, tag), f"{version_id}\n".encode())
