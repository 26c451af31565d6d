"""Metrics, per-image results and the report of a trained model."""

from visionyard.evaluation.classification import ClassificationMetrics, classification_metrics
from visionyard.evaluation.detection import DetectionMetrics, detection_metrics
from visionyard.evaluation.evaluate import (
    MAIN_METRIC,
    EvaluationReport,
    ImagePredictor,
    evaluate,
    read_curves,
    read_metrics,
)
from visionyard.evaluation.matching import Matches, TrueBoxes, match_boxes
from visionyard.evaluation.per_image import ImageResult, read_results
from visionyard.evaluation.report import build_report

__all__ = [
    "MAIN_METRIC",
    "ClassificationMetrics",
    "DetectionMetrics",
    "EvaluationReport",
    "ImagePredictor",
    "ImageResult",
    "Matches",
    "TrueBoxes",
    "build_report",
    "classification_metrics",
    "detection_metrics",
    "evaluate",
    "match_boxes",
    "read_curves",
    "read_metrics",
    "read_results",
]
