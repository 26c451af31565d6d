"""What an imported model says of sample images: the statistics that later pictures are held against, and a preview."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from visionyard.export.statistics import distribution
from visionyard.inference.bundle import ReferenceStatistics
from visionyard.inference.drawing import draw_prediction
from visionyard.inference.paths import predict_paths
from visionyard.inference.predictor import Predictor
from visionyard.monitoring.features import (
    PICTURE_FEATURES,
    confidence_threshold_of,
    picture_features,
    prediction_features,
)
from visionyard.monitoring.features_reference import group_order, picture_references, prediction_references
from visionyard.transforms import Detections, Prediction

PREVIEW = "preview.jpg"
_DESCRIBED = ("width_px", "height_px", "brightness", "contrast")
_PREVIEW_COUNT = 6
_PREVIEW_COLUMNS = 3
_PREVIEW_PX = 480


@dataclass(frozen=True)
class Samples:
    """What was seen.

    Attributes:
        statistics: None without images.
        count: Images looked at; of a video one frame a second.
        object_count: Boxes found at the spec's own threshold; for a classifier the images again.
    """

    statistics: ReferenceStatistics | None = None
    count: int = 0
    object_count: int = 0


def look_at(predictor: Predictor, paths: Sequence[Path], preview: Path) -> Samples:
    """Run a model on sample images, describe them, and draw the first ones.

    Args:
        predictor: The model.
        paths: Images, videos, or folders of them.
        preview: The JPEG to write.

    Raises:
        ConfigError: A path does not exist, or a folder has no image or video.
        MediaError: A file cannot be decoded.
    """
    threshold = confidence_threshold_of(predictor.postprocessing)
    pictures, answers, groups = [], [], []
    tiles: list[Image.Image] = []
    confidences: list[float] = []
    for seen in predict_paths(predictor, paths):
        pictures.append(picture_features(seen.image))
        answers.append(prediction_features(seen.prediction, confidence_threshold=threshold))
        # Frames of one video resemble each other.
        groups.append(str(seen.path))
        confidences += _confidences(seen.prediction)
        if len(tiles) < _PREVIEW_COUNT:
            tiles.append(_tile(draw_prediction(seen.image, seen.prediction, predictor.classes)))
    _write_grid(tiles, preview)
    order = group_order(groups)
    features, embedding = picture_references(pictures, order, groups=groups)
    found, class_counts = prediction_references(answers, predictor.classes, order)
    values = dict(zip(PICTURE_FEATURES, np.stack([picture.values for picture in pictures]).T, strict=True))
    statistics = ReferenceStatistics(
        images={name: distribution(values[name]) for name in _DESCRIBED},
        class_mix={},  # of labels, which there are none
        confidence=distribution(np.array(confidences)) if confidences else None,
        features=features | found,
        class_counts=class_counts,
        embedding=embedding,
    )
    return Samples(statistics, len(pictures), len(confidences))


def _confidences(prediction: Prediction) -> list[float]:
    if isinstance(prediction, Detections):
        return [float(value) for value in prediction.confidence]
    return [prediction.confidence]


def _tile(image: np.ndarray) -> Image.Image:
    tile = Image.fromarray(image)
    tile.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
    return tile


def _write_grid(tiles: Sequence[Image.Image], path: Path) -> None:
    columns = min(len(tiles), _PREVIEW_COLUMNS)
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (columns * width, rows * height), (255, 255, 255))
    for position, tile in enumerate(tiles):
        grid.paste(tile, (position % columns * width, position // columns * height))
    grid.save(path, "JPEG", quality=90)
