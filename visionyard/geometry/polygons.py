"""Polygons to masks, with the pixels that COCO's own code gives them, whatever lies outside the image.

A vertex is rounded to a fifth of a pixel, an edge drawn between the rounded vertices in such steps, and a pixel of a
column belongs to the polygon when its middle lies between two edges there. Only where an edge crosses the middle of a
column counts, so just those places are computed: a polygon of a billion pixels costs no more than one that fits.

Source: `rleFrPoly` in `common/maskApi.c` of cocodataset/cocoapi.
"""

from collections.abc import Sequence

import numpy as np

from visionyard.errors import ShapeError
from visionyard.geometry.masks import Mask, without_pairs

_STEPS_PER_PX = 5
# The step after which a column's middle lies: COCO counts the crossing from step 2 to step 3 of its five.
_BEFORE_MIDDLE = 2
# Far beyond any image, and exact in steps.
_MOST_PX = 1e9
_CROSSINGS_AT_ONCE = 1 << 20


def rasterize(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Mask:
    """Return the pixels that lie in at least one polygon.

    Args:
        polygons: Each x, y, x, y ... in pixels, where the first pixel reaches from 0 to 1; closed by itself. Where its
            parts overlap an even number of times is outside of it.
        size_hw: Height and width of the image, pixels.

    Returns:
        The mask, of the image's size; empty when there are no polygons, or they lie outside.

    Raises:
        ShapeError: A polygon has fewer than three points, an odd count of numbers, or one that is not finite or above
            a billion pixels.
    """
    return Mask.from_edges(_union([_edges(_checked(polygon), size_hw) for polygon in polygons], size_hw), size_hw)


def _checked(polygon: Sequence[float]) -> np.ndarray:
    values = np.asarray(polygon, np.float64)
    if values.ndim != 1 or len(values) < 6 or len(values) % 2:
        raise ShapeError(f"polygon: expected x, y of three points or more, got {values.size} numbers")
    if not np.isfinite(values).all() or np.abs(values).max() > _MOST_PX:
        raise ShapeError(f"polygon: expected finite pixels up to {_MOST_PX:g}, got {np.abs(values).max()}")
    return values.reshape(-1, 2)


def _edges(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return where a polygon, (P, 2) x and y, begins and ends, as `Mask.from_edges` takes it."""
    height, width = size_hw
    start = np.trunc(points * _STEPS_PER_PX + 0.5)
    stop = np.roll(start, -1, axis=0)
    # COCO draws each edge in the direction in which its longer side grows.
    span = np.abs(stop - start)
    is_steep = span[:, 0] < span[:, 1]
    along = is_steep.astype(np.int64)
    rows = np.arange(len(start))
    is_turned = start[rows, along] > stop[rows, along]
    start, stop = np.where(is_turned[:, None], stop, start), np.where(is_turned[:, None], start, stop)
    # The columns whose middle an edge crosses, from the first on.
    left, right = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first = np.maximum(0, np.ceil((left - _BEFORE_MIDDLE) / _STEPS_PER_PX))
    last = np.minimum(width - 1, np.floor((right - _BEFORE_MIDDLE - 1) / _STEPS_PER_PX))
    counts = np.maximum(0, last - first + 1).astype(np.int64)
    found = [np.zeros(0, np.int64)]
    for chosen in _chunks(counts):
        edge = np.repeat(chosen, counts[chosen])
        place = np.arange(len(edge)) - np.repeat(np.cumsum(counts[chosen]) - counts[chosen], counts[chosen])
        column = first[edge] + place
        crossing = np.where(
            is_steep[edge], _steep(start[edge], stop[edge], column), _flat(start[edge], stop[edge], column)
        )
        row = np.ceil(np.clip((crossing + 0.5) / _STEPS_PER_PX - 0.5, 0, height))
        found.append((column * height + row).astype(np.int64))
    return without_pairs(np.concatenate(found))


def _chunks(counts: np.ndarray) -> list[np.ndarray]:
    """Return indices of `counts` in groups of at most `_CROSSINGS_AT_ONCE`, as far as one does not have more."""
    if not len(counts):
        return []
    groups = np.cumsum(counts) // _CROSSINGS_AT_ONCE
    return np.split(np.arange(len(counts)), np.flatnonzero(np.diff(groups)) + 1)


def _flat(start: np.ndarray, stop: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return the step rows, the upper of the two, where edges that are wider than high cross a column's middle."""
    span = np.maximum(stop[:, 0] - start[:, 0], 1)
    slope = (stop[:, 1] - start[:, 1]) / span
    step = column * _STEPS_PER_PX + _BEFORE_MIDDLE - start[:, 0]
    before = np.trunc(start[:, 1] + slope * step + 0.5)
    after = np.trunc(start[:, 1] + slope * (step + 1) + 0.5)
    upper: np.ndarray = np.minimum(before, after)
    return upper


def _steep(start: np.ndarray, stop: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return the step rows, the upper of the two, where edges that are higher than wide cross a column's middle."""
    span = np.maximum(stop[:, 1] - start[:, 1], 1)
    slope = (stop[:, 0] - start[:, 0]) / span
    after = column * _STEPS_PER_PX + _BEFORE_MIDDLE + 1
    is_rising = slope > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.nan_to_num(np.ceil((after - 0.5 - start[:, 0]) / slope))
    step = np.clip(step, 1, span) - 2

    def is_behind(at: np.ndarray) -> np.ndarray:
        place = np.trunc(start[:, 0] + slope * at + 0.5)
        answer: np.ndarray = np.where(is_rising, place >= after, place < after)
        return answer

    # The division may be off by one step; the comparison that COCO makes decides.
    for _ in range(4):
        step = step + ~is_behind(step)
    upper: np.ndarray = start[:, 1] + step - 1
    return upper


def _union(edges: list[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    if len(edges) == 1:
        return edges[0]
    closed = [np.append(each, size_hw[0] * size_hw[1]) if len(each) % 2 else each for each in edges]
    places = np.concatenate([np.zeros(0, np.int64), *closed])
    changes = np.concatenate([np.zeros(0, np.int64), *(1 - 2 * (np.arange(len(each)) % 2) for each in closed)])
    unique, group = np.unique(places, return_inverse=True)
    covered = np.cumsum(np.bincount(group, changes, len(unique))) > 0
    changed: np.ndarray = unique[covered != np.concatenate([[False], covered[:-1]])]
    return changed
