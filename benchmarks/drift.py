"""Drift detection by simulation on real pictures: false alarms, time to find a change and to clear, processor time.

    python benchmarks/drift.py [--data FOLDER] [--pictures 1000000] [--repeats 20] [--seed 0]

FOLDER holds openly licensed sets as their publishers give them: `bccd` (github.com/Shenggan/BCCD_Dataset) and
`trashnet-mini` (a folder of photos for each class, github.com/garythung/trashnet), and for successive frames
`cones-and-cubes` (YOLO layout, universe.roboflow.com/7130-7th/cone_cube_detect_test_1.0). A set that is not there is
left out; without any, 300 cut-outs of scikit-image's own pictures are used. The features are those of the real files,
and of the same files altered; labels stand in for the model's answer, with confidences drawn from a beta law.

Each run divides a set into two halves at random. One is the reference, as an export makes it; from the other one, which
the reference has never seen, pictures are drawn with replacement. Prints Markdown tables; takes about five minutes on
one core.
"""

import argparse
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from visionyard.inference.bundle import ReferenceStatistics
from visionyard.monitoring.drift_detector import DriftDetector
from visionyard.monitoring.features import (
    PICTURE_FEATURES,
    PREDICTION_FEATURES,
    PictureFeatures,
    PredictionFeatures,
    picture_features,
)
from visionyard.monitoring.features_reference import group_order, picture_references, prediction_references
from visionyard.transforms import load_image

WINDOW = 256
BEFORE_COUNT = 600
LIMIT = 500
_CUT_OUTS = 300


@dataclass
class PictureSet:
    """Pictures with the classes of their objects.

    Attributes:
        name: For the table.
        images: (H, W, 3) uint8 each.
        class_ids: Of each picture's objects.
        classes: Names.
        is_detection: Several objects a picture.
        groups: Videos of the pictures; empty: unrelated pictures.
        rows: What is measured of the pictures, by the change made to them.
    """

    name: str
    images: list[np.ndarray]
    class_ids: list[np.ndarray]
    classes: list[str]
    is_detection: bool
    groups: list[str] = field(default_factory=list)
    rows: dict[str, list[PictureFeatures]] = field(default_factory=dict)

    def measured(self, change: str) -> list[PictureFeatures]:
        """Return the pictures' features after a change, measured once."""
        if change not in self.rows:
            self.rows[change] = [picture_features(CHANGES[change](image)) for image in self.images]
        return self.rows[change]


def _darker(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: (image * factor).astype(np.uint8)


def _blurred(share: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), share * max(image.shape[:2])), dtype=np.uint8)


def _warmer(image: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(image * np.array([1.15, 1.0, 0.8]), 0, 255), dtype=np.uint8)


# Strengths: blur in shares of the longer side (0.003 is 2 px at 640), darkness as what is left of the light.
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda image: image,
    "blur 0.003": _blurred(0.003),
    "blur 0.006": _blurred(0.006),
    "darkness 0.7": _darker(0.7),
    "darkness 0.4": _darker(0.4),
    "warmer light": _warmer,
    "mirrored upside down": lambda image: np.ascontiguousarray(image[::-1]),
}


def read_bccd(folder: Path) -> PictureSet:
    """Read the blood cell pictures with the classes of their boxes."""
    classes = ["Platelets", "RBC", "WBC"]
    images, class_ids = [], []
    for path in sorted((folder / "JPEGImages").glob("*.jpg")):
        names = [node.text for node in ElementTree.parse(folder / f"Annotations/{path.stem}.xml").iter("name")]
        images.append(load_image(path))
        class_ids.append(np.array([classes.index(name) for name in names if name in classes], dtype=np.int64))
    return PictureSet("bccd", images, class_ids, classes, is_detection=True)


