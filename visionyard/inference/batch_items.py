"""What a batch looks at: images and videos below addresses, and the items of dataset versions; listed, then loaded."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visionyard import storage
from visionyard.data.media import HEAD_BYTES, MEDIA_EXTENSIONS, sniff_media_type
from visionyard.errors import ConfigError, MediaError
from visionyard.inference.paths import Picture, open_pictures
from visionyard.transforms import decode_image

DATASET_FILES = ("dataset.json", "index.parquet")
_SHARDS = "shards"
# Objects up to this size are read in one request, whatever they are; larger ones go by way of a file.
_READ_WHOLE_BYTES = 64 << 20


@dataclass(frozen=True)
class BatchItem:
    """One image or video.

    Attributes:
        path: What the results call it.
        address: The file that holds its bytes; may be signed, hence never shown.
        version: Changes when the bytes do.
        size: Bytes.
        offset: Where they begin in the file; None when the file is the item.
        split: Of an item of a dataset version, else empty.
    """

    path: str
    address: str
    version: str
    size: int
    offset: int | None = None
    split: str = ""


def list_items(sources: Sequence[str]) -> list[BatchItem]:
    """Return all items of all sources, in the order of the sources and sorted within each.

    Args:
        sources: Paths or addresses of files, of folders, or of dataset versions.

    Raises:
        ConfigError: There is no image or video at an address.
        StorageError: A store refused or timed out.
    """
    items: list[BatchItem] = []
    for source in sources:
        listed = storage.list_objects(source)
        keys = {info.key for info in listed}
        if set(DATASET_FILES) <= keys:
            items += _dataset_items(source)
            continue
        is_file = storage.is_local(source) and storage.local_path(source).is_file()
        found = [
            BatchItem(
                path=source if is_file or info.address == source else storage.join(source, info.key),
                address=info.address,
                version=info.etag,
                size=info.size,
            )
            for info in listed
            if is_file or Path(info.key).suffix.lower() in MEDIA_EXTENSIONS
        ]
        if not found:
            raise ConfigError(f"{storage.shown(source)}: no image or video there; name files, a folder or a prefix")
        items += found
    return items


def _dataset_items(source: str) -> list[BatchItem]:
    from visionyard.data.dataset import Dataset

    with tempfile.TemporaryDirectory(prefix="visionyard-") as folder:
        for name in DATASET_FILES:
            storage.fetch_file(storage.join(source, name), Path(folder) / name)
        dataset = Dataset(Path(folder))
        return [
            BatchItem(
                path=storage.join(source, f"{split}/{sample.image_name}"),
                address=storage.join(source, f"{_SHARDS}/{sample.blob.shard}"),
                version=sample.sha256,
                size=sample.blob.size,
                offset=sample.blob.offset,
                split=split,
            )
            for split in ("train", "val", "test")
            for sample in dataset.samples(split)
        ]


def load_item(item: BatchItem, scratch: Path) -> "Picture | Path":
    """Return an image decoded, or the local file of a video.

    Args:
        item: What to load.
        scratch: Folder for a copy of a video from a store; the caller removes the copy.

    Raises:
        MediaError: It is neither, or cannot be decoded; names it.
        StorageError: The store refused or timed out.
    """
    local = storage.local_path(item.address) if item.offset is None and storage.is_local(item.address) else None
    if local is None and item.size <= _READ_WHOLE_BYTES:
        size = None if item.offset is None else item.size
        data = storage.read_bytes(item.address, offset=item.offset or 0, size=size)
    elif local is None:
        data = storage.read_bytes(item.address, offset=item.offset or 0, size=HEAD_BYTES)
    else:
        data = _head(local, item)
    media_type = sniff_media_type(data[:HEAD_BYTES]) or ""
    if media_type.startswith("video/"):
        return local or _copy_video(item, data, scratch)
    if not media_type.startswith("image/"):
        raise MediaError(f"{item.path}: expected an image or a video, its bytes are {media_type or 'of no known type'}")
    try:
        if local is not None:
            data = local.read_bytes()
        elif len(data) < item.size:
            data = storage.read_bytes(item.address)
        return Picture(None, None, decode_image(data))
    except OSError as error:
        raise MediaError(f"{item.path}: cannot be read: {error.strerror or error}") from None
    except MediaError as error:
        raise MediaError(f"{item.path}: {error}") from None


def _head(path: Path, item: BatchItem) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError as error:
        raise MediaError(f"{item.path}: cannot be read: {error.strerror or error}") from None


def _copy_video(item: BatchItem, data: bytes, scratch: Path) -> Path:
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=Path(item.path).suffix, delete=False) as stream:
        if len(data) == item.size:
            stream.write(data)
    path = Path(stream.name)
    if len(data) < item.size:
        storage.fetch_file(item.address, path)
    return path


def pictures_of(item: BatchItem, loaded: "Picture | Path", rate_hz: float) -> Iterator[Picture]:
    """Yield the image, or the video's frames; errors name the item as the results do.

    Raises:
        ConfigError: It is a video and PyAV is missing.
        MediaError: The video cannot be decoded.
    """
    if isinstance(loaded, Picture):
        yield loaded
        return
    if find_spec("av") is None:
        raise ConfigError(f"{item.path}: videos need PyAV; pip install 'visionyard[data]'")
    try:
        yield from open_pictures(loaded, rate_hz)
    except MediaError as error:
        raise MediaError(str(error).replace(str(loaded), item.path)) from None


def place_of(item: BatchItem, picture: Picture | None = None) -> dict[str, Any]:
    """Return the first values of a record: what it is about."""
    split = {"split": item.split} if item.split else {}
    return {"path": item.path, **split, **(picture.place() if picture else {})}
