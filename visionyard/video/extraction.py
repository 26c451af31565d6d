"""Turn one video into JPEG images in one scratch file; runs in the decoder process."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from visionyard.digests import sha256_bytes
from visionyard.video.decoding import DecodedFrame, VideoReader
from visionyard.video.probe import VideoInfo, packet_times
from visionyard.video.records import ClipExtraction, ExtractionSettings, KeptFrame
from visionyard.video.sampling import Due, at, every, shown_at, thin_evenly
from visionyard.video.selection import Choice, Look, choose, look_at

# At high quality colour is kept at full resolution, as ImageMagick does from 90: on four real clips it is worth 0.3 to
# 1.6 dB at quality 95 for 13 to 28 % more bytes. Pillow takes 14 to 18 ms for such a 1080p frame, OpenCV 19 ms.
_FULL_COLOUR_QUALITY = 90
# Headers are off by one or two frames in a third of real files.
_MISSING_FRAME_COUNT = 2
_MISSING_SHARE = 0.01
# Frames decoded ahead of their encoding; enough for the decoder never to wait at a few images a second.
_PENDING_COUNT = 3


def extract_clip(
    path: Path,
    images_path: Path,
    settings: ExtractionSettings,
    *,
    name: str = "",
    on_frame: Callable[[int], None] = lambda _: None,
) -> ClipExtraction:
    """Sample a clip and write the JPEG of each candidate, one after another, to a file.

    Memory does not grow with the clip: one frame is held, and 200 bytes for each taken one.

    Args:
        path: The clip.
        images_path: The file to write.
        settings: How frames are taken.
        name: What to call the clip in errors; empty takes `path`.
        on_frame: Called with the number of frames decoded so far.

    Raises:
        MediaError: The clip cannot be read, or not one frame decoded.
    """
    due = _due(path, settings, name=name)
    taken: list[KeptFrame] = []
    looks: list[Look] = []
    with VideoReader(path, name=name) as reader, images_path.open("wb") as images:
        frames = shown_at(_counted(reader, on_frame), due, tick_s=reader.tick_s)
        for frame, developed in _developed(frames, partial(_develop, reader, settings)):
            taken.append(_write(images, frame, developed))
            if developed.look is not None:
                looks.append(developed.look)
        complaints = _complaints(reader)
        decoded_count = reader.decoded_count
    choice = _choice(len(taken), looks, settings)
    return ClipExtraction(
        frames=tuple(taken[index] for index in choice.indices),
        decoded_count=decoded_count,
        blurred_count=choice.blurred_count,
        similar_count=choice.similar_count,
        complaints=complaints,
    )


def _has_drops(settings: ExtractionSettings) -> bool:
    return settings.drop_blurred or settings.drop_similar


def _choice(count: int, looks: Sequence[Look], settings: ExtractionSettings) -> Choice:
    if not _has_drops(settings):
        return Choice(indices=list(range(count)), blurred_count=0, similar_count=0)
    return choose(
        looks,
        drop_blurred=settings.drop_blurred,
        drop_similar=settings.drop_similar,
        max_count=settings.max_per_clip,
    )


@dataclass(frozen=True)
class _Developed:
    """A frame as JPEG, with its size and, where frames may be left out for it, its look."""

    jpeg: bytes
    width: int
    height: int
    look: Look | None


def _develop(reader: VideoReader, settings: ExtractionSettings, frame: DecodedFrame) -> _Developed:
    rgb = reader.to_rgb(frame)
    look = look_at(rgb) if _has_drops(settings) else None
    return _Developed(encode_jpeg(rgb, settings.jpeg_quality), rgb.shape[1], rgb.shape[0], look)


def _developed(
    frames: Iterable[DecodedFrame], develop: Callable[[DecodedFrame], _Developed]
) -> Iterator[tuple[DecodedFrame, _Developed]]:
    """Develop frames beside the decoding, in order, a few at a time.

    The decoder's threads rest while nobody asks for frames; converting and encoding let go of the interpreter's lock.
    """
    pending: deque[tuple[DecodedFrame, Future[_Developed]]] = deque()
    with ThreadPoolExecutor(1) as darkroom:
        for frame in frames:
            pending.append((frame, darkroom.submit(develop, frame)))
            if len(pending) > _PENDING_COUNT:
                developed_frame, future = pending.popleft()
                yield developed_frame, future.result()
        for developed_frame, future in pending:
            yield developed_frame, future.result()


def _due(path: Path, settings: ExtractionSettings, *, name: str) -> Due:
    """Return the instants at which frames are taken.

    With a maximum, the packets tell which frames the rate would take, and those are thinned before any is converted.
    Frames left out for their looks are only known after decoding: then thinning is last.
    """
    if not settings.max_per_clip or _has_drops(settings):
        return every(settings.rate_hz)
    times = packet_times(path, name=name)
    instants = [
        frame.time_s for frame in shown_at(_Packet.sequence(times), every(settings.rate_hz), tick_s=Fraction(0))
    ]
    return at([instants[place] for place in thin_evenly(len(instants), settings.max_per_clip)])


@dataclass(frozen=True)
class _Packet:
    time_s: Fraction
    duration_s: Fraction = Fraction(0)

    @classmethod
    def sequence(cls, times: list[Fraction]) -> Iterator["_Packet"]:
        return (cls(time_s) for time_s in times)


def _counted(reader: VideoReader, on_frame: Callable[[int], None]) -> Iterator[DecodedFrame]:
    for frame in reader.frames():
        on_frame(frame.frame_index + 1)
        yield frame


def _write(images: BinaryIO, frame: DecodedFrame, developed: _Developed) -> KeptFrame:
    offset = images.tell()
    images.write(developed.jpeg)
    return KeptFrame(
        frame_index=frame.frame_index,
        timestamp_s=round(float(frame.time_s), 6),
        width=developed.width,
        height=developed.height,
        offset=offset,
        size=len(developed.jpeg),
        sha256=sha256_bytes(developed.jpeg),
    )


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Return a (H, W, 3) uint8 image as JPEG; colour at full resolution from quality 90, halved below."""
    stream = io.BytesIO()
    subsampling = "4:4:4" if quality >= _FULL_COLOUR_QUALITY else "4:2:0"
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def _complaints(reader: VideoReader) -> tuple[tuple[str, str], ...]:
    info, decoded, end_s = reader.info, reader.decoded_count, float(reader.end_s)
    found: list[tuple[str, str]] = []
    shortfall = _shortfall(info, decoded, end_s)
    if shortfall:
        found.append((shortfall, _shortfall_message(info, decoded, end_s)))
    if reader.damaged_count:
        found.append(
            ("clip_damaged", f"{reader.damaged_count} packets or frames are damaged; what could be decoded was kept")
        )
    return tuple(found)


def _shortfall(info: VideoInfo, decoded: int, end_s: float) -> str:
    """Return the word for what is missing against the header: the end, frames in between, or nothing."""
    missing_count = info.declared_frame_count - decoded
    lacks_frames = missing_count > max(_MISSING_FRAME_COUNT, _MISSING_SHARE * info.declared_frame_count)
    if info.declared_duration_s is None:
        return "clip_truncated" if lacks_frames else ""
    tolerance_s = max(2 * _MISSING_FRAME_COUNT / float(info.rate_hz), _MISSING_SHARE * info.declared_duration_s)
    if info.declared_duration_s - end_s > tolerance_s:
        return "clip_truncated"
    return "clip_frames_missing" if lacks_frames else ""


def _shortfall_message(info: VideoInfo, decoded: int, end_s: float) -> str:
    declared = []
    if info.declared_frame_count:
        declared.append(f"{info.declared_frame_count} frames")
    if info.declared_duration_s is not None:
        declared.append(f"{info.declared_duration_s:.2f} s")
    return (
        f"its header declares {' in '.join(declared)}, but {decoded} frames in {end_s:.2f} s could be decoded; those "
        "were used; if the file was cut short, copy it again"
    )
