"""Decode a video in presentation order, as a person would see it: upright, in RGB, at its true times."""

import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from visionyard.errors import MediaError
from visionyard.video.packets import Packets
from visionyard.video.probe import MAX_FRAME_PIXEL_COUNT, VideoInfo, has_presentation_stamps, open_video, video_info
from visionyard.video.sampling import FrameClock

# Without these flags swscale takes a shortcut that repeats each colour sample of 4:2:0 over 2x2 pixels, and other code
# on other processors. They cost 6 ms a 1080p frame, of kept frames only.
_SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
# Frames that no other leans on can be left out without a trace in the others: H.264 marks them (nal_ref_idc 0). With
# B-frames that is about half of them, and a quarter of the time.
_CODECS_WITH_LOOSE_FRAMES = {"h264"}
# PQ and HLG, as numbered in ITU-T H.273.
_HDR_TRANSFERS = {16, 18}
# The display matrix is nine int32; see ISO/IEC 14496-12, 8.3.2.
_MATRIX = struct.Struct("=9i")


class PacketsMisleadError(Exception):
    """The frames of a video are not those that its packets announce; decode all of it."""


@dataclass(frozen=True)
class DecodedFrame:
    """One decoded frame, not yet converted.

    Attributes:
        frame_index: Place among the decoded frames in presentation order, from 0; what annotations refer to.
        time_s: Presentation time from the first frame.
        duration_s: How long it is shown as far as the file says; 0 when it does not.
        picture: PyAV's frame.
    """

    frame_index: int
    time_s: Fraction
    duration_s: Fraction
    picture: Any


