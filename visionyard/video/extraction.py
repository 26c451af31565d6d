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
from visionyard.video.complaints import complaints
from visionyard.video.decoding import DecodedFrame, PacketsMisleadError, VideoReader
from visionyard.video.packets import Packets, read_packets
from visionyard.video.records import ClipExtraction, ExtractionSettings, KeptFrame
from visionyard.video.retouching import Retouch
from visionyard.video.sampling import Due, at, every, shown_at, thin_evenly, tolerance_s
from visionyard.video.selection import Choice, Look, choose, look_at

# At high quality colour is kept at full resolution, as ImageMagick does from 90: on four real clips it is worth 0.3 to
# 1.6 dB at quality 95 for 13 to 28 % more bytes. Pillow takes 14 to 18 ms for such a 1080p frame, OpenCV 19 ms.
_FULL_COLOUR_QUALITY = 90
# Frames decoded ahead of their encoding; enough for the decoder never to wait at a few images a second.
_PENDING_COUNT = 3


def extract_clip(
    path: Path,
    images_path: Path,
    settings: ExtractionSettings,
    *,
    name: str = "",
    thread_count: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
    retouch: Retouch | None = None,
) -> ClipExtraction:
    """Sample a clip and write the JPEG of each candidate, one after another, to a file.

    Where the packets tell all about the frames, only what the wanted frames need is decoded. Memory does not grow with
    the clip but for some 20 bytes a frame and 200 a taken one.

    Args:
        path: The clip.
        images_path: The file to write.
        settings: How frames are taken.
        name: What to call the clip in errors; empty takes `path`.
        thread_count: Threads of the decoder, 0: one a core; the result is the same whatever their number.
        on_progress: Called with the number of frames decoded or passed over so far, 0 while the packets are read.
        retouch: Changes each frame before it is encoded; what it looked like before is in no file.

    Raises:
        MediaError: The clip cannot be read, or not one frame decoded.
    """
    packets = read_packets(path, name=name, on_packet=lambda: on_progress(0))

    def extract(*, is_sparing: bool, thread_count: int) -> ClipExtraction:
        with VideoReader(path, name=name, thread_count=thread_count, on_progress=on_progress) as reader:
            return _extract(reader, packets, images_path, settings, retouch, is_sparing=is_sparing)

    is_damaged = packets.is_damaged
    if packets.is_exact:
        try:
            return extract(is_sparing=True, thread_count=thread_count)
        except PacketsMisleadError:
            is_damaged = True
    if not is_damaged:
        extraction = extract(is_sparing=False, thread_count=thread_count)
        if thread_count == 1 or not extraction.is_damaged:
            return extraction
    # What a decoder saves of damaged packets depends on how far its other threads are.
    return extract(is_sparing=False, thread_count=1)


def _extract(
    reader: VideoReader,
    packets: Packets,
    images_path: Path,
    settings: ExtractionSettings,
    retouch: Retouch | None,
    *,
    is_sparing: bool,
) -> ClipExtraction:
    due = _due(packets, settings)
    if is_sparing:
        frames = reader.frames_at(packets, packets.places_shown_at(due, tolerance_s=tolerance_s(reader.tick_s)))
    else:
        shown = shown_at(reader.frames(), due, tick_s=reader.tick_s)
        frames = (frame for frame in shown if not frame.picture.is_corrupt)
    taken: list[KeptFrame] = []
    looks: list[Look] = []
    with images_path.open("wb") as images:
        for frame, developed in _developed(frames, partial(_develop, reader, settings, retouch)):
            taken.append(_write(images, frame, developed))
            if developed.look is not None:
                looks.append(developed.look)
    if is_sparing:
        frame_count, end_s = len(packets.stamps), packets.end_s(reader.info.rate_hz)
    else:
        frame_count, end_s = reader.decoded_count, reader.end_s
    choice = _choice(len(taken), looks, settings)
    return ClipExtraction(
        frames=tuple(taken[index] for index in choice.indices),
        frame_count=frame_count,
        decoded_count=reader.decoded_count,
        blurred_count=choice.blurred_count,
        similar_count=choice.similar_count,
        complaints=complaints(reader.info, frame_count, float(end_s), reader.damaged_count),
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
    """A frame as JPEG, with its size, the number of regions hidden in it, and its look where that may leave it out."""

    jpeg: bytes
    width: int
    height: int
    hidden_count: int
    look: Look | None


def _develop(
    reader: VideoReader, settings: ExtractionSettings, retouch: Retouch | None, frame: DecodedFrame
) -> _Developed:
    rgb = reader.to_rgb(frame)
    # As the camera saw it: a blurred face must not count as a blurred frame.
    look = look_at(rgb) if _has_drops(settings) else None
    rgb, hidden_count = retouch(rgb) if retouch else (rgb, 0)
    return _Developed(encode_jpeg(rgb, settings.jpeg_quality), rgb.shape[1], rgb.shape[0], hidden_count, look)


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


def _due(packets: Packets, settings: ExtractionSettings) -> Due:
    """Return the instants at which frames are taken.

    With a maximum, the packets tell which frames the rate would take, and those are thinned before any is converted.
    Frames left out for their looks are only known after decoding: then thinning is last.
    """
    if not settings.max_per_clip or _has_drops(settings):
        return every(settings.rate_hz)
    places = packets.places_shown_at(every(settings.rate_hz), tolerance_s=Fraction(0))
    return at([packets.time_s(places[number]) for number in thin_evenly(len(places), settings.max_per_clip)])


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
        hidden_count=developed.hidden_count,
    )


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Return a (H, W, 3) uint8 image as JPEG; colour at full resolution from quality 90, halved below."""
    stream = io.BytesIO()
    subsampling = "4:4:4" if quality >= _FULL_COLOUR_QUALITY else "4:2:0"
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()
