"""Image loading, preprocessing (of images and rows) and postprocessing: the one version of training and serving."""

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
from visionyard.transforms.rows import Row, TablePreprocessing
from visionyard.transforms.specs import Content, Preprocessing

__all__ = [
    "IMAGE_MEDIA_TYPES",
    "MAX_PIXEL_COUNT",
    "Classification",
    "ClassificationPostprocessing",
    "Content",
    "DetectionPostprocessing",
    "Detections",
    "Placement",
    "Postprocessing",
    "Prediction",
    "Preprocessing",
    "PreprocessingSpec",
    "Row",
    "TablePreprocessing",
    "decode_image",
    "load_image",
]