class VideoReader:
    """Read the frames of one video from its beginning; a context manager.

    Attributes:
        info: What the header declares.
        tick_s: Tick of the stream's clock.
        decoded_count: Frames decoded so far.
        end_s: When the last of them ends.
        damaged_count: Packets that could not be decoded, and frames that the decoder patched up.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        thread_count: int = 0,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Open the video.

        Args:
            path: The file.
            name: What to call it in errors; empty takes `path`.
            thread_count: Threads of the decoder; 0: one a core. With one, a damaged video gives the same pixels on
                every machine; others do so always.
            on_progress: Called with the number of frames decoded or passed over so far.

        Raises:
            MediaError: Not a readable video.
        """
        self._name = name or str(path)
        self._resources = ExitStack()
        self._container, self._stream = self._resources.enter_context(open_video(path, name=name))
        # PyAV's default, slices only, takes half as long again for H.264.
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = thread_count
        self._stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXEL_COUNT)}
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._matrix: tuple[int, ...] | None = None
        self._on_progress = on_progress
        self.info: VideoInfo = video_info(self._container, self._stream)
        self.tick_s = Fraction(self._stream.time_base or 1 / self.info.rate_hz)
        self.decoded_count = 0
        self.end_s = Fraction(0)
        self.damaged_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def frames(self) -> Iterator[DecodedFrame]:
        """Yield every frame that can be decoded, in presentation order.

        Damaged packets are counted and passed over, as players do.

        Raises:
            MediaError: Not one frame can be decoded.
        """
        clock = FrameClock(
            tick_s=self.tick_s,
            rate_hz=self.info.rate_hz,
            has_presentation_stamps=has_presentation_stamps(self._container),
        )
        for picture in self._pictures():
            time_s = clock.time_of(picture.pts, picture.dts)
            duration_s = (picture.duration or 0) * self.tick_s
            self.damaged_count += picture.is_corrupt
            yield DecodedFrame(self.decoded_count, time_s, duration_s, picture)
            self.decoded_count += 1
            self.end_s = time_s + (duration_s or 1 / self.info.rate_hz)
            self._on_progress(self.decoded_count)
        if self.decoded_count == 0:
            raise MediaError(
                f"{self._name}: no frame of its {self.info.codec} video can be decoded "
                f"({self.damaged_count} damaged packets); copy it again or convert it to H.264"
            )

    def frames_at(self, packets: Packets, places: Sequence[int]) -> Iterator[DecodedFrame]:
        """Yield some frames, decoding no more than these need: the same pixels and times as `frames`.

        Args:
            packets: Of this video, exact.
            places: Of the wanted frames in presentation order, ascending.

        Raises:
            PacketsMisleadError: A packet cannot be decoded or a frame is not where its packet says; decode all frames.
        """
        wanted = deque((place, int(packets.in_order[place])) for place in places)
        for picture in self._needed_pictures({stamp for _, stamp in wanted}, packets.needed_for(places)):
            self.decoded_count += 1
            if picture.is_corrupt:
                raise PacketsMisleadError(f"the frame at {picture.pts} is damaged")
            if wanted and picture.pts == wanted[0][1]:
                place, _ = wanted.popleft()
                yield DecodedFrame(place, packets.time_s(place), (picture.duration or 0) * self.tick_s, picture)
        if wanted:
            raise PacketsMisleadError(f"the frame at {wanted[0][1]} did not come")

    def _needed_pictures(self, stamps: set[int], is_needed: np.ndarray) -> Iterator[Any]:
        """Yield what the needed packets hold, less the frames that nobody wants and none leans on."""
        codec = self._stream.codec_context
        has_loose_frames = codec.name in _CODECS_WITH_LOOSE_FRAMES
        was_needed, count = False, 0
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue
                if count == len(is_needed):
                    raise PacketsMisleadError(f"more than {count} packets")
                if is_needed[count]:
                    if has_loose_frames:
                        codec.skip_frame = "DEFAULT" if packet.pts in stamps else "NONREF"
                    yield from self._stream.decode(packet)
                elif was_needed:
                    yield from self._stream.decode(None)
                    codec.flush_buffers()
                was_needed = is_needed[count]
                count += 1
                self._on_progress(count)
            if was_needed:
                yield from self._stream.decode(None)
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            raise PacketsMisleadError(str(error)) from error

    def _pictures(self) -> Iterator[Any]:
        for packet in self._packets():
            try:
                # None drains what the decoder still holds; PyAV keeps frames that came before a damaged packet.
                pictures = self._stream.decode(packet)
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:
                self.damaged_count += 1
                continue
            yield from pictures

    def _packets(self) -> Iterator[Any]:
        """Yield the packets and None after the last one, also where the file breaks off."""
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
            self.damaged_count += 1
        yield None

    def to_rgb(self, frame: DecodedFrame) -> np.ndarray:
        """Convert a frame to upright RGB.

        Colour matrix and range are those that the file states; where it states none, BT.601 and limited range, as
        FFmpeg and OpenCV do, so that a served frame has the colours of a training frame. High dynamic range (PQ, HLG)
        becomes usual range, see `visionyard.video.tone_mapping`; of 10 bits the upper 8 are kept, rounded; transparency
        is left out. Pixels stay as stored: a pixel aspect ratio is not applied, nor are interlaced lines merged.

        Returns:
            (H, W, 3) uint8.
        """
        is_hdr = frame.picture.color_trc in _HDR_TRANSFERS
        picture = self._reformatter.reformat(
            frame.picture,
            # With these flags libswscale 9.5 makes other colours in rgb48le.
            format="gbrp16le" if is_hdr else "rgb24",
            interpolation=_SCALING,
            dst_color_range=ColorRange.JPEG,
            threads=1,  # more would compete with the decoder's own
        )
        image = picture.to_ndarray()
        if is_hdr:
            from visionyard.video.tone_mapping import to_sdr

            stored = frame.picture
            image = to_sdr(image, transfer=int(stored.color_trc), primaries=int(stored.color_primaries))
        return upright(image, self._display_matrix(frame.picture))

    def _display_matrix(self, picture: Any) -> tuple[int, ...] | None:
        # Read anew only when the angle changes: in PyAV 18.1 `side_data` ties its frame into a cycle, and 3 MB a frame
        # then wait for the garbage collector.
        if picture.rotation != self._rotation:
            self._rotation, self._matrix = picture.rotation, display_matrix(picture)
        return self._matrix


def display_matrix(picture: Any) -> tuple[int, ...] | None:
    """Return the nine numbers of a frame's display matrix, None when it has none."""
    for side_data in picture.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            return _MATRIX.unpack(bytes(side_data)[: _MATRIX.size])
    return None


def upright(image: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Turn and mirror an image as its display matrix says, to the nearest right angle.

    Args:
        image: (H, W, C).
        matrix: a, b, u, c, d, v, x, y, w: a point (p, q) is shown at (a p + c q, b p + d q); None leaves it.

    Returns:
        (H, W, C) or (W, H, C), contiguous.

    Source: ISO/IEC 14496-12:2015, section 6.2.2.
    """
    if matrix is None:
        return image
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        is_mirrored, is_flipped = a < 0, d < 0
    else:
        image = image.transpose(1, 0, 2)
        is_mirrored, is_flipped = c < 0, b < 0
    return np.ascontiguousarray(image[:: -1 if is_flipped else 1, :: -1 if is_mirrored else 1])
