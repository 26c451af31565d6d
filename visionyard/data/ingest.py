"""Ingest: bring clips or labelled images from anywhere into a `sources` artifact, verified and hashed.

Every file is looked at: by its first bytes, whatever it is called; an image by decoding it. What cannot be used is left
out and listed in problems.jsonl. Images where decoders could disagree are stored as RGB PNG (`media.stored_image`), all
else byte for byte. Clips are only sniffed and hashed: a decoder that may crash belongs into another process.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
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
from visionyard.data.formats.reading import ImageLabels, Reading, checked_boxes
from visionyard.data.formats.source_tree import report_unused
from visionyard.data.image_loading import LoadedImage, loaded_in_order
from visionyard.data.items import Box, Clip, Item, Problems, read_json_lines, write_json_lines
from visionyard.data.media import EXTENSIONS, StoredImage, warn_of_nothing_hidden
from visionyard.data.shards import ShardWriter
from visionyard.data.tables.ingest import KIND as TABLE_KIND
from visionyard.data.tables.ingest import TableIngestReport, ingest_table
from visionyard.digests import canonical_json, digest_of_lines, sha256_bytes
from visionyard.errors import ConfigError, DataError, MediaError
from visionyard.video.retouching import Retouch, Retouching

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
        total_bytes: Of the stored images, their semantic masks, and clips.
        kind: How the source was laid out.
        digest: Of the content: files, labels, groups and published splits.
        classes: Class names in the order of their ids.
        anonymized_count: Images in which something was hidden.
        hidden_count: Regions hidden in them.
    """

    image_count: int
    clip_count: int
    problem_count: int
    total_bytes: int
    kind: str
    digest: str
    classes: tuple[str, ...]
    anonymized_count: int = 0
    hidden_count: int = 0

    def figures(self) -> dict[str, events.Figure]:
        """Return the figures of the stage, the key figure first."""
        counts = {"clip_count": self.clip_count, "image_count": self.image_count}
        present: dict[str, events.Figure] = {name: count for name, count in counts.items() if count}
        hidden = {"anonymized_count": self.anonymized_count, "hidden_count": self.hidden_count}
        return {
            **present,
            **(hidden if self.hidden_count else {}),
            "problem_count": self.problem_count,
            "class_count": len(self.classes),
            "total_bytes": self.total_bytes,
            "kind": self.kind,
        }

    def metadata(self) -> dict[str, Any]:
        """Return what the artifact's metadata says in the Kubeflow UI."""
        return {**self.figures(), "classes": ", ".join(self.classes), "digest": self.digest}