def read_class_folders(folder: Path) -> PictureSet:
    """Read photos in a folder for each class."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    paths = sorted(folder.glob("*/*.jpg"))
    class_ids = [np.array([classes.index(path.parent.name)]) for path in paths]
    return PictureSet("trashnet", [load_image(path) for path in paths], class_ids, classes, is_detection=False)


def read_frames(folder: Path) -> PictureSet:
    """Read frames of videos with the classes of their boxes, in the order of video and time."""

    def place(path: Path) -> tuple[str, int]:
        video, frame = path.name.split("_jpg.rf.")[0].split("_mp4-")
        return video, int(frame)

    paths = sorted(folder.glob("*/images/*.jpg"), key=place)
    labels = [path.parent.parent / "labels" / f"{path.stem}.txt" for path in paths]
    class_ids = [np.array([int(line.split()[0]) for line in path.read_text().splitlines() if line]) for path in labels]
    images = [load_image(path) for path in paths]
    groups = [place(path)[0] for path in paths]
    return PictureSet("cones", images, class_ids, ["cone", "cube"], is_detection=True, groups=groups)


def cut_outs(seed: int, count: int = _CUT_OUTS) -> PictureSet:
    """Cut pieces of 240x180 px at random out of scikit-image's photographs; a piece's class is its photograph."""
    from skimage import data

    names = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry")
    photographs: list[np.ndarray] = [getattr(data, name)() for name in names]
    random = np.random.default_rng(seed)
    images, class_ids = [], []
    for _ in range(count):
        class_id = int(random.integers(len(photographs)))
        height, width = photographs[class_id].shape[:2]
        top, left = int(random.integers(height - 180)), int(random.integers(width - 240))
        images.append(np.ascontiguousarray(photographs[class_id][top : top + 180, left : left + 240]))
        class_ids.append(np.array([class_id]))
    return PictureSet("cut-outs", images, class_ids, list(names), is_detection=False)


def answer(pictures: PictureSet, at: int, random: np.random.Generator) -> PredictionFeatures:
    """Return what a model might have answered: the true classes, with confidences of mean 0.8."""
    class_ids = pictures.class_ids[at]
    found = len(class_ids)
    confidence = round(float(random.beta(8, 2, found).mean()), 6) if found else np.nan
    return PredictionFeatures(np.array([confidence, found if pictures.is_detection else np.nan]), class_ids)


class Simulation:
    """One division of a set into reference and stream."""

    def __init__(self, pictures: PictureSet, random: np.random.Generator, *, window: int = WINDOW) -> None:
        """Draw the halves and make the reference."""
        self.pictures, self.random = pictures, random
        reference, self.served = np.array_split(random.permutation(len(pictures.images)), 2)
        reference.sort()
        groups = [pictures.groups[at] for at in reference] if pictures.groups else []
        order = group_order(groups) if groups else None
        rows = pictures.measured("none")
        features, embedding = picture_references([rows[at] for at in reference], order, groups=groups)
        answers = [answer(pictures, at, random) for at in reference]
        found, class_counts = prediction_references(answers, pictures.classes, order)
        statistics = ReferenceStatistics(
            images={},
            class_mix={},
            confidence=None,
            features=features | found,
            class_counts=class_counts,
            embedding=embedding,
        )
        self.detector = DriftDetector(statistics, pictures.classes, window=window)
        self.seen_count = 0
        self.push_s = 0.0

    def push(self, picture: PictureFeatures, found: PredictionFeatures, group: str = "") -> bool:
        """Show one picture; return whether the alarm is on."""
        start = time.thread_time()
        values = self.detector.values_of(PICTURE_FEATURES, picture)
        values |= dict(zip(PREDICTION_FEATURES, found.values.tolist(), strict=True))
        self.detector.push(values, found, group=group)
        self.push_s += time.thread_time() - start
        self.seen_count += 1
        return self.detector.is_drifted

    def alarmed(self) -> str:
        """Return the features whose alarm is on, the surest first."""
        drifted = [drift for drift in self.detector.features.values() if drift.is_drifted]
        return ", ".join(drift.feature for drift in sorted(drifted, key=lambda drift: drift.p_value))

    def stream(self, change: str = "none", *, weights: np.ndarray | None = None) -> Iterator[bool]:
        """Show pictures of the other half without end, altered; yield whether the alarm is on."""
        rows = self.pictures.measured(change)
        while True:
            for at in self.random.choice(self.served, 1000, p=weights):
                yield self.push(rows[at], answer(self.pictures, at, self.random))

    def scenes(self, *, frame_count: int, is_named: bool) -> Iterator[bool]:
        """Show stretches of successive frames of one video after another, from the half that is served."""
        rows = self.pictures.measured("none")
        served = np.sort(self.served)
        groups = np.array(self.pictures.groups)[served]
        for number in count():
            first = int(self.random.integers(len(served)))  # so that each video has the share it has in the reference
            frames = served[groups == groups[first]]
            start = int(np.searchsorted(frames, served[first]))
            for at in np.resize(np.roll(frames, -start), frame_count):
                group = f"scene {number}" if is_named else ""
                yield self.push(rows[at], answer(self.pictures, int(at), self.random), group)

    def other_camera(self, others: PictureSet) -> Iterator[bool]:
        """Show pictures of another set, with this set's answers: only the picture gives the swap away."""
        rows = others.measured("none")
        while True:
            at = int(self.random.integers(len(rows)))
            yield self.push(rows[at], answer(self.pictures, int(self.random.choice(self.served)), self.random))


