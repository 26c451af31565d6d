"""Sample data made on the spot: clips of real handwritten digits over real photographs, with their labels.

Nothing is fetched: the scans and the photographs come with scikit-learn and scikit-image. The same seed gives the same
bytes on the same machine. No scan stands in two clips, and clips differ in background or in the part of it they show:
a clip held out of the training is news to the model.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from visionyard.atomic import atomic_folder
from visionyard.data.sample_labels import Sight, sights, write_cvat
from visionyard.data.sample_scene import (
    INKS_RGB,
    PHOTOGRAPHS,
    Actor,
    Camera,
    make_stamp,
    masks,
    read_photograph,
    read_scans,
    render,
)
from visionyard.errors import ConfigError, DataError
from visionyard.events import progress

SampleKind = Literal["digits-detection", "digits-classification"]
SIZE_HW = (256, 320)
FRAMES_PER_S = 20


@dataclass(frozen=True)
class Layout:
    """What the clips of a sample kind hold.

    Attributes:
        classes: Digit names.
        clip_count: Clips in all; a multiple of the classes where each clip has one.
        spots_xy: Where digits pass, in shares of width and height; each is taken by one digit after the other.
        scales: Least and greatest size of a digit, in stamp sizes of 120 px with about 80 px of ink.
        shot_s: Time until the picture cuts to another photograph and other digits, seconds; None: no cuts.
    """

    classes: tuple[str, ...]
    clip_count: int
    spots_xy: tuple[tuple[float, float], ...]
    scales: tuple[float, float]
    shot_s: float | None = None


LAYOUTS: dict[SampleKind, Layout] = {
    "digits-detection": Layout(
        classes=("zero", "three", "four", "seven"),
        clip_count=24,
        spots_xy=((0.27, 0.3), (0.73, 0.3), (0.27, 0.7), (0.73, 0.7)),
        scales=(0.75, 1.35),
    ),
    "digits-classification": Layout(
        classes=("three", "four", "seven"),
        clip_count=24,
        spots_xy=((0.5, 0.5),),
        scales=(2.0, 2.6),
        # A photograph that stays would tell a clip's class; with cuts every class is seen on all of them.
        shot_s=0.5,
    ),
}


@dataclass(frozen=True)
class SampleReport:
    """What was made.

    Attributes:
        folder: Where it lies.
        kind: Which sample.
        classes: Digit names.
        clip_count: Video files.
        frame_count: Frames of all clips.
        track_count: Labelled tracks of all clips; 0 where the folder is the label.
        size_bytes: Of all files.
    """

    folder: Path
    kind: SampleKind
    classes: tuple[str, ...]
    clip_count: int
    frame_count: int
    track_count: int
    size_bytes: int


def make_sample(
    target: Path, *, kind: SampleKind, clip_count: int | None = None, clip_s: float = 4.0, seed: int = 0
) -> SampleReport:
    """Make the clips of a sample and their labels.

    Args:
        target: The folder to make. `digits-detection` puts `clip-01.mp4` beside `clip-01.xml` (CVAT for video 1.1);
            `digits-classification` puts `three/three-01.mp4` and so on.
        kind: Which sample.
        clip_count: Clips in all; None takes the kind's own.
        clip_s: Length of a clip, seconds.
        seed: Another one gives other scans, ways and colours.

    Raises:
        ConfigError: `kind` is unknown, `clip_count` or `clip_s` is too small, or there are too few scans for the clips.
        DataError: `target` exists, or a package that carries the material is not installed.
    """
    layout = _checked_layout(kind, clip_count, clip_s)
    if target.exists():
        raise DataError(f"{target}: exists already; remove it, or name another folder for the sample")
    count = layout.clip_count if clip_count is None else clip_count
    frame_count = round(clip_s * FRAMES_PER_S)
    scans = _ScanStock(seed)
    with atomic_folder(target) as work:
        clips = [
            _plan(work, kind, layout, scans, index=index, frame_count=frame_count, seed=seed) for index in range(count)
        ]
        track_count = 0
        # Drawing and encoding leave Python's lock alone, so threads are enough; clips depend on nothing but their plan.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, tracks in enumerate(pool.map(_make_clip, clips), start=1):
                track_count += tracks
                progress(done, count, unit="clip", label=f"sample {kind}")
    size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return SampleReport(target, kind, layout.classes, count, count * frame_count, track_count, size_bytes)


@dataclass(frozen=True)
class _Shot:
    """A piece of a clip without cuts: its background, its digits (later ones on top) and its length."""

    camera: Camera
    actors: list[Actor]
    frame_count: int


@dataclass(frozen=True)
class _ClipPlan:
    """A clip that is still to be drawn.

    Attributes:
        stem: Its path without suffix.
        classes: Labels of its tracks; none where its folder is its label.
        shots: What it shows, one after the other.
        seed: Of the places where its noise is taken.
    """

    stem: Path
    classes: tuple[str, ...]
    shots: list[_Shot]
    seed: tuple[int, int]


class _ScanStock:
    """Hands out each scan once."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 2**32 - 1])
        self._left = {name: list(rng.permutation(scans)) for name, scans in read_scans().items()}

    def take(self, class_name: str) -> np.ndarray:
        """Return a scan that no other track has.

        Raises:
            ConfigError: All are taken.
        """
        if not self._left[class_name]:
            raise ConfigError(f"no scan of {class_name} is left for another clip; ask for fewer or shorter clips")
        return np.asarray(self._left[class_name].pop())


