"""Judge a model on a split of a dataset version and write the evaluation: figures, per-image results, curves.

metrics.json        the figures, as `EvaluationReport` and the tables of the report read them (keys below)
per_image.parquet   a row an image, see visionyard.evaluation.per_image
curves.json         the training curves as they were handed in: a list of one object an epoch

metrics.json: `schema_version`, `artifact` "evaluation", `task`, `split`, `classes`, `metric` (`name`, `value`),
`overall` (name to number), `per_class` (one object a class), `confusion_matrix` (`labels`, `counts`; rows truth,
columns prediction), `calibration` (classification), `thresholds`, `counts`, `dataset_digest`, `lineage`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import read_manifest, write_manifest
from visionyard.data.dataset import DatasetVersion, Example
from visionyard.data.items import Split, Task
from visionyard.errors import ArtifactError, DataError, ModelError, NotANumberError
from visionyard.evaluation.classification import ClassificationMetrics, classification_metrics
from visionyard.evaluation.detection import DetectionMetrics, detection_metrics
from visionyard.evaluation.numbers import require_finite
from visionyard.evaluation.per_image import (
    DETECTION_FLOOR,
    PER_IMAGE,
    ImageResult,
    ResultWriter,
    classification_result,
    detection_result,
)
from visionyard.transforms import Classification, Content, Detections, Prediction

METRICS = "metrics.json"
CURVES = "curves.json"
MAIN_METRIC: Mapping[Task, str] = {"detection": "map_50", "classification": "top_1"}
BACKGROUND = "background"


class ImagePredictor(Protocol):
    """What is judged: `visionyard.inference.Predictor`, or anything that looks at images, or rows, the same way."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names in the order of their ids."""

    def predict(
        self, images: Sequence[Content], *, confidence_threshold: float | None = None, batch_size: int = 8
    ) -> list[Prediction]:
        """Return one prediction an image; images are (H, W, 3) uint8 RGB, or rows."""


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Attributes:
        metric_name: The main metric: `map_50` or `top_1`.
        metric_value: Its value.
        overall: All figures over all classes by name, the main one first.
        image_count: Images, or rows, judged.
        right_count: Of these, images without any mistake at the thresholds.
        unlabelled_count: Images of the split that have no label to judge by.
        item: What people call one of them: image, row.
    """

    metric_name: str
    metric_value: float
    overall: dict[str, float]
    image_count: int
    right_count: int
    unlabelled_count: int
    item: str = "image"


def evaluate(
    predictor: ImagePredictor,
    dataset: DatasetVersion,
    target: Path,
    *,
    confidence_threshold: float,
    iou_threshold: float,
    lineage: Mapping[str, str],
    curves: Sequence[Mapping[str, Any]],
    split: Split = "test",
) -> EvaluationReport:
    """Judge a model on a split and write the evaluation folder.

    Args:
        predictor: The model.
        dataset: The dataset version.
        target: The folder to write; it appears whole or not at all.
        confidence_threshold: Detections below it do not count as right or wrong; average precision uses them all.
        iou_threshold: Least overlap of a detection with the true box it found.
        lineage: Digests and names that tell where the model came from.
        curves: Training metrics, one mapping an epoch.
        split: What to judge on.

    Raises:
        ModelError: The model's classes are not the dataset's.
        DataError: The split has no labelled image or no true box, or an image cannot be decoded.
        NotANumberError: A prediction or a curve holds NaN.
    """
    _check_fit(predictor, dataset, split)
    with atomic_folder(target) as folder:
        (folder / CURVES).write_text(_curves_text(curves), encoding="utf-8")
        judged = _Judged()
        with ResultWriter(folder / PER_IMAGE) as writer:
            for batch in _judge(predictor, dataset, split, confidence_threshold, iou_threshold):
                writer.write(batch)
                judged.add(batch, dataset.task)
        if not judged.truths:
            raise DataError(
                f"{dataset.folder}: no {dataset.item} of the {split} split has a label; label some, prepare again"
            )
        metrics = judged.measure(dataset, confidence_threshold, iou_threshold)
        report = EvaluationReport(
            metric_name=MAIN_METRIC[dataset.task],
            metric_value=metrics.overall()[MAIN_METRIC[dataset.task]],
            overall=metrics.overall(),
            image_count=len(judged.truths),
            right_count=judged.right_count,
            unlabelled_count=dataset.count(split) - len(judged.truths),
            item=dataset.item,
        )
        values = {
            "task": dataset.task,
            "split": split,
            "classes": dataset.classes,
            "metric": {"name": report.metric_name, "value": report.metric_value},
            "overall": report.overall,
            **_tables(metrics, dataset.classes),
            "thresholds": {"confidence": confidence_threshold, "iou": iou_threshold},
            "counts": {
                "images": report.image_count,
                "right": report.right_count,
                "unlabelled": report.unlabelled_count,
            },
            "dataset_digest": dataset.digest,
            "lineage": dict(lineage),
        }
        write_manifest(folder, "evaluation", values, name=METRICS)
    return report


@dataclass
class _Judged:
    """What the metrics need of the images judged so far: arrays only, about 10 kB an image with 300 detections."""

    truths: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    right_count: int = 0

    def add(self, results: Sequence[ImageResult], task: Task) -> None:
        is_detection = task == "detection"
        self.truths += [one.truth if is_detection else one.truth_class_ids[0] for one in results]
        self.predictions += [one.detections if is_detection else one.probabilities for one in results]
        self.right_count += sum(one.is_right for one in results)

    def measure(
        self, dataset: DatasetVersion, confidence_threshold: float, iou_threshold: float
    ) -> DetectionMetrics | ClassificationMetrics:
        if dataset.task == "classification":
            return classification_metrics(np.array(self.truths), np.array(self.predictions), dataset.classes)
        return detection_metrics(
            self.truths,
            self.predictions,
            dataset.classes,
            confidence_threshold=confidence_threshold,
            iou_threshold=iou_threshold,
        )


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return `metrics.json` of an evaluation folder.

    Raises:
        ArtifactError: It is missing, not JSON or of an unknown version.
    """
    return read_manifest(folder, "evaluation", name=METRICS)


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """Return the training curves of an evaluation folder, one mapping an epoch.

    Raises:
        ArtifactError: They are missing.
    """
    path = folder / CURVES
    if not path.exists():
        raise ArtifactError(f"{path}: the training curves are missing; run validate again")
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _check_fit(predictor: ImagePredictor, dataset: DatasetVersion, split: Split) -> None:
    if dataset.task not in MAIN_METRIC:
        expected = " or ".join(MAIN_METRIC)
        raise DataError(f"{dataset.folder}: labelled for {dataset.task}, which no metric judges; expected {expected}")
    if list(predictor.classes) != dataset.classes:
        raise ModelError(
            f"{dataset.folder}: the model knows the classes {', '.join(predictor.classes)}, the dataset has "
            f"{', '.join(dataset.classes)}; judge it on the dataset version it was trained on"
        )
    if not dataset.count(split):
        raise DataError(f"{dataset.folder}: the {split} split is empty; prepare the dataset with a larger fraction")


