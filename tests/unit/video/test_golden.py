"""Clips made by the ffmpeg command: times against ffprobe, pixels against ffmpeg's own conversion."""

import json
import random
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.video import extraction as extraction_module
from visionyard.video.decoding import VideoReader
from visionyard.video.extraction import extract_clip
from visionyard.video.packets import Packets, read_packets
from visionyard.video.records import ClipExtraction, ExtractionSettings

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")

SIZE = "96x64"
MOVING = f"testsrc2=size={SIZE}:rate=25:duration=4"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
PYRAMID = "-c:v libx264 -preset fast -bf 3 -b_strategy 0 -x264-params b-pyramid=normal:keyint=25:scenecut=0"
HIDDEN_FRAMES = "-deadline realtime -g 30 -auto-alt-ref 1 -lag-in-frames 10 -b:v 200k"
# Each: arguments for ffmpeg after `-i MOVING`, the file's name.
CLIPS = {
    "B-frames": (f"{PYRAMID} -pix_fmt yuv420p", "clip.mp4"),
    "open GOPs": (f"{PYRAMID}:open-gop=1 -pix_fmt yuv420p", "clip.mkv"),
    "HEVC": ("-c:v libx265 -x265-params log-level=none:keyint=20:bframes=3 -pix_fmt yuv420p", "clip.mp4"),
    "HEVC 10 bits": ("-c:v libx265 -x265-params log-level=none:keyint=20 -pix_fmt yuv420p10le", "clip.mkv"),
    "H.264 10 bits": (f"{PYRAMID} -pix_fmt yuv420p10le", "clip.mp4"),
    "VP9 with frames that are not shown": (f"-c:v libvpx-vp9 -cpu-used 8 {HIDDEN_FRAMES}", "clip.webm"),
    "VP8": (f"-c:v libvpx {HIDDEN_FRAMES}", "clip.webm"),
    "variable rate": (f"{H264} -vf setpts='N*N/(400*TB)' -fps_mode vfr -video_track_timescale 90000", "clip.mp4"),
    "start later": (f"{PYRAMID} -pix_fmt yuv420p -output_ts_offset 7.3", "clip.mkv"),
    "negative offsets": (f"{PYRAMID} -pix_fmt yuv420p -movflags negative_cts_offsets", "clip.mp4"),
    "fragments": (f"{PYRAMID} -pix_fmt yuv420p -movflags frag_keyframe+empty_moov", "clip.mp4"),
    "transport stream": (f"{PYRAMID} -pix_fmt yuv420p", "clip.ts"),
    "4:4:4": (f"{H264.replace('yuv420p', 'yuv444p')} -g 20", "clip.mp4"),
    "4:4:4 10 bits": ("-c:v ffv1 -g 5 -pix_fmt yuv444p10le", "clip.mkv"),
    "grey": ("-c:v ffv1 -pix_fmt gray", "clip.mkv"),
    "grey 10 bits": ("-c:v ffv1 -pix_fmt gray10le", "clip.mkv"),
    "RGB": ("-c:v libx264rgb -g 10 -pix_fmt rgb24", "clip.mkv"),
    "full range": ("-c:v mjpeg -q:v 2 -pix_fmt yuvj420p", "clip.mkv"),
    "full range, stated": (f"{H264} -vf scale=out_range=full -color_range pc -g 20", "clip.mp4"),
    "BT.709, stated": (f"{H264} -vf scale=out_color_matrix=bt709 -colorspace bt709 -color_range tv", "clip.mp4"),
    "alpha": ("-c:v ffv1 -vf format=yuva420p -pix_fmt yuva420p", "clip.mkv"),
    "ProRes": ("-c:v prores_ks", "clip.mov"),
    "odd size": ("-c:v ffv1 -vf scale=95:63 -pix_fmt yuv444p", "clip.mkv"),
}  # fmt: skip


