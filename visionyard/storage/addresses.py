"""Addresses: what kind they are, how they are joined, and how they are shown without their secrets."""

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from visionyard.errors import StorageError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_UNSAFE_NAME = re.compile(r"[^\w.-]+")


def scheme_of(address: str) -> str:
    """Return `file`, `s3`, `http` or `https`; a plain path is `file`.

    Raises:
        StorageError: The address is empty or of another scheme.
    """
    if not address.strip():
        raise StorageError("the address is empty; expected a path, s3://bucket/prefix, file:// or http(s):// address")
    match = _SCHEME.match(address)
    scheme = match.group(1).lower() if match else "file"
    if scheme not in {"file", "s3", "http", "https"}:
        raise StorageError(f"{shown(address)}: expected a path, s3://bucket/prefix, file:// or http(s):// address")
    return scheme


def is_local(address: str) -> bool:
    """Return whether an address is a path of this machine."""
    return scheme_of(address) == "file"


def local_path(address: str) -> Path:
    """Return the path of a local address; `~` is the home folder.

    Raises:
        StorageError: A `file://` address names another host.
    """
    if not _SCHEME.match(address):
        return Path(address).expanduser()
    parts = urlsplit(address)
    if parts.netloc not in {"", "localhost"}:
        raise StorageError(f"{address}: names the host {parts.netloc!r}; expected file:///absolute/path")
    return Path(unquote(parts.path))


def join(address: str, key: str) -> str:
    """Return the address of `key` below `address`; a `file://` address is escaped as such addresses are."""
    if not key:
        return address
    return f"{address.rstrip('/')}/{quote(key) if address.startswith('file://') else key}"


def shown(address: str) -> str:
    """Return an address fit for a message: without user, password, query and fragment, which may hold secrets."""
    if not address.lower().startswith(("http://", "https://")):
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_name_of(address: str) -> str:
    """Return a safe file name for what lies at an address: its last part, without anything a shell or path minds."""
    path = urlsplit(address).path if address.lower().startswith(("http://", "https://")) else address
    name = unquote(path.rstrip("/").rpartition("/")[2])
    return _UNSAFE_NAME.sub("_", name).lstrip(".") or "download"


def checked_key(address: str, key: str) -> str:
    """Return a listed key that is safe as a relative path.

    Raises:
        StorageError: The key would lead outside the folder it is written to.
    """
    parts = key.split("/")
    if key.startswith("/") or "\0" in key or any(part in {"..", ".", ""} for part in parts):
        raise StorageError(
            f"{shown(address)}: the key {key!r} is no path below a folder (it is absolute or has an empty, '.' or "
            "'..' part); rename the object"
        )
    return key
