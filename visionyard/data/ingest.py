"""Ingest: bring clips or labelled images from anywhere into a `sources` artifact, verified and hashed.

Every file is looked at: by its first bytes, whatever it is called; an image by decoding it. What cannot be used is left
out and listed in problems.jsonl. Images where decoders could disagree are stored as RGB PNG (`media.stored_image`), all
else byte for byte. Clips are only sniffed and hashed: a decoder that may crash belongs into another process.
"""

import os
import re
import shutil
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from visionyard import events, storage
from visionyard.atomic import atomic_folder
from visionyard.config.run_config import SourceKind
from visionyard.data.artifacts import CLIPS, IMAGES, PROBLEMS, SHARDS, write_manifest
from visionyard.data.formats import SourceClip, SourceFormat, SourceImage, SourceTree, choose_format
from visionyard.data.formats.archives import is_archive, unpack
from visionyard.data.formats.reading import checked_boxes
from visionyard.data.formats.source_tree import report_unused
from visionyard.data.items import Box, Clip, Item, Problems, read_json_lines, write_json_lines
from visionyard.data.media import EXTENSIONS, StoredImage, stored_image
from visionyard.data.shards import ShardWriter
from visionyard.digests import canonical_json, digest_of_lines, sha256_bytes, sha256_file
from visionyard.errors import ConfigError, DataError, MediaError

# Two threads keep two cores busy with decoding; four images each are in memory, so that neither waits for the disk.
DECODE_THREADS = 2
_WINDOW = 8
# The largest image that is decoded at all has 540 MB of pixels; a longer file is something else.
MAX_IMAGE_BYTES = 600 << 20
_KEY_LENGTH = 100
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9_-]+")
_SHOWN_PROBLEMS = 5
_Record = TypeVar("_Record", Item, Clip)


@dataclass(frozen=True)
class IngestReport:
    """What was brought in.

    Attributes:
        image_count: Images stored.
        clip_count: Clips stored.
        problem_count: Problems found; most of them left something out.
        total_bytes: Of the stored images and clips.
        kind: How the source was laid out.
        digest: Of the content: files, labels, groups and published splits.
        classes: Class names in the order of their ids.
    """

    image_count: int
    clip_count: int
    problem_count: int
    total_bytes: int
    kind: str
    digest: str
    classes: tuple[str, ...]

    def figures(self) -> dict[str, events.Figure]:
        """Return the figures of the stage, the key figure first."""
        counts = {"clip_count": self.clip_count, "image_count": self.image_count}
        present: dict[str, events.Figure] = {name: count for name, count in counts.items() if count}
        return {
            **present,
            "problem_count": self.problem_count,
            "class_count": len(self.classes),
            "total_bytes": self.total_bytes,
            "kind": self.kind,
        }

    def metadata(self) -> dict[str, Any]:
        """Return what the artifact's metadata says in the Kubeflow UI."""
        return {**self.figures(), "classes": ", ".join(self.classes), "digest": self.digest}


def ingest(source: str, target: Path, *, kind: SourceKind = "auto", group_pattern: str = "") -> IngestReport:
    """Bring a source in as a `sources` artifact.

    Args:
        source: Folder, archive or file: a path, s3://bucket/prefix or http(s) address.
        target: The artifact's folder; appears when all is done.
        kind: How the source is laid out; `auto` looks.
        group_pattern: Regular expression on an item's path within the source, whose first group names its group. Where
            it does not match, or is empty, a clip is a group and each image its own.

    Raises:
        ConfigError: The pattern is no regular expression or has no group.
        DataError: The source is empty, its layout is not recognised, an archive is refused, or nothing in it is usable.
        StorageError: The source cannot be fetched.
        OSError: The disk is full.
    """
    pattern = _group_pattern(group_pattern)
    problems = Problems()
    label = storage.shown(source)
    with _opened(source, target) as root:
        tree = SourceTree.scan(root, problems, label=label)
        source_format, evidence = choose_format(tree, kind)
        _require_space(target, tree.total_bytes)
        with atomic_folder(target) as work:
            packer = _Packer(work, pattern, problems)
            classes = packer.pack(tree, source_format)
            if not packer.counts[IMAGES] + packer.counts[CLIPS]:
                raise DataError(_nothing_usable(label, source_format, problems))
            report = packer.report(source_format.kind, classes)
            values = {
                "kind": source_format.kind,
                "kind_evidence": evidence,
                "task": source_format.task,
                "classes": classes,
                "digest": report.digest,
                "image_count": report.image_count,
                "clip_count": report.clip_count,
                "total_bytes": report.total_bytes,
                "problem_counts": problems.counts(),
                "group_pattern": group_pattern,
                "grouped_count": packer.grouped_count,
            }
            write_manifest(work, "sources", values)
    if group_pattern and not packer.grouped_count:
        events.warn(f"data.group_pattern = {group_pattern!r} matched none of the paths; each item is its own group")
    return report