# Each: arguments for a copy of the clip "B-frames" without encoding it again, the file's name.
COPIES = {
    "edit list that begins within a GOP": ("-ss 1.3", "-c copy", "clip.mp4"),
    "edit list that leaves a gap first": ("-itsoffset 2", "-c copy -movflags +use_metadata_tags", "clip.mp4"),
    "negative stamps": ("-itsoffset -1.5", "-c copy -avoid_negative_ts disabled", "clip.mp4"),
    "negative stamps in QuickTime": ("-itsoffset -0.7", "-c copy -avoid_negative_ts disabled", "clip.mov"),
    "a quarter clockwise": ("", "-c copy -metadata:s:v rotate=270", "clip.mp4"),
    "upside down": ("", "-c copy -metadata:s:v rotate=180", "clip.mov"),
    "a quarter anticlockwise": ("", "-c copy -metadata:s:v rotate=90", "clip.mp4"),
    "cut at both ends": ("-ss 0.5 -t 2", "-c copy", "clip.mkv"),
}

TURNS = {
    "a quarter clockwise": ",transpose=clock",
    "upside down": ",hflip,vflip",
    "a quarter anticlockwise": ",transpose=cclock",
}


def ffmpeg(*arguments: str | Path) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-bitexact", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make(folder: Path, name: str) -> Path:
    before, after, file = COPIES.get(name, ("", "", ""))
    arguments, whole = CLIPS["B-frames" if file else name]
    path = folder / f"whole-{whole}"
    ffmpeg("-f", "lavfi", "-i", MOVING, *shlex.split(arguments), path)
    if not file:
        return path
    ffmpeg(*shlex.split(before), "-i", path, *shlex.split(after), folder / file)
    return folder / file


def shown_times(path: Path) -> list[float]:
    """Return what ffprobe says of the decoded frames, from the first one."""
    entries = ["-show_entries", "frame=best_effort_timestamp_time", "-select_streams", "v:0"]
    command = ["ffprobe", "-v", "error", *entries, "-of", "json", str(path)]
    frames = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["frames"]
    times = [float(frame["best_effort_timestamp_time"]) for frame in frames]
    return [time_s - times[0] for time_s in times]


def shown_images(path: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the frames as ffmpeg's zimg converts them, which shares no code with swscale; (N, H, W, 3)."""
    arguments = CLIPS.get(name, CLIPS["B-frames"])[0]
    matrix = "709" if "bt709" in arguments else "470bg"
    levels = "full" if "full" in arguments or "yuvj" in arguments else "limited"
    # H.264 and HEVC place a colour sample beside the left of its two columns unless they say otherwise.
    place = "left" if "x264" in arguments or "x265" in arguments else "center"
    zimg = f"zscale=filter=bilinear:matrixin={matrix}:rangein={levels}:range=full:chromalin={place},format=gbrp,"
    # Turned last, so that the place of the colour samples is that of the stored picture.
    chain = f"{'' if 'gray' in arguments or 'rgb' in arguments else zimg}format=rgb24{TURNS.get(name, '')}"
    data = ffmpeg(
        "-noautorotate",
        "-i",
        path,
        "-fps_mode",
        "passthrough",
        "-vf",
        chain,
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    )
    return np.frombuffer(data, np.uint8).reshape(-1, *shape)


@pytest.mark.parametrize("name", [*CLIPS, *COPIES])
def test_times_and_pixels_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, name)
    with VideoReader(path) as reader:
        frames = [(float(frame.time_s), reader.to_rgb(frame)) for frame in reader.frames()]
    assert [time_s for time_s, _ in frames] == pytest.approx(shown_times(path), abs=0.001)
    expected = shown_images(path, name, frames[0][1].shape)
    assert len(frames) == len(expected) >= 45
    difference = np.abs(np.array([image for _, image in frames]).astype(int) - expected)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 4


def extract(path: Path, **settings: object) -> tuple[ClipExtraction, list[bytes]]:
    images_path = path.with_name("images")
    thread_count = int(str(settings.pop("thread_count", 0)))
    extraction = extract_clip(path, images_path, ExtractionSettings(**settings), thread_count=thread_count)
    data = images_path.read_bytes()
    return extraction, [data[frame.offset : frame.offset + frame.size] for frame in extraction.frames]


