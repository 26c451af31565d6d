"""Frame extraction beside ffmpeg and OpenCV doing the same work, on one core and on two; memory against clip length.

    python benchmarks/frame_extraction.py [speed] [cores] [memory] [--repeats 3] [--videos ../shared/data/videos]

Makes a 60 s clip of 1080p H.264 (30 Hz, 8 Mbit/s, B-frames, moving texture and camera noise, seed 0), one of 240 s
from four times its packets, and one of four hours at 160x120 px and 10 Hz. Takes 2 images a second (and one in ten
seconds) of the first, and of real clips where there are some, by `extract_frames`, by ffmpeg and by OpenCV in turns,
all held to one core; then four copies of the first with one core and with two; and measures the peak memory of
`extract_frames` with its decoder processes. Prints Markdown tables; the CPU time is there to tell a busy machine from
slow code. Takes about six minutes on two idle cores and 2 GB of the temporary folder; needs Linux and ffmpeg.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from visionyard.data.artifacts import CLIPS, SHARDS, write_manifest
from visionyard.data.extract_frames import extract_frames
from visionyard.data.items import Clip, write_json_lines
from visionyard.data.shards import ShardWriter

WIDTH, HEIGHT, FPS, DURATION_S = 1920, 1080, 30, 60
RATE_HZ, LOW_RATE_HZ = 2.0, 0.1
LENGTHENING = 4
LONG_HOURS = 4
REAL_CLIPS = ("bottle/*.mp4", "car/*", "person/*.mp4", "person/*.avi", "signing/*.mkv")


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


def make_long_clip(path: Path) -> None:
    """Encode four hours of a test picture, small and at 10 Hz."""
    source = f"testsrc2=size=160x120:rate=10:duration={LONG_HOURS * 3600}"
    options = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-y"]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", source, *options, str(path)], check=True)


def make_sources(clips: Sequence[Path], folder: Path) -> None:
    """Write the sources folder that ingest would have made of some clips."""
    records = []
    with ShardWriter(folder / SHARDS, "sources") as shards:
        for number, clip in enumerate(clips):
            blob, sha256 = shards.add_file(f"{number}-{clip.name}", clip)
            record = Clip(
                source=f"{number}-{clip.name}",
                group=str(number),
                sha256=sha256,
                media_type="video/mp4",
                blob=blob,
                class_name="disc",
            )
            records.append(record.to_json())
    write_json_lines(folder / CLIPS, records)
    write_manifest(folder, "sources", {})


@dataclass(frozen=True)
class Measured:
    """One run: wall-clock and CPU time, images written, peak memory of all its processes (0 when not known)."""

    elapsed_s: float
    cpu_s: float
    image_count: int
    peak_mib: float = 0.0


def cpu_s() -> float:
    """Return the CPU time of this process and of those it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def own_peak_kib() -> int:
    """Return this process's peak memory; not `ru_maxrss`, which on Linux starts with that of whoever started us."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def extract_here(sources: Path, target: Path, rate_hz: float) -> Measured:
    """Extract in this process; the peak memory is ours and that of the largest decoder process."""
    started, cpu_started_s = time.perf_counter(), cpu_s()
    report = extract_frames(sources, target, rate_hz=rate_hz)
    elapsed_s, used_s = time.perf_counter() - started, cpu_s() - cpu_started_s
    peak_kib = own_peak_kib() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    shutil.rmtree(target)
    return Measured(elapsed_s, used_s, report.frame_count, peak_kib / 1024)


def extract_by_opencv(listed: Path, folder: Path, rate_hz: float) -> Measured:
    """Take frames as a script with OpenCV does: grab all, convert and write those that are due."""
    folder.mkdir()
    started, cpu_started_s = time.perf_counter(), cpu_s()
    count = 0
    for clip in listed.read_text(encoding="utf-8").splitlines():
        capture, taken = cv2.VideoCapture(clip), 0
        while capture.grab():
            if capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 >= taken / rate_hz - 0.001:
                image = capture.retrieve()[1]
                cv2.imwrite(str(folder / f"{count:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
                taken, count = taken + 1, count + 1
    elapsed_s, used_s = time.perf_counter() - started, cpu_s() - cpu_started_s
    shutil.rmtree(folder)
    return Measured(elapsed_s, used_s, count)


def measure(how: str, source: Path, target: Path, rate_hz: float, cores: set[int]) -> Measured:
    """Run `extract_here` or `extract_by_opencv` in a fresh process that may use some cores only."""
    command = [sys.executable, __file__, "--measure", how, str(source), str(target), str(rate_hz)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=lambda: hold_to(cores))
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def hold_to(cores: set[int]) -> None:
    """Let this process, and what it starts, use these cores only."""
    os.sched_setaffinity(0, cores)


def run_ffmpeg(clips: Sequence[Path], folder: Path, rate_hz: float, cores: set[int]) -> Measured:
    """Let ffmpeg take the same frames by their time, as JPEG of its best usual quality."""
    folder.mkdir()
    chosen = f"select=isnan(prev_selected_t)+gte(t-prev_selected_t\\,{1 / rate_hz - 0.001})"
    options = ["-vf", chosen, "-fps_mode", "vfr", "-q:v", "2"]
    started, cpu_started_s = time.perf_counter(), cpu_s()
    for number, clip in enumerate(clips):
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(clip), *options, str(folder / f"{number}-%06d.jpg")]
        subprocess.run(command, check=True, preexec_fn=lambda: hold_to(cores), stderr=subprocess.DEVNULL)
    elapsed_s, used_s = time.perf_counter() - started, cpu_s() - cpu_started_s
    image_count = len(list(folder.iterdir()))
    shutil.rmtree(folder)
    return Measured(elapsed_s, used_s, image_count)


def compare(root: Path, label: str, clips: Sequence[Path], rate_hz: float, repeats: int) -> None:
    """Take the frames of some clips in three ways, in turns and on one core, and print a row for each."""
    make_sources(clips, root / "sources")
    listed = root / "clips.txt"
    listed.write_text("\n".join(map(str, clips)), encoding="utf-8")
    runs: dict[str, list[Measured]] = {"visionyard": [], "ffmpeg": [], "OpenCV": []}
    for _ in range(repeats):
        runs["visionyard"].append(measure("ours", root / "sources", root / "out", rate_hz, {0}))
        runs["ffmpeg"].append(run_ffmpeg(clips, root / "out", rate_hz, {0}))
        runs["OpenCV"].append(measure("opencv", listed, root / "out", rate_hz, {0}))
    shutil.rmtree(root / "sources")
    ours = runs["visionyard"]
    for name, theirs in runs.items():
        elapsed_s, used_s = middle(theirs, "elapsed_s"), middle(theirs, "cpu_s")
        wall, cpu = (
            statistics.median(getattr(their, what) / getattr(our, what) for our, their in zip(ours, theirs))
            for what in ("elapsed_s", "cpu_s")
        )
        ratios = " | " if name == "visionyard" else f"{wall:.2f} | {cpu:.2f}"
        row = f"| {label}, {rate_hz:g} Hz | {name} | {theirs[0].image_count} | {elapsed_s:.2f} | {used_s:.2f} "
        print(f"{row}| {ratios} |", flush=True)


def middle(runs: Sequence[Measured], what: str) -> float:
    """Return the median of one figure."""
    return float(statistics.median(getattr(run, what) for run in runs))


def compare_cores(root: Path, clip: Path, repeats: int) -> None:
    """Extract four clips with one core and with two, in turns, and print both."""
    make_sources([clip] * 4, root / "sources")
    one, two = [], []
    for _ in range(repeats):
        one.append(measure("ours", root / "sources", root / "out", RATE_HZ, {0}))
        two.append(measure("ours", root / "sources", root / "out", RATE_HZ, {0, 1}))
    shutil.rmtree(root / "sources")
    print("\n| four clips | s | CPU s |\n| --- | ---: | ---: |")
    for name, runs in (("one core", one), ("two cores", two)):
        print(f"| {name} | {middle(runs, 'elapsed_s'):.2f} | {middle(runs, 'cpu_s'):.2f} |")
    speed = statistics.median(single.elapsed_s / double.elapsed_s for single, double in zip(one, two))
    print(f"\nTwo cores against one, median of the pairs: {speed:.2f} (goal: at least 1.7)")


def compare_speed(root: Path, made: Path, videos: Path, repeats: int) -> None:
    """Print the comparison with ffmpeg and OpenCV on the made clip and on real ones."""
    print("\nOne core each; ratio: speed of visionyard over that of the other, median of the pairs\n")
    print("| clip | by | images | s | CPU s | ratio, wall | ratio, CPU |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    compare(root, "1080p, 60 s", [made], RATE_HZ, repeats)
    compare(root, "1080p, 60 s", [made], LOW_RATE_HZ, repeats)
    real = sorted(path for pattern in REAL_CLIPS for path in videos.glob(pattern))
    if real:
        compare(root, f"{len(real)} real clips", real, RATE_HZ, repeats)


def compare_lengths(root: Path, made: Path) -> None:
    """Print the peak memory of clips of several lengths."""
    clips = {
        f"1080p, {DURATION_S} s": made,
        f"1080p, {DURATION_S * LENGTHENING} s": root / "longer.mp4",
        f"160x120 px, {LONG_HOURS} h": root / "hours.mp4",
    }
    lengthen(made, root / "longer.mp4", LENGTHENING)
    make_long_clip(root / "hours.mp4")
    print("\n| clip | images | s | peak memory MiB |\n| --- | ---: | ---: | ---: |")
    for label, clip in clips.items():
        make_sources([clip], root / "sources")
        run = measure("ours", root / "sources", root / "out", RATE_HZ, set(range(os.cpu_count() or 1)))
        shutil.rmtree(root / "sources")
        print(f"| {label} | {run.image_count} | {run.elapsed_s:.2f} | {run.peak_mib:.0f} |", flush=True)


def main() -> None:
    """Make the clips, run all in turns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="speed, cores, memory; none: all")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turns")
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), help="folder of real clips")
    parser.add_argument("--measure", nargs=4, metavar=("HOW", "SOURCE", "TARGET", "RATE_HZ"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        how, source, target, rate_hz = arguments.measure
        take = extract_here if how == "ours" else extract_by_opencv
        print(json.dumps(asdict(take(Path(source), Path(target), float(rate_hz)))))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        parts = set(arguments.parts) or {"speed", "cores", "memory"}
        made = root / "made.mp4"
        make_clip(made, DURATION_S)
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, PyAV {av.__version__}, ", end="")
        print(f"OpenCV {cv2.__version__}; medians of {arguments.repeats}")
        if "speed" in parts:
            compare_speed(root, made, arguments.videos, arguments.repeats)
        if "cores" in parts:
            compare_cores(root, made, arguments.repeats)
        if "memory" in parts:
            compare_lengths(root, made)


if __name__ == "__main__":
    main()
