"""Sample still images from the clips of a sources folder: timestamps kept, annotations turned into labels of frames.

frames/manifest.json   settings, counts, digest (see visionyard.data.artifacts)
frames/images.jsonl    an Item a line, in the order of the clips and of time
frames/problems.jsonl  clips left out, cut short or damaged
frames/shards/frames-NNNNN.tar
"""

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.atomic import resumable_folder
from visionyard.data.artifacts import CLIPS, IMAGES, PROBLEMS, SHARDS, read_manifest, write_manifest
from visionyard.data.clip_results import ClipResult, ClipResults
from visionyard.data.frame_packing import FramePacker
from visionyard.data.items import Clip, Problems, read_json_lines, write_json_lines
from visionyard.data.media import warn_of_nothing_hidden
from visionyard.data.shards import SHARD_BYTES, copy_blob
from visionyard.digests import canonical_json, code_digest, digest_of, digest_of_lines, sha256_bytes, sha256_file
from visionyard.errors import ConfigError, DataError
from visionyard.stage_resources import held_resources
from visionyard.video.pool import DecoderPool, Outcome, Request
from visionyard.video.process import NO_PROGRESS_TIMEOUT_S
from visionyard.video.records import ClipExtraction, ExtractionSettings
from visionyard.video.retouching import Retouching

# What a process that decodes 8K takes, with all it leans on.
_PROCESS_BYTES = 3 << 29
# Clips begun while one before them is not done.
_WINDOW = 64
_MAX_SLUG_LENGTH = 80
_LISTED_REASON_COUNT = 10


