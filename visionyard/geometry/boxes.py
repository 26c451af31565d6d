"""Boxes: conversion, overlap, suppression. `xyxy` is left, top, right, bottom; pixels unless a name says normalized."""

import numpy as np

from visionyard.errors import ShapeError

# One box, where an array would be too much.
Xyxy = tuple[float, float, float, float]


def cxcywh_to_xyxy(cxcywh: np.ndarray) -> np.ndarray:
    """Turn (N, 4) centre x, centre y, width, height into (N, 4) left, top, right, bottom."""
    half = cxcywh[:, 2:] / 2
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def xyxy_to_xywh(xyxy: np.ndarray) -> np.ndarray:
    """Turn (N, 4) left, top, right, bottom into (N, 4) left, top, width, height."""
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def area(xyxy: np.ndarray) -> np.ndarray:
    """Return the (N,) areas; 0 for a box whose right or bottom is not beyond its left or top."""
    sides = np.clip(xyxy[:, 2:] - xyxy[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1])


def iou_matrix(first_xyxy: np.ndarray, second_xyxy: np.ndarray) -> np.ndarray:
    """Return the overlap of each pair of boxes as intersection over union.

    Args:
        first_xyxy: (N, 4) float, pixels.
        second_xyxy: (M, 4) float, pixels.

    Returns:
        (N, M) float64 in [0, 1]; 0 where both boxes have no area.

    Raises:
        ShapeError: An array is not (N, 4).
    """
    for name, xyxy in (("first_xyxy", first_xyxy), ("second_xyxy", second_xyxy)):
        if xyxy.ndim != 2 or xyxy.shape[1] != 4:
            raise ShapeError(f"{name}: expected (N, 4), got {xyxy.shape}")
    first, second = first_xyxy.astype(np.float64), second_xyxy.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(first)[:, None] + area(second)[None, :] - intersection
    return np.asarray(np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0))


def non_max_suppression(
    xyxy: np.ndarray, confidence: np.ndarray, class_ids: np.ndarray, *, iou_threshold: float, max_count: int
) -> np.ndarray:
    """Keep the most confident box of each group of overlapping ones of a class.

    Args:
        xyxy: (N, 4) float, pixels.
        confidence: (N,) float in [0, 1].
        class_ids: (N,) int; boxes of different classes never suppress each other.
        iou_threshold: Boxes that overlap more than this are one group, in [0, 1].
        max_count: Most boxes kept.

    Returns:
        (K,) int64 indices into `xyxy`, most confident first; on a tie the lower index first; empty for N = 0.

    Raises:
        ShapeError: `xyxy` is not (N, 4), or another array has another N.

    Source: greedy suppression as in R. Girshick et al., Rich feature hierarchies, 2014, section 2.2; arXiv:1311.2524.
    """
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ShapeError(f"xyxy: expected (N, 4), got {xyxy.shape}")
    for name, values in (("confidence", confidence), ("class_ids", class_ids)):
        if values.shape != (len(xyxy),):
            raise ShapeError(f"{name}: expected ({len(xyxy)},), got {values.shape}")
    order = np.argsort(-confidence, kind="stable")
    boxes, areas, classes = xyxy.astype(np.float64), area(xyxy.astype(np.float64)), class_ids
    kept: list[int] = []
    while order.size and len(kept) < max_count:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        sides = np.clip(np.minimum(boxes[rest, 2:], boxes[best, 2:]) - low, 0, None)
        intersection = sides[:, 0] * sides[:, 1]
        union = areas[rest] + areas[best] - intersection
        is_same = (intersection > iou_threshold * union) & (classes[rest] == classes[best])
        order = rest[~is_same]
    return np.asarray(kept, dtype=np.int64)
