"""How samples lie in the store: per shard an archive that ingest reads, and a file of what is known of each image.

<uri>/<model>/<day>/<time>-<random>.tar     images with the model's answers as labels
<uri>/<model>/<day>/<time>-<random>.jsonl   a line an image: name, sha256, group, time, reason, model, prediction ...

A detector's archive is in YOLO layout (data.yaml, images/, labels/), a classifier's has a folder for each class. An
image is called `<group>--<first 16 digits of its SHA-256>`, so `data.group_pattern` = `GROUP_PATTERN` keeps groups
together. The labels are what the model answered: a first draft for a person to correct, not truth.
"""

import hashlib
import io
import json
import re
import secrets
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from visionyard import storage
from visionyard.atomic import atomic_folder
from visionyard.data.media import EXTENSIONS, HEAD_BYTES, sniff_media_type
from visionyard.errors import DataError
from visionyard.inference.paths import prediction_to_json
from visionyard.transforms import Classification, Detections, Prediction

GROUP_PATTERN = r"([^/]+)--[0-9a-f]{16}\."
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_DIGITS = 16


@dataclass(frozen=True)
class KeptImage:
    """An image on its way to the store.

    Attributes:
        data: The encoded file, or (H, W, 3) uint8 RGB.
        sha256: Of the file, or of the pixels.
        group: As the caller gave it; empty: the image's own.
        time: When it was asked about, UTC.
        reason: Why it is kept.
        prediction: The model's answer.
        width, height: Of the upright image, pixels.
    """

    data: bytes | np.ndarray
    sha256: str
    group: str
    time: datetime
    reason: str
    prediction: Prediction
    width: int
    height: int

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


def write_shard(uri: str, images: Sequence[KeptImage], *, model: str, digest: str, classes: Sequence[str]) -> str:
    """Write images as one archive and one file of lines.

    Args:
        uri: Folder or s3://bucket/prefix.
        images: At least one.
        model: Name of the model, a folder below `uri`.
        digest: SHA-256 of its bundle.
        classes: Names in the order of their ids; ids stand for those that are missing.

    Returns:
        The archive's address.

    Raises:
        StorageError: The store does not take it.
    """
    names = _class_names(classes, images)
    archive, lines = io.BytesIO(), []
    with tarfile.open(fileobj=archive, mode="w") as tar:
        if any(isinstance(image.prediction, Detections) for image in images):
            _add(tar, "data.yaml", json.dumps({"names": names}).encode(), images[0].time)
        for image in images:
            data = image.data if isinstance(image.data, bytes) else _png(image.data)
            name = _image_name(image, data, names)
            _add(tar, name, data, image.time)
            if isinstance(image.prediction, Detections):
                label = name.replace("images/", "labels/", 1).rsplit(".", 1)[0] + ".txt"
                _add(tar, label, _yolo_lines(image, image.prediction).encode(), image.time)
            lines.append(_line(image, name, data, model=model, digest=digest, classes=names))
    first = images[0].time
    stem = f"{plain_name(model)}/{first:%Y-%m-%d}/{first:%H%M%S}-{secrets.token_hex(4)}"
    # The lines last: where they are, the archive is whole.
    address = storage.join(uri, f"{stem}.tar")
    storage.write_bytes(address, archive.getvalue())
    storage.write_bytes(storage.join(uri, f"{stem}.jsonl"), "".join(lines).encode())
    return address


def gather_samples(uri: str, target: Path) -> int:
    """Unpack all shards of a model into one folder that `visionyard` ingests.

    Use it with `data.group_pattern` = `GROUP_PATTERN`. An image that stands in several shards is there once.

    Args:
        uri: `sampling.uri` and the model's name below it.
        target: A folder that is not there yet.

    Returns:
        The number of images.

    Raises:
        DataError: The folder exists, or there are no samples.
        StorageError: The place cannot be read.
    """
    if target.exists():
        raise DataError(f"{target}: exists already; name a new folder for the samples")
    keys = {info.key for info in storage.list_objects(uri)}
    stems = sorted(key.removesuffix(".jsonl") for key in keys if key.endswith(".jsonl"))
    names: set[str] = set()
    with atomic_folder(target) as work:
        for stem in stems:
            if f"{stem}.tar" not in keys:
                continue
            archive = storage.read_bytes(storage.join(uri, f"{stem}.tar"))
            lines = storage.read_bytes(storage.join(uri, f"{stem}.jsonl")).decode().splitlines()
            with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
                tar.extractall(work, filter="data")
            names.update(json.loads(line)["name"] for line in lines)
        if not names:
            raise DataError(f"{storage.shown(uri)}: no samples found; check sampling.uri, and that sampling was on")
    return len(names)


def plain_name(text: str) -> str:
    """Return a text as a file name of at most 64 plain characters; different texts stay different."""
    if _PLAIN.fullmatch(text):
        return text
    cleaned = _NOT_PLAIN.sub("_", text).strip("._-")[:40]
    return f"{cleaned or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _class_names(classes: Sequence[str], images: Sequence[KeptImage]) -> list[str]:
    count = len(classes)
    for image in images:
        if isinstance(image.prediction, Classification):
            count = max(count, len(image.prediction.probabilities))
        elif isinstance(image.prediction, Detections) and len(image.prediction):
            count = max(count, int(image.prediction.class_ids.max()) + 1)
    return [*classes, *(str(class_id) for class_id in range(len(classes), count))]


def _image_name(image: KeptImage, data: bytes, classes: Sequence[str]) -> str:
    extension = EXTENSIONS.get(sniff_media_type(data[:HEAD_BYTES]) or "", (".bin",))[0]
    short = image.sha256[:_NAME_DIGITS]
    name = f"{plain_name(image.group) if image.group else short}--{short}{extension}"
    if isinstance(image.prediction, Classification):
        return f"{plain_name(classes[image.prediction.class_id])}/{name}"
    return f"images/{name}"


def _yolo_lines(image: KeptImage, found: Detections) -> str:
    lines = []
    for class_id, (left, top, right, bottom) in zip(found.class_ids.tolist(), found.xyxy.tolist(), strict=True):
        centre = f"{(left + right) / 2 / image.width:.6f} {(top + bottom) / 2 / image.height:.6f}"
        size = f"{(right - left) / image.width:.6f} {(bottom - top) / image.height:.6f}"
        lines.append(f"{class_id} {centre} {size}\n")
    return "".join(lines)


def _line(image: KeptImage, name: str, data: bytes, *, model: str, digest: str, classes: Sequence[str]) -> str:
    values = {
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "group": image.group,
        "time": image.time.isoformat(),
        "reason": image.reason,
        "model": model,
        "model_digest": digest,
        "width": image.width,
        "height": image.height,
        "prediction": prediction_to_json(image.prediction, classes),
    }
    return json.dumps(values, ensure_ascii=False) + "\n"


def _png(image: np.ndarray) -> bytes:
    # Level 1: a third larger than the usual 6, and several times as fast.
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()


def _add(tar: tarfile.TarFile, name: str, data: bytes, time: datetime) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), int(time.timestamp())
    tar.addfile(info, io.BytesIO(data))
