"""Sample still images from the clips of a sources folder: timestamps kept, annotations turned into labels of frames.

frames/manifest.json   settings, counts, digest (see visionyard.data.artifacts)
frames/images.jsonl    an Item a line, in the order of the clips and of time
frames/problems.jsonl  clips left out, cut short or damaged
frames/shards/frames-NNNNN.tar
"""

import json
import math
import os
import re
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import CLIPS, IMAGES, PROBLEMS, SHARDS, read_manifest, write_manifest
from visionyard.data.items import Box, Clip, Item, Problems, Track, read_json_lines, write_json_lines
from visionyard.data.shards import ShardWriter, copy_blob
from visionyard.digests import canonical_json, digest_of_lines, sha256_bytes
from visionyard.errors import ConfigError, DataError
from visionyard.video.pool import DecoderPool, Outcome, Request
from visionyard.video.process import NO_PROGRESS_TIMEOUT_S
from visionyard.video.records import ClipExtraction, ExtractionSettings, KeptFrame

# Two: while one process reads and packs, the other decodes. The decoder itself uses all cores.
_MAX_WORKER_COUNT = 2
_MAX_SLUG_LENGTH = 80
_LISTED_REASON_COUNT = 10
_SCRATCH = "scratch"


@dataclass(frozen=True)
class FramesReport:
    """What `extract_frames` did.

    Attributes:
        clip_count: Clips in the sources.
        frame_count: Images written.
        skipped_count: Clips that could not be decoded.
        blurred_count: Frames left out as blurred.
        similar_count: Frames left out as similar to the one before.
        problem_count: Problems written down.
        digest: Over images and labels: same content, same digest.
    """

    clip_count: int
    frame_count: int
    skipped_count: int
    blurred_count: int
    similar_count: int
    problem_count: int
    digest: str

    def metadata(self) -> dict[str, Any]:
        """Return plain values for an artifact's metadata."""
        return asdict(self)


def extract_frames(
    sources: Path,
    target: Path,
    *,
    rate_hz: float,
    max_per_clip: int = 0,
    drop_blurred: bool = False,
    drop_similar: bool = False,
    jpeg_quality: int = 95,
    decoder_command: Sequence[str] | None = None,
    timeout_s: float = NO_PROGRESS_TIMEOUT_S,
) -> FramesReport:
    """Sample images from every clip of a sources folder.

    Clips are decoded in processes that may die alone; a clip that cannot be decoded becomes a problem and is left out.

    Args:
        sources: Folder written by ingest.
        target: Frames folder to make.
        rate_hz: Images kept per second of video, above 0: the frames shown at 0, 1/rate, 2/rate and so on.
        max_per_clip: Most images of one clip, spread evenly over it; 0 keeps all.
        drop_blurred: Leave out frames far less sharp than their clip's median.
        drop_similar: Leave out frames that look like the one kept before them.
        jpeg_quality: 50 to 100.
        decoder_command: Starts another decoder process; None takes ours.
        timeout_s: A clip of which no frame is decoded for this long is left out.

    Raises:
        ArtifactError: `sources` is not a sources folder of a known version.
        ConfigError: A setting is out of range.
        DataError: There are clips and not one of them can be decoded.
    """
    settings = ExtractionSettings(
        rate_hz=rate_hz,
        max_per_clip=max_per_clip,
        drop_blurred=drop_blurred,
        drop_similar=drop_similar,
        jpeg_quality=jpeg_quality,
    )
    _check(settings)
    manifest = read_manifest(sources, "sources")
    keys = _clip_keys(sources)
    with atomic_folder(target) as work:
        scratch = work / _SCRATCH
        scratch.mkdir()
        tally = _Tally(clip_count=len(keys))
        with (
            DecoderPool(
                min(_MAX_WORKER_COUNT, os.cpu_count() or 1),
                command=decoder_command,
                timeout_s=timeout_s,
                on_progress=tally.show,
            ) as pool,
            ShardWriter(work / SHARDS, "frames") as shards,
        ):
            tally.frame_count = write_json_lines(
                work / IMAGES, _items(sources, scratch, keys, settings, pool, shards, tally)
            )
        shutil.rmtree(scratch)
        tally.refuse_when_all_failed()
        return _finish(work, settings, tally, sources_digest=str(manifest.get("digest", "")))


