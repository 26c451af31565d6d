"""Where data lives: folders and files, `s3://bucket/prefix`, and `http(s)://`; one set of functions for all of them.

A local path and a `file://` address work wherever an S3 address does, so checkpoints and bundles can live on either.
S3 takes its endpoint from AWS_ENDPOINT_URL or MINIO_ENDPOINT, its region from AWS_DEFAULT_REGION, its credentials from
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a mounted file or a role (s3_access.py lists them in order).
"""

from visionyard.storage.addresses import is_local, join, local_path, shown
from visionyard.storage.base import ObjectInfo, Store
from visionyard.storage.transfer import (
    delete,
    exists,
    fetch_file,
    fetch_folder,
    list_objects,
    open_store,
    read_bytes,
    source_digest,
    upload_file,
    upload_folder,
    write_bytes,
    writing,
)

__all__ = [
    "ObjectInfo",
    "Store",
    "delete",
    "exists",
    "fetch_file",
    "fetch_folder",
    "is_local",
    "join",
    "list_objects",
    "local_path",
    "open_store",
    "read_bytes",
    "shown",
    "source_digest",
    "upload_file",
    "upload_folder",
    "write_bytes",
    "writing",
]
