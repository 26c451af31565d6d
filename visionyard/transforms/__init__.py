"""Image loading, preprocessing and postprocessing: the one version that training and serving share."""

from visionyard.transforms.images import IMAGE_MEDIA_TYPES, MAX_PIXEL_COUNT, decode_image, load_image
from visionyard.transforms.postprocessing import (
    Classification,
    ClassificationPostprocessing,
    DetectionPostprocessing,
    Detections,
    Postprocessing,
    Prediction,
)
from visionyard.transforms.preprocessing import Placement, PreprocessingSpec

__all__ = [
    "IMAGE_MEDIA_TYPES",
    "MAX_PIXEL_COUNT",
    "Classification",
    "ClassificationPostprocessing",
    "DetectionPostprocessing",
    "Detections",
    "Placement",
    "Postprocessing",
    "Prediction",
    "PreprocessingSpec",
    "decode_image",
    "load_image",
]
