"""High dynamic range: known lights against the standard's formulas, and against ffmpeg's zimg."""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from visionyard.video.decoding import VideoReader
from visionyard.video.tone_mapping import BT2020, HLG, PQ, hlg_to_scene, nits_to_pq, pq_to_nits, pressed, to_sdr


def write_patches(path: Path, colours: list[tuple[int, int, int]], transfer: int) -> Path:
    """Encode a 10-bit BT.2020 clip of one frame for each even colour (Y, Cb, Cr), limited range."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        for colour in colours:
            frame = av.VideoFrame(32, 32, "yuv420p10le")
            for tagged in (frame, context):
                tagged.colorspace, tagged.color_primaries, tagged.color_trc, tagged.color_range = 9, 9, transfer, 1
            for plane, value in zip(frame.planes, colour):
                plane.update(np.full(plane.buffer_size // 2, value, "<u2").tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [reader.to_rgb(frame)[16, 16] for frame in reader.frames()]


@pytest.mark.parametrize(
    ("signal", "nits"), [(0.0, 0.0), (0.5081, 100.0), (0.5807, 203.0), (0.7518, 1000.0), (1.0, 10000.0)]
)
def test_pq_at_published_points(signal: float, nits: float) -> None:
    """Points of BT.2408, table 1, and of SMPTE ST 2084."""
    assert pq_to_nits(np.array(signal)) == pytest.approx(nits, rel=0.002)
    assert nits_to_pq(np.array(nits)) == pytest.approx(signal, abs=0.0002)


@pytest.mark.parametrize(("signal", "scene"), [(0.0, 0.0), (0.5, 1 / 12), (1.0, 1.0), (0.75, 0.2650)])
def test_hlg_at_published_points(signal: float, scene: float) -> None:
    """The ends and the joint of BT.2100, table 5; 75 % is the reference white of BT.2408."""
    assert hlg_to_scene(np.array(signal)) == pytest.approx(scene, abs=0.0005)


def test_highlights_are_pressed_in_order_and_the_rest_is_left() -> None:
    nits = np.array([0.0, 0.1, 10.0, 50.0, 85.0, 150.0, 203.0, 400.0, 800.0, 1000.0, 4000.0])
    result = pressed(nits)
    np.testing.assert_allclose(result[:5], nits[:5], rtol=1e-6)
    assert all(lower < upper for lower, upper in pairwise(result[:10]))
    np.testing.assert_allclose(result[-2:], 203, rtol=1e-6)


@pytest.mark.parametrize("nits", [1.0, 20.0, 50.0, 80.0])
def test_a_grey_below_the_knee_is_the_same_light_on_a_usual_screen(nits: float, tmp_path: Path) -> None:
    luma = round(64 + 876 * float(nits_to_pq(np.array(nits))))
    seen = float(pq_to_nits(np.array((luma - 64) / 876)))
    (pixel,) = decode(write_patches(tmp_path / "pq.mkv", [(luma, 512, 512)], PQ))
    np.testing.assert_allclose(pixel, 255 * (seen / 203) ** (1 / 2.4), atol=1)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["PQ", "HLG"])
def test_brighter_greys_stay_brighter_and_grey(transfer: int, tmp_path: Path) -> None:
    lumas = range(64, 941, 36)
    pixels = decode(write_patches(tmp_path / "greys.mkv", [(luma, 512, 512) for luma in lumas], transfer))
    levels = [int(pixel[1]) for pixel in pixels]
    assert all(np.ptp(pixel.astype(int)) <= 1 for pixel in pixels)
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 255)


def test_hlg_white_is_bright_but_not_clipped(tmp_path: Path) -> None:
    """75 % HLG, where white paper belongs, is 203 cd/m2 on a screen of 1000: below white after the knee."""
    (pixel,) = decode(write_patches(tmp_path / "hlg.mkv", [(64 + round(876 * 0.75), 512, 512)], HLG))
    np.testing.assert_allclose(pixel, 255 * (float(pressed(np.array(203.0))) / 203) ** (1 / 2.4), atol=2)
    assert pixel.max() < 245


def test_bands_leave_no_seam() -> None:
    rows = np.linspace(0, 40000, 300, dtype=np.uint16)
    image = np.repeat(rows[:, np.newaxis, np.newaxis], 3, axis=2).repeat(2, axis=1)
    whole = to_sdr(image, transfer=PQ, primaries=BT2020)
    single = np.concatenate([to_sdr(image[row : row + 1], transfer=PQ, primaries=BT2020) for row in range(300)])
    np.testing.assert_array_equal(whole, single)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["PQ", "HLG"])
def test_colours_below_the_knee_are_those_of_zimg(transfer: int, tmp_path: Path) -> None:
    colours = [(300, 480, 560), (360, 540, 500), (250, 520, 520), (380, 500, 530)]
    path = write_patches(tmp_path / "colours.mkv", colours, transfer)
    name = "smpte2084" if transfer == PQ else "arib-std-b67"
    source = f"matrixin=2020_ncl:primariesin=2020:transferin={name}:rangein=limited"
    chain = f"zscale={source}:matrix=gbr:primaries=709:transfer=linear:npl=203:range=full:agamma=false,format=gbrpf32le"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", chain, "-f", "rawvideo", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    green, blue, red = np.frombuffer(data, "<f4").reshape(len(colours), 3, 32, 32)[:, :, 16, 16].T
    light = np.clip(np.stack([red, green, blue], axis=1), 0, 1)
    assert light.max() < 0.45  # of 203 cd/m2: the knee is not reached
    np.testing.assert_allclose(decode(path), 255 * light ** (1 / 2.4), atol=2)