@dataclass(frozen=True)
class FramesReport:
    """What `extract_frames` did.

    Attributes:
        clip_count: Clips in the sources.
        frame_count: Images written.
        skipped_count: Clips that could not be decoded.
        blurred_count: Frames left out as blurred.
        similar_count: Frames left out as similar to the one before.
        anonymized_count: Images in which something was hidden.
        hidden_count: Regions hidden in them.
        problem_count: Problems written down.
        digest: Over images and labels: same content, same digest.
    """

    clip_count: int
    frame_count: int
    skipped_count: int
    blurred_count: int
    similar_count: int
    anonymized_count: int
    hidden_count: int
    problem_count: int
    digest: str

    def figures(self) -> dict[str, events.Figure]:
        """Return the figures of the stage, the key figure first."""
        return {
            "frames": self.frame_count,
            "clips": self.clip_count,
            "skipped": self.skipped_count,
            **({"anonymized": self.anonymized_count, "hidden": self.hidden_count} if self.hidden_count else {}),
        }

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
    retouching: Retouching | None = None,
    decoder_command: Sequence[str] | None = None,
    timeout_s: float = NO_PROGRESS_TIMEOUT_S,
    shard_bytes: int = SHARD_BYTES,
) -> FramesReport:
    """Sample images from every clip of a sources folder.

    Clips are decoded in processes that may die alone, one a core; a clip that cannot be decoded becomes a problem and
    is left out. When this is killed and called again, the clips that were done are not decoded again.

    Args:
        sources: Folder written by ingest.
        target: Frames folder to make.
        rate_hz: Images kept per second of video, above 0: the frames shown at 0, 1/rate, 2/rate and so on.
        max_per_clip: Most images of one clip, spread evenly over it; 0 keeps all.
        drop_blurred: Leave out frames far less sharp than their clip's median.
        drop_similar: Leave out frames that look like the one kept before them.
        jpeg_quality: 50 to 100.
        retouching: Hides what must not be seen in the frames, in the decoder process, before they are written.
        decoder_command: Starts another decoder process, without `retouching`; None takes ours, or that of it.
        timeout_s: A clip of which no frame is decoded for this long is left out.
        shard_bytes: As for `ShardWriter`.

    Raises:
        ArtifactError: `sources` is not a sources folder of a known version.
        ConfigError: A setting is out of range, or both decoder_command and retouching are given.
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
    if retouching and decoder_command:
        raise ConfigError("decoder_command: another decoder process would not hide what retouching hides; give one")
    manifest = read_manifest(sources, "sources")
    keys = _clip_keys(sources)
    tally = _Tally(clip_count=len(keys))
    with resumable_folder(target, of=_digest_of_all(sources, settings, retouching)) as work:
        results = ClipResults(work)
        workers = Workers.for_clips(len(keys) - len(results.known_numbers))
        pool = DecoderPool(
            workers.process_count,
            command=decoder_command or (retouching.decoder_command if retouching else None),
            timeout_s=timeout_s,
            window=_WINDOW,
            on_progress=tally.show,
            on_outcome=results.keep,
        )
        with pool, FramePacker(work, results, shard_bytes=shard_bytes) as packer:
            requests = _requests(sources, results, settings, thread_count=workers.thread_count)
            _pack(_results(sources, results, pool.run(requests)), keys, packer, tally)
        if tally.clip_count and tally.skipped_count == tally.clip_count:
            shutil.rmtree(work)
            raise DataError(tally.why_all_failed())
        report = _finish(work, settings, tally, sources_digest=str(manifest.get("digest", "")), retouching=retouching)
        results.remove()
        return report


@dataclass(frozen=True)
class Workers:
    """Decoder processes, and the threads of each."""

    process_count: int
    thread_count: int

    @classmethod
    def for_clips(cls, clip_count: int) -> "Workers":
        """Return as many processes as there are cores, clips and memory for.

        Each has two threads at least, where there are two cores: what a second one costs (4 % of CPU time) is less than
        what a core costs that rests beside the last clip.
        """
        held = held_resources()
        core_count = max(1, round(held.cpu_count))
        by_memory = held.memory_bytes // _PROCESS_BYTES if held.memory_bytes else core_count
        process_count = max(1, min(core_count, clip_count, by_memory))
        return cls(process_count, max(min(2, core_count), core_count // process_count))


def _digest_of_all(sources: Path, settings: ExtractionSettings, retouching: Retouching | None) -> str:
    """Return a digest of all that the frames depend on, down to the code: a killed try of another is not continued."""
    clips = sources / CLIPS
    values = [asdict(settings), code_digest(), version("av"), sha256_file(clips) if clips.exists() else ""]
    if retouching:
        values += [dict(retouching.values), version("onnxruntime")]
    return digest_of(values)


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
    anonymized_count: int = 0
    hidden_count: int = 0
    problems: Problems = field(default_factory=Problems)

    def show(self, source: str, frame_count: int) -> None:
        """Tell how far a clip is decoded."""
        events.progress(self.done_count, self.clip_count, unit="clip", label=f"{source}: frame {frame_count}")

    def count(self, source: str, result: ClipResult) -> None:
        """Take note of a finished clip."""
        self.done_count += 1
        if result.extraction is None:
            self.skipped_count += 1
            self.problems.add(result.code, source, result.message)
            events.warn(f"{source}: left out: {result.message}")
        else:
            self.blurred_count += result.extraction.blurred_count
            self.similar_count += result.extraction.similar_count
            hidden = [frame.hidden_count for frame in result.extraction.frames if frame.hidden_count]
            self.anonymized_count += len(hidden)
            self.hidden_count += sum(hidden)
            for code, message in result.extraction.complaints:
                self.problems.add(code, source, message)
        events.progress(self.done_count, self.clip_count, unit="clip", label=source)

    def why_all_failed(self) -> str:
        """Return why none of the clips could be decoded."""
        reasons = [f"{problem.file}: {problem.message}" for problem in self.problems.found]
        if len(reasons) > _LISTED_REASON_COUNT:
            reasons[_LISTED_REASON_COUNT:] = [f"and {len(reasons) - _LISTED_REASON_COUNT} more"]
        return f"none of the {self.clip_count} clips can be decoded:\n" + "\n".join(reasons)


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


def _requests(
    sources: Path, results: ClipResults, settings: ExtractionSettings, *, thread_count: int
) -> Iterator[Request]:
    """Yield a request for each clip whose result is not known, its file copied out of the shards."""
    for number, values in enumerate(_clip_lines(sources)):
        if number in results.known_numbers:
            continue
        clip = Clip.from_json(values)
        # No ending: what a clip is, is read from its bytes.
        path = results.scratch_path(number, "clip")
        copy_blob(sources / SHARDS, clip.blob, path)
        yield Request(clip.source, path, results.scratch_path(number, "images"), settings, thread_count)


def _results(
    sources: Path, results: ClipResults, outcomes: Iterator[Outcome]
) -> Iterator[tuple[int, Clip, ClipResult]]:
    """Yield number, clip and result of every clip in their order, those of an ended try among them."""
    for number, values in enumerate(_clip_lines(sources)):
        clip = Clip.from_json(values)
        if number in results.known_numbers:
            yield number, clip, results.read(number)
        else:
            outcome = next(outcomes)
            yield number, clip, ClipResult(outcome.extraction, outcome.code, outcome.message)


def _pack(
    results: Iterable[tuple[int, Clip, ClipResult]], keys: Sequence[str], packer: FramePacker, tally: _Tally
) -> None:
    """Count the result of every clip and pack its frames."""
    for number, clip, result in results:
        tally.count(clip.source, result)
        if result.extraction is not None:
            _note_late_shapes(clip, result.extraction, tally.problems)
            packer.add(number, clip, keys[number], result.extraction.frames)
    tally.frame_count = packer.finish()


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


def _finish(
    work: Path, settings: ExtractionSettings, tally: _Tally, *, sources_digest: str, retouching: Retouching | None
) -> FramesReport:
    problem_count = write_json_lines(work / PROBLEMS, (problem.to_json() for problem in tally.problems.found))
    report = FramesReport(
        clip_count=tally.clip_count,
        frame_count=tally.frame_count,
        skipped_count=tally.skipped_count,
        blurred_count=tally.blurred_count,
        similar_count=tally.similar_count,
        anonymized_count=tally.anonymized_count,
        hidden_count=tally.hidden_count,
        problem_count=problem_count,
        digest=digest_of_lines(_content_lines(work)),
    )
    told: dict[str, Any] = {}
    if retouching:
        counts = {"image_count": report.anonymized_count, "region_count": report.hidden_count}
        told = {"anonymization": retouching.told(**counts)}
        warn_of_nothing_hidden(report.frame_count, report.hidden_count)
    write_manifest(
        work,
        "frames",
        {
            **report.metadata(),
            **told,
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
