"""Frame extraction against the ffmpeg command doing the same work, and memory against clip length.

    python benchmarks/frame_extraction.py [--repeats 3]

Makes a 60 s clip of 1080p H.264 (30 Hz, about 8 Mbit/s, B-frames, moving texture and camera noise, seed 0) and one of
240 s from four times its packets; takes 2 images a second from the first by `extract_frames` and by ffmpeg in turns,
and measures the peak memory of `extract_frames` with its decoder processes on both. Prints a Markdown table; the CPU
time is there to tell a busy machine from slow code. Takes about three minutes on two idle cores and 1 GB of the
temporary folder; needs Linux and ffmpeg on the path.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from visionyard.data.artifacts import CLIPS, SHARDS, write_manifest
from visionyard.data.extract_frames import extract_frames
from visionyard.data.items import Clip, write_json_lines
from visionyard.data.shards import ShardWriter
from visionyard.digests import sha256_file

WIDTH, HEIGHT, FPS, DURATION_S = 1920, 1080, 30, 60
RATE_HZ = 2.0
LENGTHENING = 4


def make_clip(path: Path, duration_s: int) -> None:
    """Encode a camera that pans over a texture, with a disc that moves and fresh noise in every frame."""
    generator = np.random.default_rng(0)
    texture = generator.integers(0, 256, (HEIGHT // 8 + 40, WIDTH // 8 + 300, 3), dtype=np.uint8)
    enlarged = cv2.resize(texture, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    scene: np.ndarray = np.asarray(cv2.GaussianBlur(enlarged, (0, 0), 4), np.uint8)
    noises = [generator.integers(0, 8, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(5)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 8_000_000
        for number in range(duration_s * FPS):
            left, top = int(1000 + 900 * np.sin(number / 90)), int(100 + 90 * np.cos(number / 70))
            view = scene[top : top + HEIGHT, left : left + WIDTH]
            image: np.ndarray = np.asarray(cv2.add(view, noises[number % len(noises)]), np.uint8)
            centre = (int(960 + 700 * np.cos(number / 30)), int(540 + 400 * np.sin(number / 23)))
            cv2.circle(image, centre, 120, (255, 30, 30), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def lengthen(path: Path, target: Path, times: int) -> None:
    """Write the packets of a clip several times, one after another."""
    with av.open(str(target), "w") as output:
        stream = None
        for turn in range(times):
            with av.open(str(path)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                shift = turn * (source.streams.video[0].duration or 0)
                for packet in source.demux(video=0):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        output.mux(packet)


def make_sources(clip: Path, folder: Path) -> None:
    """Write the sources folder that ingest would have made of one clip."""
    with ShardWriter(folder / SHARDS, "sources") as shards:
        blob = shards.add(clip.name, clip)
    record = Clip(
        source=clip.name,
        group=clip.stem,
        sha256=sha256_file(clip),
        media_type="video/mp4",
        blob=blob,
        class_name="disc",
    )
    write_json_lines(folder / CLIPS, [record.to_json()])
    write_manifest(folder, "sources", {})


def cpu_s() -> float:
    """Return the CPU time of this process and of those it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def own_peak_kib() -> int:
    """Return this process's peak memory; not `ru_maxrss`, which on Linux starts with that of whoever started us."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def measure(sources: Path, target: Path) -> dict[str, Any]:
    """Extract in this process and return the time taken and the peak memory, that of decoder processes added."""
    started, cpu_started_s = time.perf_counter(), cpu_s()
    report = extract_frames(sources, target, rate_hz=RATE_HZ)
    elapsed_s, used_s = time.perf_counter() - started, cpu_s() - cpu_started_s
    return {
        "elapsed_s": elapsed_s,
        "cpu_s": used_s,
        "frame_count": report.frame_count,
        "peak_mib": (own_peak_kib() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024,
    }


def run_ours(sources: Path, target: Path) -> dict[str, Any]:
    """Measure in a fresh process, whose peak memory is its own."""
    command = [sys.executable, __file__, "--measure", str(sources), str(target)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def run_ffmpeg(clip: Path, folder: Path) -> dict[str, Any]:
    """Let ffmpeg take the same frames by their time, as JPEG of its best usual quality."""
    folder.mkdir()
    chosen = f"select=isnan(prev_selected_t)+gte(t-prev_selected_t\\,{1 / RATE_HZ - 0.001})"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(clip), "-vf", chosen, "-fps_mode", "vfr", "-q:v", "2"]
    started, cpu_started_s = time.perf_counter(), cpu_s()
    subprocess.run([*command, str(folder / "%06d.jpg")], check=True)
    elapsed_s, used_s = time.perf_counter() - started, cpu_s() - cpu_started_s
    frame_count = len(list(folder.iterdir()))
    shutil.rmtree(folder)
    return {"elapsed_s": elapsed_s, "cpu_s": used_s, "frame_count": frame_count}


def print_table(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], longer: dict[str, Any]) -> None:
    """Print what was measured."""
    speed, thrift = (
        statistics.median(their[what] / our[what] for our, their in zip(ours, theirs))
        for what in ("elapsed_s", "cpu_s")
    )
    print(
        f"Frame extraction, {WIDTH}x{HEIGHT} H.264 at {FPS} Hz, {RATE_HZ:g} images/s; {os.cpu_count()} cores, ", end=""
    )
    print(f"Python {platform.python_version()}, PyAV {av.__version__}; median of {len(ours)}\n")
    print("| what | clip | images | time | CPU time | peak memory |\n| --- | --- | --- | --- | --- | --- |")
    for name, runs in (("visionyard", ours), ("ffmpeg", theirs)):
        elapsed_s, used_s = (statistics.median(run[what] for run in runs) for what in ("elapsed_s", "cpu_s"))
        peak = f"{max(run['peak_mib'] for run in runs):.0f} MiB" if "peak_mib" in runs[0] else ""
        print(f"| {name} | {DURATION_S} s | {runs[0]['frame_count']} | {elapsed_s:.2f} s | {used_s:.2f} s | {peak} |")
    print(
        f"| visionyard | {DURATION_S * LENGTHENING} s | {longer['frame_count']} | {longer['elapsed_s']:.2f} s "
        f"| {longer['cpu_s']:.2f} s | {longer['peak_mib']:.0f} MiB |"
    )
    growth = longer["peak_mib"] / max(run["peak_mib"] for run in ours)
    print(f"\nSpeed against ffmpeg, median of the pairs: {speed:.2f} (goal: at least 0.90); by CPU time {thrift:.2f}")
    print(f"Peak memory, {LENGTHENING} times the length: {growth:.2f} times (goal: flat)")


def main() -> None:
    """Make the clips, run both in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turns")
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("SOURCES", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_clip(root / "clip.mp4", DURATION_S)
        lengthen(root / "clip.mp4", root / "longer.mp4", LENGTHENING)
        for clip in ("clip", "longer"):
            make_sources(root / f"{clip}.mp4", root / clip)
        ours, theirs = [], []
        for _ in range(arguments.repeats):
            ours.append(run_ours(root / "clip", root / "frames"))
            theirs.append(run_ffmpeg(root / "clip.mp4", root / "images"))
        print_table(ours, theirs, run_ours(root / "longer", root / "frames"))


if __name__ == "__main__":
    main()