def _curves_text(curves: Sequence[Mapping[str, Any]]) -> str:
    try:
        return json.dumps([dict(row) for row in curves], indent=1, allow_nan=False) + "\n"
    except ValueError:
        bad = next(
            f"{name} of row {number} is {value}"
            for number, row in enumerate(curves)
            for name, value in row.items()
            if isinstance(value, float) and not np.isfinite(value)
        )
        raise NotANumberError(f"training curves: {bad}, expected a number; train again with a lower rate") from None


def _judge(
    predictor: ImagePredictor, dataset: DatasetVersion, split: Split, confidence_threshold: float, iou_threshold: float
) -> Iterator[list[ImageResult]]:
    """Yield the results of the split's labelled images, batch by batch."""
    total, done = dataset.count(split), 0
    samples = dataset.samples(split)
    while batch := list(islice(samples, dataset.batch_size)):
        # A classification without its one class cannot be judged; a detection without boxes is a picture of background.
        labelled = [sample for sample in batch if dataset.task == "detection" or len(sample.class_ids)]
        contents = [dataset.content(sample) for sample in labelled]
        found = predictor.predict(contents, confidence_threshold=DETECTION_FLOOR, batch_size=dataset.batch_size)
        yield [
            _result(sample, prediction, confidence_threshold, iou_threshold)
            for sample, prediction in zip(labelled, found, strict=True)
        ]
        done += len(batch)
        events.progress(done, total, unit=dataset.item, label=split)


def _result(sample: Example, prediction: Prediction, confidence_threshold: float, iou_threshold: float) -> ImageResult:
    if isinstance(prediction, Classification):
        require_finite(f"{sample.key}: probabilities", prediction.probabilities)
        return classification_result(sample, prediction)
    require_finite(f"{sample.key}: confidence", prediction.confidence)
    require_finite(f"{sample.key}: detected boxes", prediction.xyxy)
    return detection_result(
        sample, _ranked(prediction), confidence_threshold=confidence_threshold, iou_threshold=iou_threshold
    )


def _ranked(found: Detections) -> Detections:
    order = np.argsort(-found.confidence, kind="stable")
    return Detections(found.xyxy[order], found.class_ids[order], found.confidence[order])


def _tables(metrics: DetectionMetrics | ClassificationMetrics, classes: Sequence[str]) -> dict[str, Any]:
    is_detection = isinstance(metrics, DetectionMetrics)
    tables: dict[str, Any] = {
        "per_class": [asdict(one) for one in metrics.per_class],
        "confusion_matrix": {
            "labels": [*classes, BACKGROUND] if is_detection else list(classes),
            "counts": metrics.confusion.tolist(),
        },
    }
    if isinstance(metrics, ClassificationMetrics):
        tables["calibration"] = [asdict(one) for one in metrics.calibration]
    return tables