def _group_pattern(text: str) -> re.Pattern[str] | None:
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"data.group_pattern = {text!r}: not a regular expression: {error}") from None
    if pattern.groups < 1:
        raise ConfigError(
            f"data.group_pattern = {text!r}: has no group; put parentheses around the part that names the group, "
            r"such as ^(.*)_frame\d+"
        )
    return pattern


@contextmanager
def _opened(source: str, target: Path) -> Iterator[Path]:
    """Yield a folder with the source's files: the source itself, or what was fetched and unpacked beside the target."""
    fetched = target.with_name(f".{target.name}.fetched")
    unpacked = target.with_name(f".{target.name}.unpacked")
    path = storage.local_path(source) if storage.is_local(source) else fetched
    if path is fetched:
        # What has arrived stays when the fetching fails or is killed: the next try goes on from there.
        storage.fetch_folder(source, fetched, mirror=True)
    try:
        archive = _archive_of(path, is_fetched=path is fetched)
        if archive is not None:
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir(parents=True)
            unpack(archive, unpacked)
            path = unpacked
        yield path
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        shutil.rmtree(fetched, ignore_errors=True)


def _archive_of(path: Path, *, is_fetched: bool) -> Path | None:
    """Return the archive that a source is; None when it is a folder of files."""
    if path.is_file():
        if not is_archive(path):
            raise DataError(f"{path}: expected a folder or an archive (zip, tar, tar.gz), got another file")
        return path
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; check data.source")
    files = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    is_one_file = len(files) == 1 and files[0].is_file()
    return files[0] if is_fetched and is_one_file and is_archive(files[0]) else None


def _require_space(target: Path, needed_bytes: int) -> None:
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise OSError(ENOSPC, f"{os.strerror(ENOSPC)} ({needed_bytes} bytes needed, {free_bytes} free)", str(folder))


def _nothing_usable(label: str, source_format: SourceFormat, problems: Problems) -> str:
    shown = "; ".join(f"{problem.file}: {problem.message}" for problem in problems.found[:_SHOWN_PROBLEMS])
    more = len(problems.found) - _SHOWN_PROBLEMS
    rest = f"; and {more} more" if more > 0 else ""
    return f"{label}: nothing usable; expected {source_format.expected}; problems: {shown or 'none noted'}{rest}"


