"""Models by Ultralytics (AGPL-3.0, hence the optional extra `yolo`)."""

from visionyard.models.yolo.plugins import YoloClassification, YoloDetection

__all__ = ["YoloClassification", "YoloDetection"]
