"""Outlines of masks; apart from the masks themselves, because they need OpenCV."""

import cv2
import numpy as np

from visionyard.geometry.masks import Mask


def mask_to_polygons(mask: Mask) -> list[list[float]]:
    """Return the outlines of a mask along the edges of its pixels, one for each part that hangs together.

    Holes are filled, as polygons of COCO cannot have any. Parts that touch at a corner are one.

    Returns:
        For each part x, y, x, y ... in pixels of the image, where the first pixel reaches from 0 to 1.
    """
    return [corners.ravel().tolist() for corners in _contours(mask, cv2.RETR_EXTERNAL)]


def mask_to_outline(mask: Mask) -> list[float]:
    """Return one polygon that holds exactly the pixels of a mask, its parts and its holes.

    Each part and each hole is gone round once and reached from the first one's first corner by a line that is gone
    there and back, so that it encloses nothing: `visionyard.geometry.polygons.rasterize` gives the mask again.

    Returns:
        x, y, x, y ... in pixels of the image, where the first pixel reaches from 0 to 1; empty for an empty mask.
    """
    contours = _contours(mask, cv2.RETR_LIST)
    if len(contours) < 2:
        return [value for corners in contours for value in corners.ravel().tolist()]
    start = contours[0][:1]
    tours = [part for corners in contours for part in (corners, corners[:1], start)]
    # The first tour ends at the start by itself, and the last line back is the polygon's own closing edge.
    return [float(value) for value in np.concatenate([tours[0], start, *tours[3:-1]]).ravel()]


def _contours(mask: Mask, mode: int) -> list[np.ndarray]:
    """Return the contours that OpenCV's `mode` finds, each (P, 2) float corners of pixels, x and y."""
    crop, offset_xy = mask.to_crop()
    if not crop.size:
        return []
    # With every pixel doubled, a contour through pixel centres tells on which side of its pixel it runs: an even
    # position is a left or upper edge, an odd one a right or lower edge.
    doubled = np.repeat(np.repeat(crop.astype(np.uint8), 2, axis=0), 2, axis=1)
    found, _ = cv2.findContours(doubled, mode, cv2.CHAIN_APPROX_SIMPLE)
    contours = []
    for contour in found:
        corners = (contour[:, 0] + 1) // 2 + offset_xy
        is_new = (corners != np.roll(corners, 1, axis=0)).any(axis=1)
        contours.append(corners[is_new].astype(float))
    return contours
