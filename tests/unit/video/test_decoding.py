"""Decoding: order, times, orientation, colour, and files that are not what they seem."""

import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from visionyard.errors import MediaError
from visionyard.video.decoding import VideoReader, upright
from visionyard.video.packets import read_packets
from visionyard.video.probe import VideoInfo

MakeClip = Callable[..., Path]
ReadNumber = Callable[[np.ndarray], int]


def decode(path: Path) -> list[tuple[int, Fraction, np.ndarray]]:
    with VideoReader(path) as reader:
        return [(frame.frame_index, frame.time_s, reader.to_rgb(frame)) for frame in reader.frames()]


def header(path: Path) -> VideoInfo:
    with VideoReader(path) as reader:
        return reader.info


@pytest.mark.parametrize(
    "clip",
    [
        pytest.param({"options": {"bf": "3", "g": "30", "b_strategy": "0"}}, id="B-frames"),
        pytest.param({"rate": Fraction(30000, 1001)}, id="29.97 Hz"),
        pytest.param({"name": "clip.avi", "codec": "mpeg4", "rate": 10}, id="AVI"),
        pytest.param({"name": "clip.avi", "codec": "mpeg4", "options": {"bf": "2"}}, id="AVI with B-frames"),
        pytest.param({"name": "clip.mkv", "codec": "ffv1", "pix_fmt": "yuv420p10le"}, id="10 bits"),
        pytest.param({"name": "clip.gif", "codec": "gif", "pix_fmt": "rgb8"}, id="GIF"),
        pytest.param({"name": "mp4.avi", "container_format": "mp4"}, id="ending of another format"),
        pytest.param({"name": "noending", "container_format": "matroska", "codec": "vp9"}, id="no ending"),
        pytest.param({"name": "raw.h264"}, id="no container and no times"),
    ],
)
def test_frames_come_in_presentation_order(
    clip: dict[str, object], make_clip: MakeClip, read_number: ReadNumber
) -> None:
    path = make_clip(**clip)
    rate = Fraction(clip.get("rate", 10)) if clip.get("name") != "raw.h264" else header(path).rate_hz
    frames = decode(path)
    assert [read_number(image) for _, _, image in frames] == list(range(12))
    assert [index for index, _, _ in frames] == list(range(12))
    assert [float(time_s) for _, time_s, _ in frames] == pytest.approx([n / rate for n in range(12)], abs=0.0011)


def test_variable_rate_keeps_its_times(make_clip: MakeClip, read_number: ReadNumber) -> None:
    ticks = [1000, 1040, 1400, 1401, 3000, 3050]
    path = make_clip("vfr.mkv", count=6, ticks=ticks, tick_s=Fraction(1, 1000))
    frames = decode(path)
    assert [(read_number(image), time_s * 1000) for _, time_s, image in frames] == [
        (number, tick - 1000) for number, tick in enumerate(ticks)
    ]
    assert [read_packets(path).time_s(place) * 1000 for place in range(6)] == [tick - 1000 for tick in ticks]


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Overwrite a, b, c, d of the track header's matrix (ISO/IEC 14496-12, 8.3.2) with whole numbers."""
    data = bytearray(path.read_bytes())
    identity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    place = data.index(identity, data.index(b"tkhd"))
    a, b, c, d = (value * 0x10000 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        pytest.param((1, 0, 0, 1), lambda image: image, id="upright"),
        pytest.param((0, 1, -1, 0), lambda image: np.rot90(image, -1), id="a quarter clockwise"),
        pytest.param((-1, 0, 0, -1), lambda image: np.rot90(image, 2), id="upside down"),
        pytest.param((0, -1, 1, 0), lambda image: np.rot90(image, 1), id="a quarter anticlockwise"),
        pytest.param((-1, 0, 0, 1), np.fliplr, id="mirrored"),
        pytest.param((1, 0, 0, -1), np.flipud, id="flipped"),
        pytest.param((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2), id="transposed"),
    ],
)
def test_orientation_is_applied(
    matrix: tuple[int, int, int, int], turn: Callable[[np.ndarray], np.ndarray], make_clip: MakeClip
) -> None:
    path = make_clip(count=2)
    stored = decode(path)[0][2]
    set_display_matrix(path, matrix)
    shown = decode(path)[0][2]
    np.testing.assert_array_equal(shown, turn(stored))


def test_no_matrix_leaves_the_image() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    assert upright(image, None) is image


# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020.
MATRICES = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 2: (0.299, 0.114)}