def count_alarms(stream: Iterator[bool], picture_count: int) -> int:
    """Return how often an alarm began in so many pictures."""
    alarms, was_on = 0, False
    for is_on in islice(stream, picture_count):
        alarms += is_on and not was_on
        was_on = is_on
    return alarms


def show_false_alarms(sets: list[PictureSet], total: int, per_run: int, random: np.random.Generator) -> None:
    """Print the table of pictures without change."""
    print("| set | pictures | looked at | false alarms | measuring, ms | testing, ms |\n| --- |" + " ---: |" * 5)
    for pictures in sets:
        runs = [Simulation(pictures, random) for _ in range(max(1, total // len(sets) // per_run))]
        alarms = sum(count_alarms(run.stream(), per_run) for run in runs)
        test_ms = 1e3 * runs[-1].push_s / runs[-1].seen_count
        figures = f"{len(runs) * per_run} | {alarms} | {cost_ms(pictures):.2f} | {test_ms:.2f}"
        print(f"| {pictures.name} | {len(pictures.images)} | {figures} |", flush=True)


def show_scenes(frames: PictureSet, picture_count: int, random: np.random.Generator) -> None:
    """Print the table of successive frames without change."""
    print("\n| frames of a scene | scenes named | looked at | false alarms |\n| ---: | --- | ---: | ---: |")
    for frame_count in (1, 10, 30):
        for is_named in (False, True):
            runs = [Simulation(frames, random) for _ in range(5)]
            streams = [run.scenes(frame_count=frame_count, is_named=is_named) for run in runs]
            alarms = sum(count_alarms(stream, picture_count // len(runs)) for stream in streams)
            print(f"| {frame_count} | {'yes' if is_named else 'no'} | {picture_count} | {alarms} |", flush=True)


def new_mix(pictures: PictureSet, served: np.ndarray, factor: float) -> np.ndarray:
    """Return weights that make pictures of the first third of the classes more frequent by a factor.

    Of blood cells: pictures that show platelets, since red cells are on all.
    """
    favoured = np.arange(max(1, len(pictures.classes) // 3))
    weights = np.where([bool(np.isin(pictures.class_ids[at], favoured).any()) for at in served], factor, 1.0)
    return np.asarray(weights / weights.sum())


def delay(simulation: Simulation, changed: Iterator[bool]) -> tuple[int | None, str]:
    """Return after how many changed pictures the alarm began, None beyond the limit, and by which features."""
    deque(islice(simulation.stream(), BEFORE_COUNT), maxlen=0)
    for number, is_on in enumerate(islice(changed, LIMIT), start=1):
        if is_on:
            return number, simulation.alarmed()
    return None, ""


def clearing(simulation: Simulation) -> int | None:
    """Return after how many normal pictures the alarm ended, None beyond twice the limit."""
    normal = enumerate(islice(simulation.stream(), 2 * LIMIT), start=1)
    return next((number for number, is_on in normal if not is_on), None)


def cost_ms(pictures: PictureSet) -> float:
    """Return processor milliseconds to measure a picture."""
    start = time.thread_time()
    for image in pictures.images[:100]:
        picture_features(image)
    return 1e3 * (time.thread_time() - start) / len(pictures.images[:100])


def show_delays(name: str, repeats: int, start: Callable[[], tuple[Simulation, Iterator[bool]]]) -> None:
    """Print a row of the table of changes."""
    delays, cleared, found = [], [], ""
    for _ in range(repeats):
        simulation, changed = start()
        number, found_now = delay(simulation, changed)
        delays.append(number)
        if number is not None:
            found = found_now
            deque(islice(changed, LIMIT - number), maxlen=0)
            cleared.append(clearing(simulation))
    hits = [number for number in delays if number is not None]
    ends = [number for number in cleared if number is not None]
    shown = f"{int(np.median(hits))} | {max(hits)}" if hits else "- | -"
    end = f"{int(np.median(ends))}" if ends else "-"
    print(f"| {name} | {len(hits)} of {repeats} | {shown} | {end} | {found} |", flush=True)


def changes_of(
    pictures: PictureSet, others: list[PictureSet], random: np.random.Generator
) -> Iterator[tuple[str, Callable[[], tuple[Simulation, Iterator[bool]]]]]:
    """Yield each change with what starts a simulation of it."""

    def altered(change: str) -> tuple[Simulation, Iterator[bool]]:
        simulation = Simulation(pictures, random)
        return simulation, simulation.stream(change)

    def mixed(factor: float) -> tuple[Simulation, Iterator[bool]]:
        simulation = Simulation(pictures, random)
        return simulation, simulation.stream(weights=new_mix(pictures, simulation.served, factor))

    def swapped(other: PictureSet) -> tuple[Simulation, Iterator[bool]]:
        simulation = Simulation(pictures, random)
        return simulation, simulation.other_camera(other)

    for change in CHANGES:
        if change != "none":
            yield change, partial(altered, change)
    for factor in (4.0, 10.0):
        yield f"class mix: a third of the classes x {factor:g}", partial(mixed, factor)
    size = tuple(int(side) for side in np.median([image.shape[1::-1] for image in pictures.images], axis=0))
    for other in others:
        yield f"camera: {other.name}", partial(swapped, other)
        images = [np.asarray(cv2.resize(image, size)) for image in other.images]
        scaled = PictureSet(other.name, images, [], [], is_detection=False)
        yield f"camera: {other.name}, same size", partial(swapped, scaled)


def main() -> None:
    """Run the simulation and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VISIONYARD_SHARED_DATA", "data"))
    parser.add_argument("--pictures", type=int, default=1_000_000, help="without change, over all sets")
    parser.add_argument("--per-run", type=int, default=100_000, help="pictures after which halves are drawn anew")
    parser.add_argument("--repeats", type=int, default=20, help="of each change")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    random = np.random.default_rng(options.seed)
    sets = [cut_outs(options.seed)]
    if (options.data / "trashnet-mini").is_dir():
        sets.insert(0, read_class_folders(options.data / "trashnet-mini/images"))
    if (options.data / "bccd").is_dir():
        sets.insert(0, read_bccd(options.data / "bccd"))
    print(f"{platform.machine()}, Python {platform.python_version()}, window {WINDOW}, seed {options.seed}\n")
    show_false_alarms(sets, options.pictures, options.per_run, random)
    if (options.data / "cones-and-cubes").is_dir():
        show_scenes(read_frames(options.data / "cones-and-cubes"), options.per_run, random)
    for pictures in sets[:2]:
        print(f"\n| {pictures.name}: change | found | median after | at most | cleared after | by |")
        print("| --- | ---: | ---: | ---: | ---: | --- |")
        others = [other for other in sets if other is not pictures][:1]
        for name, start in changes_of(pictures, others, random):
            show_delays(name, options.repeats, start)


if __name__ == "__main__":
    main()
