"""One clip into JPEGs: the chosen frames, what is left out, and what is complained of."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from visionyard.video.extraction import encode_jpeg, extract_clip
from visionyard.video.records import ClipExtraction, ExtractionSettings
from visionyard.video.selection import Look, choose, difference_hash, sharpness

MakeClip = Callable[..., Path]


def extract(path: Path, **settings: object) -> tuple[ClipExtraction, list[np.ndarray]]:
    images_path = path.with_name("images")
    extraction = extract_clip(path, images_path, ExtractionSettings(**{"rate_hz": 240.0, **settings}))
    data = images_path.read_bytes()
    images = [data[frame.offset : frame.offset + frame.size] for frame in extraction.frames]
    return extraction, [np.asarray(Image.open(io.BytesIO(image))) for image in images]


def indices(extraction: ClipExtraction) -> list[int]:
    return [frame.frame_index for frame in extraction.frames]


def test_frames_are_taken_by_time_and_written(make_clip: MakeClip, read_number: Callable[[np.ndarray], int]) -> None:
    extraction, images = extract(make_clip(count=25, rate=10), rate_hz=2.0)
    assert indices(extraction) == [0, 5, 10, 15, 20]
    assert [read_number(image) for image in images] == [0, 5, 10, 15, 20]
    assert [frame.timestamp_s for frame in extraction.frames] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert {(frame.width, frame.height) for frame in extraction.frames} == {(96, 64)}
    assert (extraction.frame_count, extraction.complaints) == (25, ())
    assert ClipExtraction.from_json(extraction.to_json()) == extraction


@pytest.mark.parametrize(
    ("rate_hz", "max_per_clip", "expected"),
    [
        pytest.param(240.0, 5, [0, 6, 12, 18, 24], id="of all frames"),
        pytest.param(2.0, 3, [0, 10, 20], id="of those at the rate"),
        pytest.param(2.0, 50, [0, 5, 10, 15, 20], id="more than there are"),
        pytest.param(240.0, 1, [12], id="one"),
    ],
)
def test_a_maximum_spreads_evenly(rate_hz: float, max_per_clip: int, expected: list[int], make_clip: MakeClip) -> None:
    extraction, _ = extract(make_clip(count=25), rate_hz=rate_hz, max_per_clip=max_per_clip)
    assert indices(extraction) == expected


def test_a_maximum_does_not_trust_the_header(make_clip: MakeClip) -> None:
    path = make_clip("clip.mkv", count=120, options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    everything, _ = extract(path)
    extraction, _ = extract(path, max_per_clip=4)
    count = everything.frame_count
    assert 10 < count < 110
    assert len(extraction.frames) == 4
    assert max(np.diff(indices(extraction))) - min(np.diff(indices(extraction))) <= 1
    assert indices(extraction)[-1] >= count - 2


def textured(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def test_blurred_frames_are_left_out(make_clip: MakeClip) -> None:
    images = [textured(number) for number in range(8)]
    images[3], images[6] = (cv2.GaussianBlur(images[number], (0, 0), 4) for number in (3, 6))
    path = make_clip("clip.mkv", images=images, codec="ffv1")
    extraction, _ = extract(path, drop_blurred=True)
    assert (indices(extraction), extraction.blurred_count) == ([0, 1, 2, 4, 5, 7], 2)


def test_frames_like_their_predecessor_are_left_out(make_clip: MakeClip) -> None:
    noise = np.random.default_rng(1)
    images = [cv2.add(textured(seed), noise.integers(0, 3, (64, 96, 3), np.uint8)) for seed in (0, 0, 0, 1, 1, 0)]
    path = make_clip("clip.mkv", images=images, codec="ffv1")
    extraction, _ = extract(path, drop_similar=True)
    assert (indices(extraction), extraction.similar_count) == ([0, 3, 5], 3)
    thinned, _ = extract(path, drop_similar=True, max_per_clip=2)
    assert indices(thinned) == [0, 5]


def test_an_even_wall_has_a_hash_without_noise() -> None:
    wall = np.random.default_rng(0).normal(120, 3, (480, 640)).astype(np.uint8)
    assert difference_hash(wall) == 0


def test_a_small_object_changes_the_hash() -> None:
    grey = np.full((480, 640), 90, np.uint8)
    grey[200:240, 100:140] = 200
    moved = np.roll(grey, 80, axis=1)
    assert (difference_hash(grey) ^ difference_hash(moved)).bit_count() > 4


def test_sharpness_equals_the_variance_of_neighbour_differences() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 11), np.uint8)
    wide = np.pad(grey.astype(float), 1, mode="reflect")
    laplacian = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * wide[1:-1, 1:-1]
    assert sharpness(grey) == pytest.approx(laplacian.var())


def test_choosing_among_none() -> None:
    choice = choose([], drop_blurred=True, drop_similar=True, max_count=3)
    assert (choice.indices, choice.blurred_count, choice.similar_count) == ([], 0, 0)


def test_of_black_frames_none_is_blurred() -> None:
    choice = choose([Look(0.0, 0)] * 3, drop_blurred=True, drop_similar=False, max_count=0)
    assert choice.indices == [0, 1, 2]


def test_a_truncated_clip_is_used_and_told(make_clip: MakeClip) -> None:
    path = make_clip("clip.mkv", count=60, options={"g": "10"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    extraction, images = extract(path)
    assert 10 < len(images) == extraction.frame_count < 50
    assert [code for code, _ in extraction.complaints][:1] == ["clip_truncated"]
    assert "declares 6.00 s" in extraction.complaints[0][1]


def test_frames_missing_in_between_are_told(make_clip: MakeClip) -> None:
    path = make_clip("clip.avi", codec="mpeg4", options={"g": "1"}, count=20)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets[5:12]:
        data = data.replace(packet, bytes(len(packet)))
    path.write_bytes(data)
    extraction, _ = extract(path)
    codes = [code for code, _ in extraction.complaints]
    assert "clip_frames_missing" in codes
    assert f"20 frames in 2.00 s, but {extraction.frame_count} frames" in extraction.complaints[0][1]


def test_a_sound_track_longer_than_the_pictures_is_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(video.encode())
        for second in range(9):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, second * 8000, Fraction(1, 8000)
            container.mux(sound.encode(frame))
    extraction, _ = extract(path)
    assert (extraction.frame_count, extraction.complaints) == (10, ())


def test_reading_the_packets_is_progress_too(make_clip: MakeClip, tmp_path: Path) -> None:
    told: list[int] = []
    extract_clip(make_clip(count=12), tmp_path / "images", ExtractionSettings(rate_hz=2.0), on_progress=told.append)
    first = next(place for place, frame_count in enumerate(told) if frame_count)
    assert (told[:12], told[-1]) == ([0] * 12, 12)
    assert first >= 12


@pytest.mark.parametrize(("quality", "expected"), [(95, (1, 1)), (90, (1, 1)), (89, (2, 2))])
def test_colour_is_kept_whole_at_high_quality(quality: int, expected: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(encode_jpeg(textured(0), quality)))
    horizontal, vertical = image.layer[0][1:3]
    assert (horizontal, vertical) == expected


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("car/highway-video02.avi", 748),
        ("defective/demo.avi", 51),
        ("defective/tree.avi", 68),
        ("person/worker-zone-detection.gif", 71),
        ("signing/again.mkv", 77),
    ],
)
def test_real_clips_give_the_known_number_of_frames(
    name: str, count: int, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    path = shared_data("videos") / name
    extraction = extract_clip(path, tmp_path / "images", ExtractionSettings(rate_hz=240.0, jpeg_quality=50))
    assert extraction.frame_count == len(extraction.frames) == count
    codes = [code for code, _ in extraction.complaints]
    assert codes == (["clip_frames_missing"] if "tree" in name else [])
