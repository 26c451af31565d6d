"""Dataset versions in an object store: push, pull, list, gc, and reading one where it lies.

Content-addressed: what two versions share is stored once (layout.py, packs.py, manifest.py say how).
"""

from visionyard.data.versions.layout import is_version_address
from visionyard.data.versions.push import PushReport, push
from visionyard.data.versions.remote import Extent, RemoteVersion, open_version

__all__ = [
    "Extent",
    "PushReport",
    "RemoteVersion",
    "is_version_address",
    "open_version",
    "push",
]
