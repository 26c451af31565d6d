"""Boxes, masks and overlap."""

from visionyard.geometry.boxes import Xyxy, area, cxcywh_to_xyxy, iou_matrix, non_max_suppression, xyxy_to_xywh
from visionyard.geometry.masks import Mask

__all__ = ["Mask", "Xyxy", "area", "cxcywh_to_xyxy", "iou_matrix", "non_max_suppression", "xyxy_to_xywh"]
