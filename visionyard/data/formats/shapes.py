"""Shapes that text formats draw, and the upright boxes around them."""

import math
from collections.abc import Sequence

from visionyard.geometry import Xyxy

# A box and the extents of its mask may differ where parts of an object are hidden. Below this overlap one of the two
# is of something else, or the box was written as two corners where a corner and a size are meant.
_LEAST_OVERLAP = 0.5


def around_points(values: Sequence[float]) -> Xyxy | None:
    """Return the box around points, x, y, x, y ...; None when there are none, or one is not a finite number."""
    if not values or not all(math.isfinite(value) for value in values):
        return None
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def around_ellipse(centre_xy: tuple[float, float], radii_xy: tuple[float, float], degrees: float) -> Xyxy:
    """Return the upright box around an ellipse that is turned clockwise about its centre."""
    (x, y), (radius_x, radius_y) = centre_xy, radii_xy
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    reach_x = math.hypot(radius_x * cosine, radius_y * sine)
    reach_y = math.hypot(radius_x * sine, radius_y * cosine)
    return x - reach_x, y - reach_y, x + reach_x, y + reach_y


def around_turned_box(xyxy: Xyxy, degrees: float, *, pivot_xy: tuple[float, float] | None = None) -> Xyxy:
    """Return the upright box around one that is turned clockwise about a point, its own centre when None."""
    left, top, right, bottom = xyxy
    x, y = pivot_xy or ((left + right) / 2, (top + bottom) / 2)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    offsets = [(corner_x - x, corner_y - y) for corner_x in (left, right) for corner_y in (top, bottom)]
    xs = [x + dx * cosine - dy * sine for dx, dy in offsets]
    ys = [y + dx * sine + dy * cosine for dx, dy in offsets]
    return min(xs), min(ys), max(xs), max(ys)


def hardly_overlap(first: Xyxy, second: Xyxy) -> bool:
    """Return whether two boxes share less than half of what they cover together."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    covered = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (first, second)) - shared
    return shared < _LEAST_OVERLAP * covered
