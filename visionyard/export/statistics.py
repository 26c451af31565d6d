"""What the model's pictures and predictions usually look like: the reference that later pictures are held against."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from visionyard import events
from visionyard.data.dataset import Dataset, DatasetVersion
from visionyard.data.items import Split
from visionyard.inference.bundle import Distribution, ReferenceStatistics
from visionyard.inference.reference import FeatureReference
from visionyard.monitoring.features import (
    PICTURE_FEATURES,
    PictureFeatures,
    confidence_threshold_of,
    picture_features,
    prediction_features,
)
from visionyard.monitoring.features_reference import group_order, picture_references, prediction_references
from visionyard.transforms import Classification, DetectionPostprocessing, Detections, Postprocessing, Prediction

# Enough for quantiles within two points of a hundred, little enough to decode in seconds.
SAMPLED_IMAGE_COUNT = 256
_QUANTILES = {"q01": 0.01, "q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99}
_DIGITS = 6
_DESCRIBED_SPLITS: tuple[Split, ...] = ("train", "val")


def reference_statistics(
    dataset: DatasetVersion, postprocessing: Postprocessing, predictions: Sequence[Prediction]
) -> ReferenceStatistics:
    """Describe the images of train and val, their labels, and the model's predictions on test.

    Sizes and labels are taken from all items, what is measured of pixels from `SAMPLED_IMAGE_COUNT` spread evenly. Of a
    table there are labels and predictions alone: no one holds later rows against them.

    Args:
        dataset: The one the model was trained on.
        postprocessing: Its threshold tells which detections count.
        predictions: One for each image of the test split, in its order.
    """
    labels: Counter[int] = Counter()
    sizes = []
    for split in _DESCRIBED_SPLITS:
        for sample in dataset.samples(split):
            labels.update(sample.class_ids.tolist())
            sizes.append((sample.width, sample.height))
    total = sum(labels.values())
    mix = {name: round(labels[index] / total, _DIGITS) for index, name in enumerate(dataset.classes)} if total else {}
    confidence = _confidence(postprocessing, predictions)
    if not isinstance(dataset, Dataset):
        return ReferenceStatistics(images={}, class_mix=mix, confidence=confidence)
    measured, groups = zip(*_pictures(dataset), strict=True)
    features, embedding = picture_references(measured, group_order(groups), groups=groups)
    threshold = confidence_threshold_of(postprocessing)
    answers = [prediction_features(prediction, confidence_threshold=threshold) for prediction in predictions]
    class_counts: dict[str, FeatureReference] = {}
    if answers:
        test_groups = [sample.group for sample, _ in zip(dataset.samples("test"), answers, strict=True)]
        found, class_counts = prediction_references(answers, dataset.classes, group_order(test_groups))
        features |= found
    values = dict(zip(PICTURE_FEATURES, np.stack([picture.values for picture in measured]).T, strict=True))
    columns = {
        "width_px": np.array(sizes)[:, 0],
        "height_px": np.array(sizes)[:, 1],
        "brightness": values["brightness"],
        "contrast": values["contrast"],
    }
    return ReferenceStatistics(
        images={name: distribution(column) for name, column in columns.items()},
        class_mix=mix,
        confidence=confidence,
        features=features,
        class_counts=class_counts,
        embedding=embedding,
    )


def distribution(values: np.ndarray) -> Distribution:
    """Return mean, standard deviation and quantiles of (N,) values, N of at least 1."""
    numbers = values.astype(np.float64)
    quantiles = np.quantile(numbers, list(_QUANTILES.values()))
    return Distribution(
        count=len(numbers),
        mean=round(float(numbers.mean()), _DIGITS),
        std=round(float(numbers.std()), _DIGITS),
        quantiles={name: round(float(value), _DIGITS) for name, value in zip(_QUANTILES, quantiles, strict=True)},
    )


def _pictures(dataset: Dataset) -> Iterator[tuple[PictureFeatures, str]]:
    """Yield what is measured of pictures of train and val, each with its group."""
    places = [(split, position) for split in _DESCRIBED_SPLITS for position in range(dataset.count(split))]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), SAMPLED_IMAGE_COUNT)).round().astype(int))
    for done, index in enumerate(chosen.tolist(), start=1):
        split, position = places[index]
        sample = dataset.sample(split, position)
        yield picture_features(dataset.image(sample)), sample.group
        events.progress(done, len(chosen), unit="image", label="describing the training images")


def _confidence(postprocessing: Postprocessing, predictions: Sequence[Prediction]) -> Distribution | None:
    values: list[float] = []
    for prediction in predictions:
        if isinstance(prediction, Classification):
            values.append(prediction.confidence)
        elif isinstance(prediction, Detections) and isinstance(postprocessing, DetectionPostprocessing):
            is_shown = prediction.confidence >= postprocessing.confidence_threshold
            values += prediction.confidence[is_shown].tolist()
    return distribution(np.array(values)) if values else None
