"""Bundles in the object store: each under its digest, written once."""

from pathlib import Path

from visionyard import storage
from visionyard.cluster.deploy.record import Served
from visionyard.inference.bundle import MANIFEST, Bundle


def put_bundle(folder: Path, store_uri: str, model_format: str) -> Served:
    """Verify a bundle and copy it to `store_uri`/<digest>, unless it is there.

    The manifest is copied last, so that its presence says that all is there.

    Args:
        folder: The bundle.
        store_uri: A prefix.
        model_format: The format that will be served.

    Raises:
        ArtifactError: It is not a whole bundle.
        ConfigError: It lacks the format.
        StorageError: The store refused or timed out.
    """
    bundle = Bundle.open(folder)
    bundle.format_name(model_format)
    uri = storage.join(store_uri, bundle.digest)
    if not storage.exists(storage.join(uri, MANIFEST)):
        names = [*bundle.manifest.files, MANIFEST]
        for name in names:
            storage.upload_file(folder / name, storage.join(uri, name))
    return Served(digest=bundle.digest, uri=uri, format=model_format)