def _check(settings: ExtractionSettings) -> None:
    problems = []
    if not (settings.rate_hz > 0 and math.isfinite(settings.rate_hz)):
        problems.append(f"frames.rate_hz: expected a number above 0, got {settings.rate_hz}")
    if settings.max_per_clip < 0:
        problems.append(f"frames.max_per_clip: expected 0 or more, got {settings.max_per_clip}")
    if not 50 <= settings.jpeg_quality <= 100:
        problems.append(f"frames.jpeg_quality: expected 50 to 100, got {settings.jpeg_quality}")
    if problems:
        raise ConfigError(problems)


@dataclass
class _Tally:
    """Counts and problems as they come up."""

    clip_count: int
    done_count: int = 0
    frame_count: int = 0
    skipped_count: int = 0
    blurred_count: int = 0
    similar_count: int = 0
    problems: Problems = field(default_factory=Problems)

    def show(self, source: str, frame_count: int) -> None:
        """Tell how far a clip is decoded."""
        events.progress(self.done_count, self.clip_count, unit="clip", label=f"{source}: frame {frame_count}")

    def count(self, source: str, outcome: Outcome) -> None:
        """Take note of a finished clip."""
        self.done_count += 1
        if outcome.extraction is None:
            self.skipped_count += 1
            self.problems.add(outcome.code, source, outcome.message)
            events.warn(f"{source}: left out: {outcome.message}")
        else:
            self.blurred_count += outcome.extraction.blurred_count
            self.similar_count += outcome.extraction.similar_count
            for code, message in outcome.extraction.complaints:
                self.problems.add(code, source, message)
        events.progress(self.done_count, self.clip_count, unit="clip", label=source)

    def refuse_when_all_failed(self) -> None:
        """Raise when there were clips and none could be decoded."""
        if not self.clip_count or self.skipped_count < self.clip_count:
            return
        reasons = [f"{problem.file}: {problem.message}" for problem in self.problems.found]
        if len(reasons) > _LISTED_REASON_COUNT:
            reasons[_LISTED_REASON_COUNT:] = [f"and {len(reasons) - _LISTED_REASON_COUNT} more"]
        raise DataError(f"none of the {self.clip_count} clips can be decoded:\n" + "\n".join(reasons))


