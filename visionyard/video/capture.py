"""Record clips from a camera, a network camera or a file; a clip appears whole or not at all."""

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange

from visionyard.errors import ConfigError, MediaError
from visionyard.video.decoding import VideoReader, display_matrix

# A camera on the local network answers in well under a second; ten leave room for one that has to wake up.
ANSWER_TIMEOUT_S = 10.0
_TICK_S = Fraction(1, 1000)
# Visually lossless, at the speed of a camera on one core.
_ENCODING = {"crf": "18", "preset": "veryfast"}
# FFmpeg's input for a camera known by its number.
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation"}


@dataclass(frozen=True)
class Device:
    """Where pictures come from.

    Attributes:
        address: As FFmpeg opens it; may hold a password, so it is never shown.
        name: What to call it.
        input_format: FFmpeg's word; empty for a file.
        is_live: Whether it gives pictures as time passes.
    """

    address: str = field(repr=False)
    name: str
    input_format: str = ""
    is_live: bool = True


@dataclass(frozen=True)
class RecordedClip:
    """A clip that was recorded.

    Attributes:
        path: The file.
        duration_s: From its first picture to its last.
        frame_count: Pictures.
        brightness: Mean luma of the pictures, 16 (black) to 235.
    """

    path: Path
    duration_s: float
    frame_count: int
    brightness: float


def find_device(text: str, *, platform: str = sys.platform) -> Device:
    """Return the device that a person names.

    Args:
        text: A camera's number, a path such as /dev/video0, an rtsp:// or rtsps:// address, or a video file.
        platform: As `sys.platform`.

    Raises:
        ConfigError: It is none of these.
    """
    if text.startswith(("rtsp://", "rtsps://")):
        return Device(text, _without_credentials(text), "rtsp")
    if text.isdecimal() or text.startswith("/dev/"):
        if platform not in _CAMERA_FORMATS:
            raise ConfigError(f"--device {text}: cameras are not supported on {platform}; use an rtsp:// address")
        is_linux_number = platform == "linux" and text.isdecimal()
        address = f"/dev/video{text}" if is_linux_number else text
        return Device(address, address if platform == "linux" else f"camera {text}", _CAMERA_FORMATS[platform])
    if Path(text).is_file():
        return Device(text, text, is_live=False)
    raise ConfigError(
        f"--device {_without_credentials(text)}: expected a camera's number (0), a path (/dev/video0), an rtsp:// "
        "address or a video file that exists"
    )


def _without_credentials(address: str) -> str:
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check_device(device: Device) -> tuple[int, int]:
    """Open a device, wait for its first picture, and return the width and height of it.

    Raises:
        MediaError: It is not there, not allowed, in use, silent, or no video.
    """
    for _, picture in _pictures(device):
        return picture.width, picture.height
    raise MediaError(f"{device.name}: it gives no pictures; try it in another program")


def record_clip(
    device: Device,
    folder: Path,
    class_name: str,
    *,
    seconds: float,
    after_s: float = 0.0,
    on_time: Callable[[float], None] = lambda _: None,
) -> RecordedClip:
    """Record a clip, without sound, to `<folder>/<class>/<class>-001.mp4` or the next number that is free.

    Args:
        device: Where pictures come from.
        folder: Of all classes.
        class_name: Of the clip.
        seconds: Length of the clip.
        after_s: Pictures before this time are passed over: a camera finds its exposure, a person gets into place.
        on_time: Called with the time of each picture, in seconds from the first recorded one; negative before it.

    Raises:
        MediaError: The device cannot be read, or ends before the clip does; then there is no clip.
    """
    with _new_clip(folder / class_name, class_name) as (partial, path):
        recorded = _record(device, partial, seconds=seconds, after_s=after_s, on_time=on_time)
        partial.rename(path)
    return replace(recorded, path=path)


