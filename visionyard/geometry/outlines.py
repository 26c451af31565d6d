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
    crop, offset_xy = mask.to_crop()
    if not crop.size:
        return []
    # With every pixel doubled, a contour through pixel centres tells on which side of its pixel it runs: an even
    # position is a left or upper edge, an odd one a right or lower edge.
    doubled = np.repeat(np.repeat(crop.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for contour in contours:
        corners = (contour[:, 0] + 1) // 2 + offset_xy
        is_new = (corners != np.roll(corners, 1, axis=0)).any(axis=1)
        polygons.append(corners[is_new].astype(float).ravel().tolist())
    return polygons
