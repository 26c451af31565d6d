"""Retraining when there is new data, and only then: the watermark and the champion to start from.

`<store>/retrain/<model>/watermark.json` holds the digest of the source that was last trained on and judged. It moves
when there is a verdict, so a run that fails before is tried again by the next one, and so is one that waits for a
person's approval.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visionyard.errors import ConfigError, StorageError
from visionyard.storage import exists, join, read_bytes, source_digest, upload_file, write_bytes
from visionyard.tracking.registry import Registry
from visionyard.tracking.runs import URI_VARIABLE

SCHEMA_VERSION = 1
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class NewData:
    """Whether there is anything to train on.

    Attributes:
        decision: `train`, or `skip` when the source is as it was.
        reason: Why, for people.
        data_digest: Of the source as it is now.
        weights: Where the weights to start from lie; empty: from what model.weights says.
    """

    decision: Literal["train", "skip"]
    reason: str
    data_digest: str
    weights: str


def find_new_data(source: str, *, store: str, model: str, is_warm: bool = True, weights: str = "") -> NewData:
    """Compare the source with the watermark, and put the champion's weights where a training can read them.

    Args:
        source: Where the data is.
        store: Folder or s3:// prefix, as in promotion.store.
        model: Name of the registered model.
        is_warm: Start from the champion, when there is a registry and a champion in it.
        weights: What to start from otherwise.

    Raises:
        ConfigError: `store` or `model` is empty.
        StorageError: The source, the store or MLflow failed, or the watermark is damaged.
    """
    digest = source_digest(source)
    before = read_watermark(store, model)
    if before == digest:
        reason = f"{source} is as it was at the last retraining of {model}"
        return NewData("skip", reason, digest, weights)
    what = "has changed since the last retraining" if before else "has not been trained on yet"
    start = _champion_weights(store, model) if is_warm else ""
    words = "starting from the champion" if start else f"starting from {weights or 'scratch'}"
    return NewData("train", f"{source} {what} of {model}; {words}", digest, start or weights)


def read_watermark(store: str, model: str) -> str:
    """Return the digest of the source at the last retraining; empty before the first.

    Raises:
        StorageError: The store failed, or the watermark is damaged.
    """
    address = _address(store, model)
    if not exists(address):
        return ""
    try:
        values = json.loads(read_bytes(address))
        digest, version = str(values["data_digest"]), values["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{address}: not a watermark; remove it, and the next run trains again") from None
    if version != SCHEMA_VERSION:
        raise StorageError(f"{address}: schema_version {version!r} is not known, expected {SCHEMA_VERSION}; remove it")
    return digest


def move_watermark(store: str, model: str, data_digest: str, *, verdict: str) -> None:
    """Note that the data was trained on and judged.

    Args:
        store: As for `find_new_data`.
        model: Name of the registered model.
        data_digest: Of the source that was trained on.
        verdict: What came of it.

    Raises:
        StorageError: The store failed.
    """
    content = {"schema_version": SCHEMA_VERSION, "data_digest": data_digest, "verdict": verdict}
    write_bytes(_address(store, model), (json.dumps(content, indent=1) + "\n").encode())


def _champion_weights(store: str, model: str) -> str:
    """Copy the champion's checkpoint into the store, once, and return its address; empty without a champion."""
    if not os.environ.get(URI_VARIABLE):
        return ""
    registry = Registry(model)
    champion = registry.state().champion
    if champion is None:
        return ""
    address = join(store, f"retrain/{model}/weights/{champion.bundle_digest}.pt")
    if not exists(address):
        with tempfile.TemporaryDirectory(prefix="visionyard-warm-") as scratch:
            upload_file(registry.fetch(champion, "checkpoint", Path(scratch)) / _CHECKPOINT, address)
    return address


def _address(store: str, model: str) -> str:
    for name, value in (("promotion.store", store), ("promotion.model", model)):
        if not value:
            raise ConfigError(f"{name} is empty; retraining keeps its watermark there")
    return join(store, f"retrain/{model}/watermark.json")