def _checked_layout(kind: SampleKind, clip_count: int | None, clip_s: float) -> Layout:
    if kind not in LAYOUTS:
        raise ConfigError(f"kind = {kind!r}: no such sample; known: {', '.join(LAYOUTS)}")
    problems = []
    if clip_count is not None and clip_count < 1:
        problems.append(f"clip_count = {clip_count}: expected 1 or more")
    if not clip_s >= 2 / FRAMES_PER_S:
        problems.append(f"clip_s = {clip_s}: expected at least two frames, {2 / FRAMES_PER_S} s")
    if problems:
        raise ConfigError(problems)
    return LAYOUTS[kind]


def _plan(
    work: Path, kind: SampleKind, layout: Layout, scans: _ScanStock, *, index: int, frame_count: int, seed: int
) -> _ClipPlan:
    rng = np.random.default_rng([seed, index])
    if kind == "digits-detection":
        stem, shown, labels = work / f"clip-{index + 1:02d}", layout.classes, layout.classes
    else:
        turn, class_index = divmod(index, len(layout.classes))
        name = layout.classes[class_index]
        stem, shown, labels = work / name / f"{name}-{turn + 1:02d}", (name,), ()
    most = frame_count if layout.shot_s is None else round(layout.shot_s * FRAMES_PER_S)
    photographs = rng.permutation(len(PHOTOGRAPHS)) if layout.shot_s else [index % len(PHOTOGRAPHS)]
    shots = []
    for number, start in enumerate(range(0, frame_count, most)):
        length = min(most, frame_count - start)
        camera = _camera(rng, int(photographs[number % len(photographs)]))
        actors = _actors(rng, layout, shown, scans, length)
        shots.append(_Shot(camera, actors, length))
    return _ClipPlan(stem, labels, shots, (seed, index))


def _make_clip(plan: _ClipPlan) -> int:
    """Draw, encode and label a clip; return how many tracks it has."""
    plan.stem.parent.mkdir(exist_ok=True)
    _encode(plan.stem.with_suffix(".mp4"), _frames(plan))
    return _label(plan) if plan.classes else 0


def _camera(rng: np.random.Generator, index: int) -> Camera:
    height, width = SIZE_HW
    photo = read_photograph(index, SIZE_HW)
    widest = min(photo.shape[1], photo.shape[0] * width / height)
    windows = []
    for _ in range(2):
        window = rng.uniform(0.6, 0.95) * widest
        margin_x, margin_y = window / 2, window * height / width / 2
        x = rng.uniform(margin_x, photo.shape[1] - margin_x)
        windows.append((x, rng.uniform(margin_y, photo.shape[0] - margin_y), window))
    noise = rng.normal(0, rng.uniform(2, 5), (2 * height, 2 * width, 3)).astype(np.float32)
    return Camera(photo=photo, windows_cxcyw=np.array(windows), noise=noise, gain=rng.uniform(0.8, 1.05))