@pytest.fixture
def decode_all(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after whose call no frame is left out of the decoding."""

    def read(path: Path, **options: Any) -> Packets:
        return replace(read_packets(path, **options), is_exact=False)

    return lambda: monkeypatch.setattr(extraction_module, "read_packets", read)


RATES = [
    {"rate_hz": 0.4},
    {"rate_hz": 1.3, "thread_count": 1},
    {"rate_hz": 2.0, "thread_count": 2},
    {"rate_hz": 7.0},
    {"rate_hz": 5.0, "max_per_clip": 3},
    {"rate_hz": 240.0},
]


@pytest.mark.parametrize("name", [*CLIPS, *COPIES])
def test_decoding_sparingly_gives_what_decoding_all_gives(
    name: str, tmp_path: Path, decode_all: Callable[[], None]
) -> None:
    path = make(tmp_path, name)
    sparing = [extract(path, **settings) for settings in RATES]
    decode_all()
    for settings, (extraction, images) in zip(RATES, sparing):
        expected, expected_images = extract(path, **settings)
        assert replace(extraction, decoded_count=0) == replace(expected, decoded_count=0)
        assert images == expected_images
        assert expected.decoded_count == expected.frame_count >= extraction.decoded_count


@pytest.mark.parametrize(
    ("name", "rate_hz", "most"),
    [
        # 4 s: frames 0 and 62 are wanted; key frames at 0, 25, 50, 75; two of three B-frames are left out.
        pytest.param("B-frames", 0.4, 10, id="only the way from the key frame"),
        pytest.param("B-frames", 2.0, 60, id="loose B-frames"),
        pytest.param("ProRes", 2.0, 8, id="key frames only"),
        pytest.param("4:4:4", 0.5, 20, id="H.264 without B-frames"),
        pytest.param("transport stream", 0.4, 100, id="packets that promise nothing"),
        pytest.param("VP8", 0.4, 100, id="frames that are not shown"),
    ],
)
def test_little_is_decoded_for_few_frames(name: str, rate_hz: float, most: int, tmp_path: Path) -> None:
    extraction, _ = extract(make(tmp_path, name), rate_hz=rate_hz)
    assert extraction.decoded_count <= most
    assert extraction.frame_count >= 97


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) * 7 // 10],
    "zeros": lambda data: data[: len(data) * 7 // 10] + bytes(len(data) - len(data) * 7 // 10),
    "ones": lambda data: data[: len(data) * 7 // 10] + b"\xff" * (len(data) - len(data) * 7 // 10),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("arguments", [f"{PYRAMID} -pix_fmt yuv420p", CLIPS["HEVC"][0]], ids=["H.264", "HEVC"])
def test_a_damaged_end_is_left_out_and_told(arguments: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", MOVING, *shlex.split(arguments), "-movflags", "+faststart", path)
    _, whole_images = extract(path, rate_hz=240.0)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    extraction, images = extract(path, rate_hz=240.0, thread_count=2)
    assert (extraction, images) == extract(path, rate_hz=240.0, thread_count=1)
    assert 40 < len(images) < 90
    # The last one or two may lean on what is lost, without a word of the decoder.
    assert images[:-2] == whole_images[: len(images) - 2]
    code, message = extraction.complaints[0]
    assert code == "clip_truncated"
    assert f"{100 - extraction.frame_count} frames and " in message
    assert " s are lost" in message


@pytest.mark.parametrize("seed", range(3))
def test_bits_that_flipped_give_the_same_frames_whatever_the_threads(seed: int, tmp_path: Path) -> None:
    path = make(tmp_path, "B-frames")
    data, generator = bytearray(path.read_bytes()), random.Random(seed)
    first = data.index(b"mdat") + 1000
    for _ in range(3):
        data[generator.randrange(first, data.index(b"moov", first))] ^= 1 << generator.randrange(8)
    path.write_bytes(data)
    results = [extract(path, rate_hz=5.0, thread_count=thread_count) for thread_count in (1, 2, 4)]
    assert results[0] == results[1] == results[2]
    assert [code for code, _ in results[0][0].complaints] == ["clip_damaged"]


def test_packets_that_mislead_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decode_all: Callable[[], None]
) -> None:
    path = make(tmp_path, "B-frames")

    def shifted(path: Path, **options: Any) -> Packets:
        packets = read_packets(path, **options)
        return replace(packets, stamps=packets.stamps + 1)

    monkeypatch.setattr(extraction_module, "read_packets", shifted)
    extraction, images = extract(path, rate_hz=2.0)
    decode_all()
    assert (extraction, images) == extract(path, rate_hz=2.0)
