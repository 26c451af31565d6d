"""Open a video safely and tell what its header declares; a header is a claim, not the truth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from visionyard.errors import MediaError

# Containers that hold camera and screen recordings. Everything else FFmpeg would guess at stays shut: playlists (hls,
# dash, concat) name further files and addresses, and text or single images are no video.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,webp_anim,mpeg,mpegts,mpegvideo,flv,asf,ogg,h264,hevc,m4v,mjpeg,"
    "ivf,obu,av1,dv,mxf,nut,wav,mp3,flac,aac"
)
# 8K has 33 megapixels; four times that still decodes in about 2 GB with its reference frames.
MAX_FRAME_PIXEL_COUNT = 134_217_728
# The longest side a JPEG can have is 65,535; libjpeg stops at 65,500.
MAX_FRAME_SIDE_PX = 65_500
_FALLBACK_RATE_HZ = Fraction(25)


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video declares.

    Attributes:
        codec: FFmpeg's name of the codec, such as `h264`.
        rate_hz: Declared frames per second; 25 when nothing is declared.
        declared_frame_count: 0 when not declared.
        declared_duration_s: None when not declared for the video stream itself.
    """

    codec: str
    rate_hz: Fraction
    declared_frame_count: int
    declared_duration_s: float | None


@contextmanager
def open_video(path: Path, *, name: str = "") -> Iterator[tuple[Any, Any]]:
    """Open a video for reading, its format sniffed from its bytes and not taken from its name.

    Args:
        path: The file.
        name: What to call it in errors; empty takes `path`.

    Yields:
        PyAV's container and the video stream to read.

    Raises:
        MediaError: Missing, empty, not a video, without index, without picture, or with frames too large.
        MemoryError: There is not memory enough to open it.
    """
    name = name or str(path)
    if path.is_dir():
        raise MediaError(
            f"{name}: expected a video file, found a folder; a sequence of images is read as images, with "
            "data.group_pattern to keep it together"
        )
    if not path.is_file():
        raise MediaError(f"{name}: expected a video file, found none")
    if path.stat().st_size == 0:
        raise MediaError(f"{name}: the file is empty (0 bytes); copy or record it again")
    # One protocol only: a file that poses as a playlist must not make us open addresses or other files.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path), options=options, metadata_errors="replace")
    except av.error.MemoryError:
        raise  # no fault of the file
    except av.error.FFmpegError as error:
        raise MediaError(f"{name}: {_why_unreadable(path, error)}") from None
    with container:
        yield container, _video_stream(container, name)


def _why_unreadable(path: Path, error: av.error.FFmpegError) -> str:
    with path.open("rb") as stream:
        head = stream.read(12)
    if head[4:8] in {b"ftyp", b"mdat", b"moov", b"wide", b"free"}:
        return (
            "an MP4 or MOV whose index (the moov box) is missing or unreadable, as when a recording or a copy was cut "
            "short; copy it again or repair it"
        )
    return f"not a video of a known format ({error.strerror or error}); its first bytes are {head.hex(' ') or 'none'}"


def _video_stream(container: Any, name: str) -> Any:
    # Cover art of a sound file is a video stream to FFmpeg.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise MediaError(f"{name}: expected moving pictures, found {kinds} only")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: its codec is not known here; convert it to H.264")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_FRAME_PIXEL_COUNT or max(width, height) > MAX_FRAME_SIDE_PX:
        raise MediaError(
            f"{name}: its frames are {width}x{height} px; at most {MAX_FRAME_PIXEL_COUNT} pixels and "
            f"{MAX_FRAME_SIDE_PX} a side are decoded; scale it down first"
        )
    return stream


def video_info(container: Any, stream: Any) -> VideoInfo:
    """Return what an opened video declares."""
    rate = stream.average_rate or stream.guessed_rate or _FALLBACK_RATE_HZ
    return VideoInfo(
        codec=stream.codec_context.name,
        rate_hz=Fraction(rate) if rate > 0 else _FALLBACK_RATE_HZ,
        declared_frame_count=int(stream.frames),
        declared_duration_s=_declared_duration_s(container, stream),
    )


def _declared_duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    # Matroska has one duration for the file, which a longer sound track may set: it speaks for a lone stream only.
    if container.duration is not None and container.duration > 0 and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def has_presentation_stamps(container: Any) -> bool:
    """Tell whether a container says when frames are shown; AVI only counts packets in the order of decoding."""
    return bool(container.format.name != "avi")
