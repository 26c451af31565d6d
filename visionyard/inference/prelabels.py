"""Pre-labels: what a model sees in images, as a task for a labelling tool, so that a person corrects rather than draws.

images/<name>      the images as they were, or upright PNG where tools could disagree; frames of videos as JPEG
cvat:              annotations.xml (CVAT for images 1.1), labels.json (for "Raw" in the task's label constructor)
label_studio:      tasks.json (with `predictions`), label_config.xml
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from visionyard.atomic import atomic_folder
from visionyard.data.items import Box, Problems
from visionyard.data.media import stored_image
from visionyard.data.writers import cvat, label_studio, refuse_filled
from visionyard.data.writers.annotation import Annotation
from visionyard.errors import DataError, MediaError
from visionyard.geometry import Mask
from visionyard.inference.paths import PathPrediction, find_media, predict_paths
from visionyard.inference.predictor import Predictor
from visionyard.transforms import Detections

Tool = Literal["cvat", "label_studio"]
TOOLS: tuple[Tool, ...] = ("cvat", "label_studio")
_FRAME_QUALITY = 95
_Add = Callable[[Annotation, str], None]


@dataclass(frozen=True)
class PrelabelReport:
    """What was written.

    Attributes:
        target: The folder.
        image_count: Images and frames.
        box_count: Boxes suggested.
        class_counts: Boxes, or images, by class.
        blank_count: Images without a suggestion.
        skipped_count: Files that could not be read.
    """

    target: str
    image_count: int
    box_count: int
    class_counts: dict[str, int]
    blank_count: int
    skipped_count: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def write_prelabels(
    predictor: Predictor,
    paths: Sequence[Path],
    target: Path,
    *,
    tool: Tool,
    model: str,
    confidence_threshold: float | None,
    rate_hz: float,
    problems: Problems,
) -> PrelabelReport:
    """Write what a model sees as a labelling task; `target` appears whole or not at all.

    Args:
        predictor: The model.
        paths: Images, videos, folders of them.
        target: The folder to make; one that is there must be empty.
        tool: What the task is for.
        model: Its name, told with each suggestion where the tool has a place for it.
        confidence_threshold: Boxes, and classes, of less are not suggested; None: boxes by the model's own threshold,
            every class.
        rate_hz: Frames taken per second of video, above 0.
        problems: Gets the files that could not be read.

    Raises:
        ConfigError: A path does not exist, or `target` is there and not empty.
        DataError: No file could be read.
    """
    refuse_filled(target)
    files = find_media(paths)
    names, counts = _Names(paths), Counter[str]()
    tally: Counter[str] = Counter()
    is_detection = False
    with atomic_folder(target) as work:
        (work / "images").mkdir()
        with _task(work, tool, predictor, model) as add:
            for path in files:
                try:
                    for seen in predict_paths(
                        predictor, [path], confidence_threshold=confidence_threshold, rate_hz=rate_hz
                    ):
                        is_detection = isinstance(seen.prediction, Detections)
                        annotation = _annotation(seen, predictor.classes, confidence_threshold)
                        add(annotation, _write_image(seen, work / "images", names))
                        found = [box.class_name for box in annotation.boxes]
                        found += [annotation.class_name] if annotation.class_name is not None else []
                        counts.update(found)
                        tally.update(images=1, blank=not found)
                except MediaError as error:
                    problems.add("unreadable_file", str(path), f"{error}; left out")
                    tally["skipped"] += 1
        if not tally["images"]:
            raise DataError(f"none of {len(files)} files could be read: {', '.join(map(str, files[:5]))}")
    return PrelabelReport(
        target=str(target),
        image_count=tally["images"],
        box_count=counts.total() if is_detection else 0,
        class_counts={name: counts[name] for name in predictor.classes if counts[name]},
        blank_count=tally["blank"],
        skipped_count=tally["skipped"],
    )


def _annotation(seen: PathPrediction, classes: Sequence[str], confidence_threshold: float | None) -> Annotation:
    height, width = seen.image.shape[:2]
    prediction = seen.prediction
    if isinstance(prediction, Detections):
        masks: Sequence[Mask | None] = prediction.masks or [None] * len(prediction)
        boxes = []
        for class_id, (left, top, right, bottom), mask in zip(
            prediction.class_ids.tolist(), prediction.xyxy.tolist(), masks, strict=True
        ):
            boxes.append(Box(classes[class_id], (left, top, right, bottom), mask))
        return Annotation((width, height), boxes=tuple(boxes), scores=tuple(prediction.confidence.tolist()))
    if confidence_threshold is not None and prediction.confidence < confidence_threshold:
        return Annotation((width, height))
    return Annotation((width, height), classes[prediction.class_id], scores=(float(prediction.confidence),))


class _Names:
    """Names of image files, each its own: the path below the folder that was named, without folders."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._folders = [path for path in paths if path.is_dir()]
        self._taken: set[str] = set()

    def of(self, path: Path, ending: str) -> str:
        """Return the name of a file or a frame; one that is taken gets a number."""
        folder = next((folder for folder in self._folders if path.is_relative_to(folder)), path.parent)
        stem = "_".join(path.relative_to(folder).with_suffix("").parts)
        name, number = stem + ending, 2
        while name.lower() in self._taken:
            name, number = f"{stem}-{number}{ending}", number + 1
        self._taken.add(name.lower())
        return name


