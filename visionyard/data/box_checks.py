"""Check a box against its image: one check and one set of words for what is wrong, whichever stage looks."""

import math
from collections.abc import Sequence

from visionyard.geometry import Xyxy


def checked_xyxy(xyxy: Xyxy, size_wh: tuple[int, int] | None, *, rounding_px: float) -> tuple[Xyxy | None, str, str]:
    """Check one box against its image.

    Args:
        xyxy: Pixels.
        size_wh: Width and height of the image as displayed; None checks without them.
        rounding_px: A box that leaves the image by no more is clipped without a word.

    Returns:
        The box within the image, or None when nothing is left; a problem code and what is wrong, both empty when the
        box is good.
    """
    if not all(math.isfinite(value) for value in xyxy):
        return None, "box_not_a_number", f"{text_of_box(xyxy)} holds a value that is not a number; dropped"
    left, top, right, bottom = xyxy
    if right <= left or bottom <= top:
        return None, "box_without_area", f"{text_of_box(xyxy)} has no area; dropped"
    if size_wh is None:
        return xyxy, "", ""
    width, height = size_wh
    clipped = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, "box_outside_image", f"{text_of_box(xyxy)} lies outside the image of {width}x{height} px; dropped"
    if max(abs(before - after) for before, after in zip(xyxy, clipped, strict=True)) > rounding_px:
        message = f"{text_of_box(xyxy)} leaves the image of {width}x{height} px; clipped to it"
        return clipped, "box_outside_image", message
    return clipped, "", ""


def text_of_box(xyxy: Sequence[float]) -> str:
    """Return a box as messages show it."""
    return "(" + ", ".join(f"{value:g}" for value in xyxy) + ")"