def _clip_keys(sources: Path) -> list[str]:
    """Return a unique key for each clip, in order, of letters, digits, `-` and `_`.

    A name that is too long, empty or shared by two clips after other characters became `-` gets a piece of its hash.
    """
    names = [values["source"] for values in _clip_lines(sources)]
    slugs = [re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-") for name in names]
    counts = Counter(slugs)
    keys = []
    for name, slug in zip(names, slugs):
        is_plain = slug and len(slug) <= _MAX_SLUG_LENGTH and counts[slug] == 1
        keys.append(slug if is_plain else f"{slug[:_MAX_SLUG_LENGTH]}-{sha256_bytes(name.encode())[:12]}".lstrip("-"))
    return keys


def _clip_lines(sources: Path) -> Iterator[dict[str, Any]]:
    path = sources / CLIPS
    return read_json_lines(path) if path.exists() else iter(())


def _items(
    sources: Path,
    scratch: Path,
    keys: Sequence[str],
    settings: ExtractionSettings,
    pool: DecoderPool,
    shards: ShardWriter,
    tally: _Tally,
) -> Iterator[dict[str, Any]]:
    """Extract clip after clip, pack the images and yield their item lines."""
    started: list[Clip] = []

    def requests() -> Iterator[Request]:
        for number, values in enumerate(_clip_lines(sources)):
            clip = Clip.from_json(values)
            started.append(clip)
            # No ending: what a clip is, is read from its bytes.
            path = scratch / f"{number}-clip"
            copy_blob(sources / SHARDS, clip.blob, path)
            yield Request(name=clip.source, path=path, images_path=scratch / f"{number}-images", settings=settings)

    for key, outcome in zip(keys, pool.run(requests())):
        clip = started.pop(0)
        tally.count(clip.source, outcome)
        if outcome.extraction is not None:
            _note_late_shapes(clip, outcome.extraction, tally.problems)
            yield from _pack(clip, key, outcome.extraction.frames, outcome.request.images_path, shards)
        for path in (outcome.request.path, outcome.request.images_path):
            path.unlink(missing_ok=True)


def _pack(
    clip: Clip, key: str, frames: Iterable[KeptFrame], images_path: Path, shards: ShardWriter
) -> Iterator[dict[str, Any]]:
    with images_path.open("rb") as images:
        for frame in frames:
            images.seek(frame.offset)
            frame_key = f"{key}-{frame.frame_index:06d}"
            item = Item(
                key=frame_key,
                source=clip.source,
                group=clip.group,
                sha256=frame.sha256,
                width=frame.width,
                height=frame.height,
                blob=shards.add(f"{frame_key}.jpg", images.read(frame.size)),
                class_name=clip.class_name,
                boxes=None
                if clip.tracks is None
                else boxes_at(clip.tracks, frame.frame_index, frame.width, frame.height),
                timestamp_s=frame.timestamp_s,
                published_split=clip.published_split,
            )
            yield item.to_json()


def boxes_at(tracks: Iterable[Track], frame_index: int, width: int, height: int) -> tuple[Box, ...]:
    """Return the objects visible in one frame, in the order of their tracks.

    Between two shapes a box moves linearly. After the last one, and until one that is outside, it stays: where an
    object was when it left says nothing about its way there. Boxes are cut at the image's edge; what lies beyond it is
    not visible.

    Args:
        tracks: Of the frame's clip.
        frame_index: Place among the decoded frames, from 0.
        width: Of the image, pixels.
        height: Of the image, pixels.
    """
    boxes = []
    for track in tracks:
        xyxy = _track_box(track, frame_index)
        if xyxy is None:
            continue
        left, right = (min(max(value, 0.0), float(width)) for value in (xyxy[0], xyxy[2]))
        top, bottom = (min(max(value, 0.0), float(height)) for value in (xyxy[1], xyxy[3]))
        if right > left and bottom > top:
            boxes.append(Box(track.class_name, (left, top, right, bottom)))
    return tuple(boxes)


def _track_box(track: Track, frame_index: int) -> tuple[float, ...] | None:
    shapes = sorted(track.shapes, key=lambda shape: shape.frame_index)
    place = bisect_right(shapes, frame_index, key=lambda shape: shape.frame_index)
    before = shapes[place - 1] if place else None
    if before is None or before.is_outside:
        return None
    after = shapes[place] if place < len(shapes) else None
    if after is None or after.is_outside:
        return before.xyxy
    share = (frame_index - before.frame_index) / (after.frame_index - before.frame_index)
    return tuple(start + share * (end - start) for start, end in zip(before.xyxy, after.xyxy))


def _note_late_shapes(clip: Clip, extraction: ClipExtraction, problems: Problems) -> None:
    """Note annotations of frames that the clip does not have: a sign of another or a shortened file."""
    late = [
        shape.frame_index
        for track in clip.tracks or ()
        for shape in track.shapes
        if shape.frame_index >= extraction.frame_count and not shape.is_outside
    ]
    if late:
        problems.add(
            "annotation_beyond_clip",
            clip.source,
            f"{len(late)} annotated shapes lie in frames up to {max(late)}, but the clip has frames 0 to "
            f"{extraction.frame_count - 1}; they were not used; check that annotation and clip belong together",
        )


def _finish(work: Path, settings: ExtractionSettings, tally: _Tally, *, sources_digest: str) -> FramesReport:
    problem_count = write_json_lines(work / PROBLEMS, (problem.to_json() for problem in tally.problems.found))
    report = FramesReport(
        clip_count=tally.clip_count,
        frame_count=tally.frame_count,
        skipped_count=tally.skipped_count,
        blurred_count=tally.blurred_count,
        similar_count=tally.similar_count,
        problem_count=problem_count,
        digest=digest_of_lines(_content_lines(work)),
    )
    write_manifest(
        work,
        "frames",
        {
            **report.metadata(),
            "problem_counts": tally.problems.counts(),
            "settings": json.loads(canonical_json(asdict(settings))),
            "sources_digest": sources_digest,
        },
    )
    return report


def _content_lines(work: Path) -> Iterator[str]:
    """Yield what the digest is taken over: images and labels, not where they lie."""
    for values in read_json_lines(work / IMAGES):
        del values["blob"]
        yield canonical_json(values)