def rgb_of(y: float, cb: float, cr: float, colorspace: int, is_full: bool) -> np.ndarray:
    """Return the colour by the equations of ITU-T H.273, section 8.3, in 8 bits."""
    kr, kb = MATRICES[colorspace]
    luma = y / 255 if is_full else (y - 16) / 219
    blue, red = ((value - 128) / (255 if is_full else 224) for value in (cb, cr))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.array([r, g, b]) * 255, 0, 255)


@pytest.mark.parametrize("is_full", [False, True], ids=["limited range", "full range"])
@pytest.mark.parametrize("colorspace", [5, 1, 9, 2], ids=["BT.601", "BT.709", "BT.2020", "not stated"])
@pytest.mark.parametrize("yuv", [(120, 90, 170), (60, 140, 120), (200, 118, 132)])
def test_colours_follow_the_stated_matrix_and_range(
    yuv: tuple[int, int, int], colorspace: int, is_full: bool, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, 2 if is_full else 1
        frame = av.VideoFrame(32, 32, "yuv420p")
        frame.colorspace, frame.color_range = colorspace, 2 if is_full else 1
        for plane, value in zip(frame.planes, yuv):
            plane.update(bytes([value]) * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    image = decode(path)[0][2]
    np.testing.assert_allclose(image[16, 16], rgb_of(*yuv, colorspace, is_full), atol=2)


def test_frames_of_odd_size(make_clip: MakeClip) -> None:
    images = [np.full((33, 47, 3), (200, 30, 60), np.uint8)] * 2
    path = make_clip("odd.mkv", images=images, codec="ffv1", pix_fmt="yuv444p")
    image = decode(path)[0][2]
    assert image.shape == (33, 47, 3)
    np.testing.assert_allclose(image, images[0], atol=3)


def _write_zero_byte(path: Path) -> None:
    path.write_bytes(b"")


def _write_text(path: Path) -> None:
    path.write_text("this is no video\n" * 100, encoding="utf-8")


def _write_png(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, "PNG")


def _write_sound(path: Path) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(bytes(16000))


def _write_playlist(path: Path) -> None:
    text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda path: None, "expected a video file, found none", id="missing"),
        pytest.param(Path.mkdir, "found a folder; a sequence of images is read as images", id="folder"),
        pytest.param(_write_zero_byte, r"empty \(0 bytes\)", id="zero bytes"),
        pytest.param(_write_text, "not a video of a known format .*74 68 69 73", id="text"),
        pytest.param(_write_png, "not a video of a known format .*89 50 4e 47", id="image"),
        pytest.param(_write_sound, "expected moving pictures, found audio only", id="sound"),
        pytest.param(_write_playlist, "not a video of a known format", id="playlist that names an address"),
    ],
)
def test_what_is_no_video_is_refused(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path)
    with pytest.raises(MediaError, match=message) as caught:
        VideoReader(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_an_mp4_without_index_is_named_so(make_clip: MakeClip) -> None:
    path = make_clip()
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(MediaError, match=r"index \(the moov box\) is missing"):
        VideoReader(path)


def test_frames_too_large_are_refused_before_decoding(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionyard.video.probe.MAX_FRAME_PIXEL_COUNT", 96 * 64 - 1)
    with pytest.raises(MediaError, match="96x64 px"):
        VideoReader(make_clip())


def test_a_video_without_one_decodable_frame_is_refused(make_clip: MakeClip) -> None:
    path = make_clip("clip.mkv", codec="ffv1", count=3)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets:
        data = data.replace(packet, b"\xff" * len(packet))
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"no frame of its ffv1 video can be decoded \([1-9]"):
        decode(path)


def test_damaged_packets_are_counted_and_passed_over(make_clip: MakeClip, read_number: ReadNumber) -> None:
    path = make_clip("clip.mkv", codec="ffv1", options={"g": "1"}, count=8)
    with av.open(str(path)) as container:
        third = [bytes(packet) for packet in container.demux(video=0) if packet.size][3]
    path.write_bytes(path.read_bytes().replace(third, b"\xff" * len(third)))
    with VideoReader(path) as reader:
        numbers = [read_number(reader.to_rgb(frame)) for frame in reader.frames()]
        assert reader.damaged_count == 1
    assert numbers == [0, 1, 2, 4, 5, 6, 7]


def test_what_the_header_declares(make_clip: MakeClip) -> None:
    info = header(make_clip(count=12, rate=10))
    assert (info.codec, info.rate_hz) == ("h264", 10)
    assert (info.declared_frame_count, info.declared_duration_s) == (12, pytest.approx(1.2))
