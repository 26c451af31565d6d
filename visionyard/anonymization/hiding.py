"""Make regions of a picture unrecognisable.

What blur and pixelate leave of a region is its mean colours in a grid of at most `MOST_CELLS` cells along its longer
side, however large it is: all else is gone before anything is drawn, so that no sharpening brings it back. A Gaussian
blur of the pixels alone would keep, scaled down, what a deconvolution can find again.
"""

from collections.abc import Iterable

import cv2
import numpy as np

# A face takes about four by five of six cells: eyes, nose and mouth fall into three of them. In small regions a cell
# has four pixels a side at least, so that 16 px of a distant face become 4 cells, not 6.
MOST_CELLS = 6
LEAST_CELL_PX = 4
FILL_VALUE = 127


def padded_boxes(xyxy: np.ndarray, padding: float, *, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Return boxes with a margin, in whole pixels that hold them, inside the picture.

    Args:
        xyxy: (N, 4) float, pixels.
        padding: Share of a box's width and height added on each side, 0 or more.
        width: Of the picture.
        height: Of the picture.

    Returns:
        Left, top, right, bottom of each box, at least one pixel wide and high.
    """
    boxes = []
    for left, top, right, bottom in np.asarray(xyxy, np.float64).reshape(-1, 4).tolist():
        margin_x, margin_y = (right - left) * padding, (bottom - top) * padding
        x = min(max(0, int(np.floor(left - margin_x))), width - 1)
        y = min(max(0, int(np.floor(top - margin_y))), height - 1)
        boxes.append(
            (
                x,
                y,
                max(x + 1, min(width, int(np.ceil(right + margin_x)))),
                max(y + 1, min(height, int(np.ceil(bottom + margin_y)))),
            )
        )
    return boxes


def hide(image: np.ndarray, boxes: Iterable[tuple[int, int, int, int]], method: str) -> np.ndarray:
    """Return a picture with regions hidden; what lies outside of them is as it was.

    Args:
        image: (H, W, 3) uint8.
        boxes: Left, top, right, bottom in pixels, inside the picture.
        method: `blur`, `pixelate` or `fill`.
    """
    hidden = np.array(image)
    for left, top, right, bottom in boxes:
        region = hidden[top:bottom, left:right]
        if method == "fill":
            region[:] = FILL_VALUE
            continue
        enlarging = cv2.INTER_NEAREST if method == "pixelate" else cv2.INTER_CUBIC
        size = (right - left, bottom - top)
        region[:] = cv2.resize(_cells(np.ascontiguousarray(region)), size, interpolation=enlarging)
    return hidden


def _cells(region: np.ndarray) -> np.ndarray:
    """Return the mean colours of a region in a coarse grid."""
    height, width = region.shape[:2]
    longer = max(height, width)
    count = max(1, min(MOST_CELLS, longer // LEAST_CELL_PX))
    columns = max(1, round(count * width / longer))
    rows = max(1, round(count * height / longer))
    return cv2.resize(region, (columns, rows), interpolation=cv2.INTER_AREA)