def ingest(
    source: str,
    target: Path,
    *,
    kind: SourceKind = "auto",
    group_pattern: str = "",
    target_column: str = "",
    retouching: Retouching | None = None,
) -> IngestReport | TableIngestReport:
    """Bring a source in as a `sources` artifact.

    Args:
        source: Folder, archive or a file with many images or rows: a path, s3://bucket/prefix or http(s) address.
        target: The artifact's folder; appears when all is done.
        kind: How the source is laid out; `auto` looks.
        group_pattern: Regular expression on an item's path within the source, whose first group names its group. Where
            it does not match, or is empty, a clip is a group and each image its own.
        target_column: Column of a table that is to be learnt; empty when its schema file names it.
        retouching: Hides what must not be seen in images, before they are stored. Clips are stored as they are.

    Raises:
        ConfigError: The pattern is no regular expression or has no group, or a table's schema or target is wrong.
        DataError: The source is empty, its layout is not recognised, an archive is refused, or nothing in it is usable.
        StorageError: The source cannot be fetched.
        OSError: The disk is full.
    """
    pattern = _group_pattern(group_pattern)
    problems = Problems()
    label = storage.shown(source)
    with _opened(source, target) as root:
        if kind == TABLE_KIND:
            return ingest_table(root, target, target_column=target_column, label=label)
        tree = SourceTree.scan(root, problems, label=label)
        source_format, evidence = choose_format(tree, kind)
        _require_space(target, tree.total_bytes)
        with atomic_folder(target) as work:
            packer = _Packer(work, pattern, problems, retouching.retouch if retouching else None)
            reading = packer.pack(tree, source_format)
            if not packer.counts[IMAGES] + packer.counts[CLIPS]:
                raise DataError(_nothing_usable(label, source_format, problems))
            report = packer.report(source_format.kind, reading.classes)
            values = {
                "kind": source_format.kind,
                "kind_evidence": evidence,
                "task": reading.task or source_format.task,
                "classes": list(report.classes),
                "digest": report.digest,
                "image_count": report.image_count,
                "clip_count": report.clip_count,
                "total_bytes": report.total_bytes,
                "problem_counts": problems.counts(),
                "group_pattern": group_pattern,
                "grouped_count": packer.grouped_count,
            }
            if retouching:
                counts = {"image_count": report.anonymized_count, "region_count": report.hidden_count}
                values["anonymization"] = retouching.told(**counts)
                warn_of_nothing_hidden(report.image_count, report.hidden_count)
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
    """Return the archive that a source is; None when it is a folder of files, or another file."""
    if path.is_file():
        return path if is_archive(path) else None
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

    def __init__(
        self, work: Path, pattern: re.Pattern[str] | None, problems: Problems, retouch: Retouch | None
    ) -> None:
        self._work, self._pattern, self._problems, self._retouch = work, pattern, problems, retouch
        self._keys: set[str] = set()
        self._seen_classes: set[str] = set()
        self.counts = {IMAGES: 0, CLIPS: 0}
        self.total_bytes = 0
        self.grouped_count = 0
        self.anonymized_count = self.hidden_count = 0

    def pack(self, tree: SourceTree, source_format: SourceFormat) -> Reading:
        """Write shards, index and problems; return what the source was read as."""
        report_unused(
            tree, self._problems, wants_clips=source_format.takes_clips, is_container=source_format.is_container
        )
        reading = source_format.read(tree, self._problems)
        with ShardWriter(self._work / SHARDS, "clips" if source_format.takes_clips else "images") as shards:
            clips = (stored for clip in reading.clips if (stored := self._clip(tree, clip, shards)) is not None)
            images = self._images(tree, reading, shards)
            total = reading.item_count
            clip_lines = (clip.to_json() for clip in _with_progress(clips, total, "clip"))
            self.counts[CLIPS] = write_json_lines(self._work / CLIPS, clip_lines)
            image_lines = (image.to_json() for image in _with_progress(images, total, "image"))
            self.counts[IMAGES] = write_json_lines(self._work / IMAGES, image_lines)
        found = sorted(self._problems.found, key=lambda problem: problem.file)
        write_json_lines(self._work / PROBLEMS, (problem.to_json() for problem in found))
        return reading

    def report(self, kind: str, listed: list[str] | None) -> IngestReport:
        """Return what was packed; `listed` are the classes in the order of their ids, None: those seen."""
        classes = sorted(self._seen_classes) if listed is None else listed
        return IngestReport(
            image_count=self.counts[IMAGES],
            clip_count=self.counts[CLIPS],
            problem_count=len(self._problems.found),
            total_bytes=self.total_bytes,
            kind=kind,
            digest=digest_of_lines(self._content_lines(kind, classes)),
            classes=tuple(classes),
            anonymized_count=self.anonymized_count,
            hidden_count=self.hidden_count,
        )

    def _content_lines(self, kind: str, classes: list[str]) -> Iterator[str]:
        yield canonical_json({"kind": kind, "classes": classes})
        for name in (CLIPS, IMAGES):
            for record in read_json_lines(self._work / name):
                # Where the bytes lie is a matter of packing; what they are stands in the record's hash.
                yield canonical_json({key: value for key, value in record.items() if key not in {"blob", "mask_blob"}})

    def _clip(self, tree: SourceTree, clip: SourceClip, shards: ShardWriter) -> Clip | None:
        file = clip.file
        media_type = str(file.media_type)
        try:
            blob, sha256 = shards.add_file(self._key(file.name) + EXTENSIONS[media_type][0], tree.path(file.name))
        except FileNotFoundError:
            message = "it went away after the folder was listed; left out"
            self._problems.add("unreadable_file", file.name, message)
            return None
        self.total_bytes += blob.size
        self._seen_classes |= {clip.class_name} if clip.class_name is not None else set()
        self._seen_classes |= {track.class_name for track in clip.tracks or ()}
        return Clip(
            source=file.name,
            group=self._group(file.name),
            sha256=sha256,
            media_type=media_type,
            blob=blob,
            class_name=clip.class_name,
            tracks=clip.tracks,
            published_split=clip.published_split,
        )

    def _images(self, tree: SourceTree, reading: Reading, shards: ShardWriter) -> Iterator[Item]:
        for image, future in loaded_in_order(tree, reading.images, reading.class_map, self._retouch):
            try:
                loaded = future.result()
            except MediaError as error:
                self._problems.add("unreadable_image", image.file.name, f"{error}; left out")
                continue
            self._problems.found += loaded.problems
            size_wh = (loaded.stored.width, loaded.stored.height)
            if image.labels and image.labels.size_wh not in {None, size_wh}:
                message = (
                    f"its boxes are for an image of {image.labels.size_wh} px, as displayed it has {size_wh}; left out"
                )
                self._problems.add("size_differs", image.labels.file, message)
                continue
            boxes = self._boxes(image.labels, loaded.stored) if image.labels else None
            yield self._item(image, loaded, boxes, reading.classes or [], shards)

    def _boxes(self, labels: ImageLabels, stored: StoredImage) -> tuple[Box, ...] | None:
        if stored.is_turned_unseen and any(box.mask for box in labels.boxes):
            message = "whether its masks are turned as the image's EXIF orientation says cannot be told; save the image"
            self._problems.add("mask_of_turned_image", labels.file, f"{message} upright; kept as unlabelled")
            return None
        return checked_boxes(labels, (stored.width, stored.height), self._problems)

    def _item(
        self,
        image: SourceImage,
        loaded: LoadedImage,
        boxes: tuple[Box, ...] | None,
        classes: list[str],
        shards: ShardWriter,
    ) -> Item:
        name, stored, mask = image.file.name, loaded.stored, loaded.mask
        key = self._key(name)
        files = [(key + stored.extension, stored.data)] + ([(f"{key}.mask.png", mask.data)] if mask else [])
        blob, *mask_blobs = shards.add_together(files)
        self.total_bytes += sum(len(data) for _, data in files)
        self.anonymized_count += bool(stored.hidden_count)
        self.hidden_count += stored.hidden_count
        self._seen_classes |= {image.class_name} if image.class_name is not None else set()
        self._seen_classes |= {box.class_name for box in boxes or ()}
        return Item(
            key=key,
            source=name,
            group=self._group(name),
            sha256=sha256_bytes(stored.data),
            width=stored.width,
            height=stored.height,
            blob=blob,
            class_name=image.class_name,
            boxes=boxes,
            published_split=image.published_split,
            mask_blob=mask_blobs[0] if mask else None,
            mask_sha256=sha256_bytes(mask.data) if mask else None,
            mask_classes=tuple(classes[class_id] for class_id in mask.class_ids) if mask else (),
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
