"""Turn one video into JPEG images in one scratch file; runs in the decoder process."""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from visionyard.video.decoding import DecodedFrame, VideoReader
from visionyard.video.probe import VideoInfo, packet_times
from visionyard.video.sampling import Due, at, every, shown_at, thin_evenly
from visionyard.video.selection import Choice, Look, choose, look_at

# At high quality colour is kept at full resolution, as ImageMagick does from 90: over six real clips it is worth 0.4 to
# 1.6 dB at quality 95 for a fifth more bytes. Pillow's libjpeg-turbo takes 10 to 15 ms for a 1080p frame, OpenCV's 13
# to 19 ms for the same bytes.
_FULL_COLOUR_QUALITY = 90
# Headers are off by one or two frames in a third of real files.
_MISSING_FRAME_COUNT = 2
_MISSING_SHARE = 0.01


@dataclass(frozen=True)
class ExtractionSettings:
    """How frames are taken; as in the run config's `frames`."""

    rate_hz: float
    max_per_clip: int = 0
    drop_blurred: bool = False
    drop_similar: bool = False
    jpeg_quality: int = 95


@dataclass(frozen=True)
class KeptFrame:
    """One kept frame; its JPEG lies in the scratch file, `size` bytes from `offset`.

    Attributes:
        frame_index: Place among the decoded frames, from 0.
        timestamp_s: From the clip's first frame, to the microsecond.
        width: Pixels, upright.
        height: Pixels, upright.
        offset: Where the JPEG begins.
        size: Bytes of the JPEG.
        sha256: Of the JPEG.
    """

    frame_index: int
    timestamp_s: float
    width: int
    height: int
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class ClipExtraction:
    """What came of one clip.

    Attributes:
        frames: In presentation order.
        decoded_count: Frames decoded.
        blurred_count: Frames left out as blurred.
        similar_count: Frames left out as similar to the one kept before.
        complaints: Code and message of each thing wrong that did not prevent the extraction.
    """

    frames: tuple[KeptFrame, ...]
    decoded_count: int
    blurred_count: int
    similar_count: int
    complaints: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ClipExtraction":
        """Return the extraction that `to_json` described."""
        return cls(
            **{
                **values,
                "frames": tuple(KeptFrame(**frame) for frame in values["frames"]),
                "complaints": tuple((code, message) for code, message in values["complaints"]),
            }
        )


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
    has_drops = settings.drop_blurred or settings.drop_similar
    due = _due(path, settings, name=name, has_drops=has_drops)
    taken: list[KeptFrame] = []
    looks: list[Look] = []
    with VideoReader(path, name=name) as reader, images_path.open("wb") as images:
        for frame in shown_at(_counted(reader, on_frame), due, tick_s=reader.tick_s):
            rgb = reader.to_rgb(frame)
            if has_drops:
                looks.append(look_at(rgb))
            taken.append(_write(images, frame, rgb, settings.jpeg_quality))
        complaints = _complaints(reader)
        decoded_count = reader.decoded_count
    choice = Choice(indices=list(range(len(taken))), blurred_count=0, similar_count=0)
    if has_drops:
        choice = choose(
            looks,
            drop_blurred=settings.drop_blurred,
            drop_similar=settings.drop_similar,
            max_count=settings.max_per_clip,
        )
    return ClipExtraction(
        frames=tuple(taken[index] for index in choice.indices),
        decoded_count=decoded_count,
        blurred_count=choice.blurred_count,
        similar_count=choice.similar_count,
        complaints=complaints,
    )


def _due(path: Path, settings: ExtractionSettings, *, name: str, has_drops: bool) -> Due:
    """Return the instants at which frames are taken.

    With a maximum, the packets tell which frames the rate would take, and those are thinned before any is converted.
    Frames left out for their looks are only known after decoding: then thinning is last.
    """
    if not settings.max_per_clip or has_drops:
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


def _write(images: BinaryIO, frame: DecodedFrame, rgb: np.ndarray, quality: int) -> KeptFrame:
    data = encode_jpeg(rgb, quality)
    offset = images.tell()
    images.write(data)
    return KeptFrame(
        frame_index=frame.frame_index,
        timestamp_s=round(float(frame.time_s), 6),
        width=rgb.shape[1],
        height=rgb.shape[0],
        offset=offset,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
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