def _actors(
    rng: np.random.Generator, layout: Layout, classes: tuple[str, ...], scans: _ScanStock, frame_count: int
) -> list[Actor]:
    """Fill each spot with one digit after the other; between cuts with a single one, half on its way."""
    actors = []
    turn = int(rng.integers(len(classes)))
    for spot_xy in layout.spots_xy:
        start = -int(rng.uniform(0.2, 1.2) * FRAMES_PER_S)
        while start < frame_count:
            stay = int(rng.uniform(2.0, 3.0) * FRAMES_PER_S)
            if layout.shot_s is not None:
                start = (frame_count - stay) // 2
            class_name = classes[turn % len(classes)]
            turn += 1
            actors.append(_actor(rng, layout, class_name, scans.take(class_name), spot_xy, start, stay))
            start += stay - int(0.3 * FRAMES_PER_S)
    return [actors[i] for i in rng.permutation(len(actors))]


def _actor(
    rng: np.random.Generator,
    layout: Layout,
    class_name: str,
    scan: np.ndarray,
    spot_xy: tuple[float, float],
    start: int,
    stay: int,
) -> Actor:
    low, high = rng.uniform(*layout.scales, 2)
    return Actor(
        class_name=class_name,
        stamp=make_stamp(scan, INKS_RGB[rng.integers(len(INKS_RGB))]),
        first_frame=start,
        frame_count=stay,
        path_xy=_path(rng, spot_xy),
        scales=(float(low), float(high)),
        tilt_deg=float(rng.uniform(-12, 12)),
        swing_deg=float(rng.uniform(-15, 15)),
    )


def _path(rng: np.random.Generator, spot_xy: tuple[float, float]) -> np.ndarray:
    """Return a way that comes in over one edge, bends about the spot and leaves over an edge."""
    size = np.array([SIZE_HW[1], SIZE_HW[0]])
    spot = (np.array(spot_xy) + rng.uniform(-0.08, 0.08, 2)) * size
    ends = []
    # The edge by which the digit comes is the nearer one, so that it does not run through the others' spots.
    away = np.where(np.array(spot_xy) < 0.5, -1, 1)
    for axis in rng.permutation(2):
        end = spot.copy()
        end[axis] += away[axis] * 0.62 * size[axis]
        end[1 - axis] += rng.uniform(-0.1, 0.1) * size[1 - axis]
        ends.append(end)
    middle = 2 * spot - (ends[0] + ends[1]) / 2
    return np.array([ends[0], middle, ends[1]])


def _frames(plan: _ClipPlan) -> Iterator[np.ndarray]:
    height, width = SIZE_HW
    rng = np.random.default_rng([*plan.seed, 1])
    for shot in plan.shots:
        for index in range(shot.frame_count):
            picture = render(shot.camera, shot.actors, index, shot.frame_count, SIZE_HW)
            top, left = rng.integers(height), rng.integers(width)
            picture += shot.camera.noise[top : top + height, left : left + width]
            yield np.clip(picture, 0, 255).astype(np.uint8)


def _encode(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Write RGB frames as H.264 in MP4; one thread and no clock, so that the bytes are always the same."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"crf": "23", "preset": "veryfast", "threads": "1", "flags": "+bitexact"}
        # x264 165 with B-frames and its macroblock tree wrote other bytes in 14 of 120 tries of the same pictures.
        options["x264-params"] = "mbtree=0"
        stream = container.add_stream("libx264", rate=FRAMES_PER_S, options=options)
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _label(plan: _ClipPlan) -> int:
    """Write the boxes of a clip without cuts; return how many tracks it has."""
    (shot,) = plan.shots
    inks = [float(np.count_nonzero(actor.stamp.mask > 0.5)) for actor in shot.actors]
    tracks: list[list[Sight | None]] = [[] for _ in shot.actors]
    for index in range(shot.frame_count):
        ink_px = [ink * actor.scale(index) ** 2 for ink, actor in zip(inks, shot.actors)]
        for track, sight in zip(tracks, sights(masks(shot.actors, index, SIZE_HW), ink_px)):
            track.append(sight)
    return write_cvat(
        plan.stem.with_suffix(".xml"),
        clip_name=f"{plan.stem.name}.mp4",
        classes=plan.classes,
        size_hw=SIZE_HW,
        frame_count=shot.frame_count,
        tracks=[(actor.class_name, track) for actor, track in zip(shot.actors, tracks)],
    )