class _Packer:
    """Writes items into shards and their index, one after another."""

    def __init__(self, work: Path, pattern: re.Pattern[str] | None, problems: Problems) -> None:
        self._work, self._pattern, self._problems = work, pattern, problems
        self._keys: set[str] = set()
        self._seen_classes: set[str] = set()
        self.counts = {IMAGES: 0, CLIPS: 0}
        self.total_bytes = 0
        self.grouped_count = 0

    def pack(self, tree: SourceTree, source_format: SourceFormat) -> list[str]:
        """Write shards, index and problems; return the classes in the order of their ids."""
        report_unused(tree, self._problems, wants_clips=source_format.takes_clips)
        reading = source_format.read(tree, self._problems)
        with ShardWriter(self._work / SHARDS, "clips" if source_format.takes_clips else "images") as shards:
            clips = (self._clip(tree, clip, shards) for clip in reading.clips)
            images = self._images(tree, reading.images, shards)
            total = reading.item_count
            clip_lines = (clip.to_json() for clip in _with_progress(clips, total, "clip"))
            self.counts[CLIPS] = write_json_lines(self._work / CLIPS, clip_lines)
            image_lines = (image.to_json() for image in _with_progress(images, total, "image"))
            self.counts[IMAGES] = write_json_lines(self._work / IMAGES, image_lines)
        found = sorted(self._problems.found, key=lambda problem: problem.file)
        write_json_lines(self._work / PROBLEMS, (problem.to_json() for problem in found))
        return sorted(self._seen_classes) if reading.classes is None else reading.classes

    def report(self, kind: str, classes: list[str]) -> IngestReport:
        """Return what was packed."""
        return IngestReport(
            image_count=self.counts[IMAGES],
            clip_count=self.counts[CLIPS],
            problem_count=len(self._problems.found),
            total_bytes=self.total_bytes,
            kind=kind,
            digest=digest_of_lines(self._content_lines(kind, classes)),
            classes=tuple(classes),
        )

    def _content_lines(self, kind: str, classes: list[str]) -> Iterator[str]:
        yield canonical_json({"kind": kind, "classes": classes})
        for name in (CLIPS, IMAGES):
            for record in read_json_lines(self._work / name):
                # Where the bytes lie is a matter of packing; what they are stands in the record's hash.
                yield canonical_json({key: value for key, value in record.items() if key != "blob"})

    def _clip(self, tree: SourceTree, clip: SourceClip, shards: ShardWriter) -> Clip:
        file = clip.file
        media_type = str(file.media_type)
        path = tree.path(file.name)
        blob = shards.add(self._key(file.name) + EXTENSIONS[media_type][0], path)
        self.total_bytes += blob.size
        self._seen_classes |= {clip.class_name} if clip.class_name is not None else set()
        self._seen_classes |= {track.class_name for track in clip.tracks or ()}
        return Clip(
            source=file.name,
            group=self._group(file.name),
            sha256=sha256_file(path),
            media_type=media_type,
            blob=blob,
            class_name=clip.class_name,
            tracks=clip.tracks,
            published_split=clip.published_split,
        )

    def _images(self, tree: SourceTree, images: Iterable[SourceImage], shards: ShardWriter) -> Iterator[Item]:
        for image, loaded in _loaded_in_order(tree, images):
            try:
                stored = loaded.result()
            except MediaError as error:
                self._problems.add("unreadable_image", image.file.name, f"{error}; left out")
                continue
            size_wh = (stored.width, stored.height)
            if image.labels and image.labels.size_wh not in {None, size_wh}:
                message = (
                    f"its boxes are for an image of {image.labels.size_wh} px, as displayed it has {size_wh}; left out"
                )
                self._problems.add("size_differs", image.labels.file, message)
                continue
            boxes = checked_boxes(image.labels, size_wh, self._problems) if image.labels else None
            yield self._item(image, stored, boxes, shards)

    def _item(
        self, image: SourceImage, stored: StoredImage, boxes: tuple[Box, ...] | None, shards: ShardWriter
    ) -> Item:
        name = image.file.name
        key = self._key(name)
        self.total_bytes += len(stored.data)
        self._seen_classes |= {image.class_name} if image.class_name is not None else set()
        self._seen_classes |= {box.class_name for box in boxes or ()}
        return Item(
            key=key,
            source=name,
            group=self._group(name),
            sha256=sha256_bytes(stored.data),
            width=stored.width,
            height=stored.height,
            blob=shards.add(key + stored.extension, stored.data),
            class_name=image.class_name,
            boxes=boxes,
            published_split=image.published_split,
        )

    def _key(self, name: str) -> str:
        """Return a unique key made from a path; one that another path has already, or that was cut, gets a hash."""
        stem = name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix) else name
        key = _NOT_IN_KEY.sub("-", stem).strip("-")
        if not key or len(key) > _KEY_LENGTH or key in self._keys:
            key = f"{key[:_KEY_LENGTH]}-{sha256_bytes(name.encode())[:12]}".lstrip("-")
        self._keys.add(key)
        return key

    def _group(self, name: str) -> str:
        match = self._pattern.search(name) if self._pattern else None
        if match is None or not match.group(1):
            return name
        self.grouped_count += 1
        return str(match.group(1))


def _with_progress(items: Iterable[_Record], total: int, unit: str) -> Iterator[_Record]:
    done = 0
    for done, item in enumerate(items, start=1):
        events.progress(done, total, unit=unit, label=item.source)
        yield item
    if done:
        events.progress(total, total, unit=unit, label="stored")


def _loaded_in_order(
    tree: SourceTree, images: Iterable[SourceImage]
) -> Iterator[tuple[SourceImage, "Future[StoredImage]"]]:
    """Read and decode images in two threads, a few ahead of the one that is yielded."""
    # Decoding switches Pillow's warnings off and on again, which two threads would do in each other's way.
    with warnings.catch_warnings(), ThreadPoolExecutor(DECODE_THREADS) as pool:
        warnings.simplefilter("ignore")
        window: deque[tuple[SourceImage, Future[StoredImage]]] = deque()
        try:
            for image in images:
                window.append((image, pool.submit(_load, tree, image)))
                if len(window) == _WINDOW:
                    yield window.popleft()
            while window:
                yield window.popleft()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _load(tree: SourceTree, image: SourceImage) -> StoredImage:
    if image.file.size > MAX_IMAGE_BYTES:
        raise MediaError(f"the file has {image.file.size} bytes, expected at most {MAX_IMAGE_BYTES}")
    return stored_image(image.data() if image.data else tree.path(image.file.name).read_bytes())
