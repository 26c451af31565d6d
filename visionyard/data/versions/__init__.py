"""Dataset versions in an object store: push, pull, list, gc, and reading one where it lies.

Content-addressed: what two versions share is stored once (layout.py, packs.py, manifest.py say how).
"""

from visionyard.data.versions.collect import CollectReport, collect
from visionyard.data.versions.layout import is_version_address
from visionyard.data.versions.listing import VersionInfo, list_store
from visionyard.data.versions.pull import PullReport, pull
from visionyard.data.versions.push import PushReport, push
from visionyard.data.versions.remote import RemoteVersion, open_version

__all__ = [
    "CollectReport",
    "PullReport",
    "PushReport",
    "RemoteVersion",
    "VersionInfo",
    "collect",
    "is_version_address",
    "list_store",
    "open_version",
    "pull",
    "push",
]
