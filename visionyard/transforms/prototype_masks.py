"""Masks from prototypes: each object's is a weighted sum of small maps that all objects of an image share.

Source: Bolya et al., YOLACT, 2019 (arXiv:1904.02689), section 3.3, with the weighted sums enlarged before they are held
against the threshold, as Ultralytics does (`process_mask` in `ultralytics/utils/ops.py`).
"""

import numpy as np

from visionyard.geometry import Mask
from visionyard.transforms.preprocessing import Placement

# What is not a number is outside; infinity stays a number, so that a line can be drawn through it.
_LARGEST = 1e30


def masks_from_prototypes(
    prototypes: np.ndarray, coefficients: np.ndarray, xyxy: np.ndarray, placement: Placement
) -> tuple[Mask, ...]:
    """Return the masks of objects in the source image.

    A pixel is inside where the sum, bilinearly interpolated at its centre, is above 0 (its sigmoid above 0.5), and the
    box touches it. The enlarged sum is never made: between two rows of the prototypes it is a line, so the row where it
    crosses 0 is known. Time and memory go by the width of the box and the height of the prototypes.

    Args:
        prototypes: (M, h, w) float32, covering the model's input.
        coefficients: (N, M) float32.
        xyxy: (N, 4) float64, pixels of the source image, within it.
        placement: Where the source image lies in the input.
    """
    return tuple(_mask(prototypes, weights, box, placement) for weights, box in zip(coefficients, xyxy, strict=True))


def _mask(prototypes: np.ndarray, weights: np.ndarray, box: np.ndarray, placement: Placement) -> Mask:
    width, height = placement.source_wh
    if not np.isfinite(box).all():
        return Mask.from_edges(np.zeros(0, np.int64), (height, width))
    left, top = (int(value) for value in np.floor(box[:2]))
    right, bottom = (int(value) for value in np.ceil(box[2:]))
    if right <= left or bottom <= top:
        return Mask.from_edges(np.zeros(0, np.int64), (height, width))
    rows, cells = prototypes.shape[1:]
    slope, start = _cells(placement, (rows, cells))
    at_x = np.clip(np.arange(left, right) * slope[0] + start[0], 0, cells - 1)
    # Only the cells that the box lies between.
    first_x, last_x = int(at_x[0]), int(at_x[-1])
    first, last = np.clip(np.floor(np.array([top, bottom]) * slope[1] + start[1]), 0, rows - 1).astype(int)
    part = prototypes[:, first : last + 2, first_x : last_x + 2]
    with np.errstate(invalid="ignore", over="ignore"):
        sums = weights @ part.reshape(len(part), -1)
    logits = np.nan_to_num(sums, nan=-1.0, posinf=_LARGEST, neginf=-_LARGEST)
    columns = _between(logits.reshape(part.shape[1:]).T.astype(np.float64), at_x - first_x)

    is_inside = columns > 0
    column, row = np.nonzero(is_inside[:, 1:] != is_inside[:, :-1])
    above, below = columns[column, row], columns[column, row + 1]
    crossing = (first + row + above / (above - below) - start[1]) / slope[1]
    # At 0 itself a pixel is outside: an object begins beyond the crossing, and ends at it.
    turns = np.where(below > 0, np.floor(crossing) + 1, np.ceil(crossing))
    edges = np.concatenate(
        [
            _positions(np.flatnonzero(is_inside[:, 0]), np.array(top), left, height),
            _positions(column, np.clip(turns, top, bottom).astype(np.int64), left, height),
            _positions(np.flatnonzero(is_inside[:, -1]), np.array(bottom), left, height),
        ]
    )
    # Two turns at one pixel, or an end where the next column begins, are none.
    places, counts = np.unique(edges, return_counts=True)
    return Mask.from_edges(places[counts % 2 == 1], (height, width))


def _positions(columns: np.ndarray, rows: np.ndarray, left: int, height: int) -> np.ndarray:
    return np.asarray((left + columns.astype(np.int64)) * height + rows)


def _cells(placement: Placement, shape_hw: tuple[int, ...]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return how a source pixel's number becomes a place among the prototypes' cells: number * slope + start, by axis.

    Whole places are the middles of cells.
    """
    slopes, starts = [], []
    for axis, count in enumerate((shape_hw[1], shape_hw[0])):
        per_pixel = count / placement.input_wh[axis]
        slopes.append(placement.scale_xy[axis] * per_pixel)
        starts.append((0.5 * placement.scale_xy[axis] + placement.offset_xy[axis]) * per_pixel - 0.5)
    return (slopes[0], slopes[1]), (starts[0], starts[1])


def _between(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the (P, k) values at places between the rows of (n, k), linearly."""
    low = np.minimum(places.astype(np.int64), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (places - low)[:, None]
    return np.asarray(rows[low] * (1 - share) + rows[high] * share)