@contextmanager
def _new_clip(folder: Path, class_name: str) -> Iterator[tuple[Path, Path]]:
    """Yield the paths of a hidden partial file that is ours alone, and of the clip that it is to become."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        path = folder / f"{class_name}-{number:03d}.mp4"
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.touch(exist_ok=False)
        except FileExistsError:  # another session records it
            continue
        if not path.exists():  # asked when nobody else can make it any more
            break
        partial.unlink()
    try:
        yield partial, path
    finally:
        partial.unlink(missing_ok=True)


def _record(
    device: Device, path: Path, *, seconds: float, after_s: float, on_time: Callable[[float], None]
) -> RecordedClip:
    frame_count, last_s, brightness = 0, 0.0, 0.0
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for time_s, picture in _pictures(device):
            clip_s = time_s - after_s
            on_time(clip_s)
            if clip_s < 0:
                continue
            if clip_s >= seconds and frame_count:
                break
            stream = stream or _add_stream(container, picture)
            last_s = clip_s
            frame = picture.reformat(stream.width, stream.height, "yuv420p", dst_color_range="MPEG")
            frame.pts, frame.time_base = round(clip_s / _TICK_S), _TICK_S
            brightness += float(np.mean(frame.to_ndarray()[: stream.height]))
            container.mux(stream.encode(frame))
            frame_count += 1
        else:
            # The last picture is taken to be shown as long as the others.
            end_s = last_s * frame_count / (frame_count - 1) if frame_count > 1 else 0.0
            if end_s < seconds - float(_TICK_S):
                raise MediaError(
                    f"{device.name}: the pictures ended after {end_s:.1f} of {seconds:g} s; this clip is not kept; "
                    + (
                        "is it still plugged in and in reach?"
                        if device.is_live
                        else "take a longer file, or fewer seconds"
                    )
                )
        container.mux(stream.encode())
    return RecordedClip(path, last_s, frame_count, brightness / frame_count)


def _add_stream(container: Any, picture: Any) -> Any:
    stream = container.add_stream("libx264", rate=30, options=_ENCODING)
    # Colour is stored for two by two pixels: an odd last line or column is left out.
    stream.width, stream.height = picture.width // 2 * 2, picture.height // 2 * 2
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = _TICK_S
    # What the picture says of itself goes along: without it a clip in HD would be read with the colours of SD, and one
    # of a phone would lie on its side.
    coded = picture.reformat(format="yuv420p")
    context = stream.codec_context
    context.colorspace, context.color_range = coded.colorspace, ColorRange.MPEG
    context.color_primaries, context.color_trc = coded.color_primaries, coded.color_trc
    stream.set_display_matrix(display_matrix(picture))
    return stream


def _pictures(device: Device) -> Iterator[tuple[float, Any]]:
    """Yield time in seconds and PyAV's frame, each time later than the one before."""
    if not device.is_live:
        with VideoReader(Path(device.address), name=device.name) as reader:
            for frame in reader.frames():
                yield float(frame.time_s), frame.picture
        return
    # When it arrived: stamps of network cameras jump when their clock is set.
    started, last_s = time.monotonic(), -1.0
    heard = started
    options = {"rtsp_transport": "tcp"} if device.input_format == "rtsp" else {}
    try:
        with av.open(device.address, format=device.input_format, options=options, timeout=ANSWER_TIMEOUT_S) as camera:
            for picture in camera.decode(video=0):
                heard = time.monotonic()
                last_s = max(heard - started, last_s + float(_TICK_S))
                yield last_s, picture
    except av.error.FFmpegError as error:
        # FFmpeg's own words hold the address, and with it a password.
        raise MediaError(f"{device.name}: {_why_unreadable(error, time.monotonic() - heard)}") from None


def _why_unreadable(error: av.error.FFmpegError, silent_s: float) -> str:
    if isinstance(error, av.error.HTTPUnauthorizedError):
        return (
            "it refuses user and password; set the whole address as VISIONYARD_DEVICE=rtsp://USER:PASSWORD@HOST/PATH, "
            "which no shell history keeps"
        )
    if silent_s >= ANSWER_TIMEOUT_S or error.errno == errno.ETIMEDOUT:  # told as other errors too
        return f"it did not answer for {ANSWER_TIMEOUT_S:g} s; check address, port and network"
    if error.errno == errno.ENOENT:
        found = ", ".join(sorted(map(str, Path("/dev").glob("video*"))))
        return f"there is no such camera; plug it in, or name one of those there are: {found or 'none was found'}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "this user may not open it; join the group video (sudo usermod -aG video $USER) and log in again"
    if error.errno == errno.EBUSY:
        return "another program uses it; close that one"
    if error.errno in {errno.ENODEV, errno.EIO, errno.ENXIO}:
        return "it is gone; is it still plugged in?"
    return f"it cannot be read ({error.strerror or type(error).__name__})"
