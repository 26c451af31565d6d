"""The predictions of several predictors on the whole test split, in one pass over its images, and their main metric."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from visionyard import events
from visionyard.data.dataset import DatasetVersion, Example
from visionyard.evaluation.classification import classification_metrics
from visionyard.evaluation.detection import detection_metrics
from visionyard.evaluation.matching import TrueBoxes
from visionyard.inference import Predictor
from visionyard.transforms import Prediction

# Average precision looks at all detections; below this they cannot change its first three digits.
_LOWEST_CONFIDENCE = 0.001
# Neither changes the main metrics, which look at all confidences and at their own overlaps.
_UNUSED_THRESHOLD = 0.5

MAIN_METRICS = {"detection": "map_50_95", "classification": "top_1"}


def predict_test_split(dataset: DatasetVersion, predictors: Mapping[str, Predictor]) -> dict[str, list[Prediction]]:
    """Return each predictor's predictions on the test split, in key order; detections down to a confidence of 0.001.

    Args:
        dataset: Its test split is used; each item is read once.
        predictors: By name.
    """
    predictions: dict[str, list[Prediction]] = {name: [] for name in predictors}
    total, contents = dataset.count("test"), []
    for done, sample in enumerate(dataset.samples("test"), start=1):
        contents.append(dataset.content(sample))
        if len(contents) < dataset.batch_size and done < total:
            continue
        for name, predictor in predictors.items():
            predictions[name] += predictor.predict(
                contents, confidence_threshold=_LOWEST_CONFIDENCE, batch_size=dataset.batch_size
            )
        contents = []
        events.progress(done, total, unit=dataset.item, label="measuring formats on the test split")
    return predictions


def main_metric(dataset: DatasetVersion, predictions: list[Prediction]) -> float | None:
    """Return `map_50_95` or `top_1` of predictions on the test split; None when the split has no labels.

    Args:
        dataset: Its test split is the truth.
        predictions: One an image, in key order.
    """
    pairs: list[tuple[Example, Any]] = list(zip(dataset.samples("test"), predictions, strict=True))
    pairs = [(sample, found) for sample, found in pairs if dataset.task == "detection" or len(sample.class_ids)]
    if not any(len(sample.class_ids) for sample, _ in pairs):
        return None
    if dataset.task == "classification":
        truth = np.array([sample.class_ids[0] for sample, _ in pairs])
        return classification_metrics(
            truth, np.stack([found.probabilities for _, found in pairs]), dataset.classes
        ).top_1
    return detection_metrics(
        [TrueBoxes(sample.xyxy, sample.class_ids) for sample, _ in pairs],
        [found for _, found in pairs],
        dataset.classes,
        confidence_threshold=_UNUSED_THRESHOLD,
        iou_threshold=_UNUSED_THRESHOLD,
    ).map_50_95