def _write_image(seen: PathPrediction, folder: Path, names: _Names) -> str:
    """Write an image as its file has it, or upright as PNG where decoders could disagree; a frame as JPEG."""
    if seen.frame_index is None:
        stored = stored_image(seen.path.read_bytes())
        name, data = names.of(seen.path, stored.extension), stored.data
    else:
        buffer = io.BytesIO()
        Image.fromarray(seen.image).save(buffer, "JPEG", quality=_FRAME_QUALITY)
        name, data = names.of(seen.path, f"-{seen.frame_index:06d}.jpg"), buffer.getvalue()
    (folder / name).write_bytes(data)
    return name


@contextmanager
def _task(work: Path, tool: Tool, predictor: Predictor, model: str) -> Iterator[_Add]:
    """Yield a function that adds an image to the tool's file; the file is whole when the block ends."""
    begin = _cvat_task if tool == "cvat" else _label_studio_task
    with begin(work, predictor.classes, predictor.postprocessing.kind, model) as add:
        yield add


@contextmanager
def _cvat_task(work: Path, classes: Sequence[str], task: str, _model: str) -> Iterator[_Add]:
    """Yield a function that adds images to CVAT's file."""
    number = 0
    with (work / cvat.ANNOTATIONS).open("w", encoding="utf-8") as stream:
        cvat.begin(stream, classes, task=task, attributes=(cvat.SCORE,))

        def add(annotation: Annotation, name: str) -> None:
            nonlocal number
            cvat.write_annotation(stream, annotation, number, name)
            number += 1

        yield add
        cvat.end(stream)
    score = {"name": cvat.SCORE, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    kind = "tag" if task == "classification" else "any"
    labels = [{"name": name, "type": kind, "attributes": [score]} for name in classes]
    (work / "labels.json").write_text(json.dumps(labels, indent=1, ensure_ascii=False), encoding="utf-8")


@contextmanager
def _label_studio_task(work: Path, classes: Sequence[str], task: str, model: str) -> Iterator[_Add]:
    """Yield a function that adds images to Label Studio's file."""
    with (work / label_studio.TASKS).open("w", encoding="utf-8") as stream:
        tasks = label_studio.TaskList(stream)

        def add(annotation: Annotation, name: str) -> None:
            scores = annotation.scores
            prediction: dict[str, Any] = {"model_version": model, "result": label_studio.results(annotation)}
            # The tool sorts tasks by it: the least sure object is where a person is needed first.
            prediction["score"] = round(min(scores), 4) if scores else 0.0
            tasks.add({"data": {"image": f"{label_studio.LOCAL_FILES}images/{name}"}, "predictions": [prediction]})

        yield add
        tasks.end()
    label_studio.write_config(work, classes, task=task)
