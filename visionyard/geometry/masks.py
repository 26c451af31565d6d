"""Masks of objects as run lengths: a few hundred bytes where the pixels of a photograph would be megabytes.

Pixels are counted column by column from the top left, as COCO does. Source of the text form: `rleToString` and
`rleFrString` in `common/maskApi.c` of cocodataset/cocoapi.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from visionyard.errors import ShapeError
from visionyard.geometry.boxes import Xyxy

# Each character carries five bits, the sixth says that more follow; a count of pixels never needs more.
_MOST_CHARACTERS = 13
_FIRST_CHARACTER = 48
# What the text form surely holds, and far beyond any image.
_MOST_PIXELS = 1 << 48


@dataclass(frozen=True)
class Mask:
    """The pixels of one object.

    Attributes:
        size_hw: Height and width of the image, pixels.
        counts: Lengths of the runs of pixels outside, inside, outside ... in COCO's compressed text.
    """

    size_hw: tuple[int, int]
    counts: str

    @classmethod
    def from_array(cls, pixels: np.ndarray) -> Self:
        """Take a mask from its pixels, (H, W) bool.

        Raises:
            ShapeError: It is not (H, W) bool.
        """
        if pixels.ndim != 2 or pixels.dtype != np.bool_:
            raise ShapeError(f"mask: expected (H, W) bool, got {pixels.shape} {pixels.dtype}; compare it with 0 first")
        flat = pixels.ravel(order="F")
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat.size and flat[0]:
            edges = np.concatenate([[0], edges])
        return cls.from_edges(edges, pixels.shape)

    @classmethod
    def from_edges(cls, edges: np.ndarray, size_hw: tuple[int, int]) -> Self:
        """Take a mask from the pixels where it begins and ends.

        Args:
            edges: (E,) int, ascending and no two alike, column * height + row; the first pixel inside, the first
                outside again, and so on.
            size_hw: Height and width of the image, pixels.
        """
        total = size_hw[0] * size_hw[1]
        edges = edges[edges < total]
        return cls((int(size_hw[0]), int(size_hw[1])), _to_text(np.diff(np.concatenate([[0], edges, [total]]))))

    @classmethod
    def from_runs(cls, runs: Sequence[int], size_hw: tuple[int, int]) -> Self:
        """Take a mask from the lengths of its runs outside, inside, outside ..., column by column; any may be 0.

        Raises:
            ShapeError: The runs do not cover an image of that size.
        """
        total = size_hw[0] * size_hw[1]
        is_length = (
            min(size_hw) >= 0 and total <= _MOST_PIXELS and all(type(run) is int and 0 <= run <= total for run in runs)
        )
        if not is_length or sum(runs) != total:
            raise ShapeError(
                f"mask: expected whole lengths that add up to the {total} pixels of {size_hw[0]}x{size_hw[1]}, got "
                f"{len(runs)} runs{f' over {sum(runs)}' if is_length else ''}; it is not of this image"
            )
        return cls.from_edges(without_pairs(np.cumsum(np.asarray(runs, np.int64))), size_hw)

    @classmethod
    def from_crop(cls, crop: np.ndarray, offset_xy: tuple[int, int], size_hw: tuple[int, int]) -> Self:
        """Take a mask from a part of the image, as `to_crop` gives it.

        Args:
            crop: (h, w) bool.
            offset_xy: Left and top of the part, pixels.
            size_hw: Height and width of the image, pixels.

        Raises:
            ShapeError: The part is not (h, w) bool, or leaves the image.
        """
        (left, top), (height, width) = offset_xy, size_hw
        if crop.ndim != 2 or crop.dtype != np.bool_:
            raise ShapeError(f"mask: expected (h, w) bool, got {crop.shape} {crop.dtype}; compare it with 0 first")
        if min(left, top) < 0 or top + crop.shape[0] > height or left + crop.shape[1] > width:
            raise ShapeError(f"mask: its part of {crop.shape} px at ({left}, {top}) leaves the image of {size_hw} px")
        # A row of nothing below ends each column; where the part reaches the lower border, the end of one column is
        # the beginning of the next, and both fall out.
        columns = np.pad(crop, ((0, 1), (0, 0))).ravel(order="F")
        edges = np.flatnonzero(columns != np.concatenate([[False], columns[:-1]]))
        column, row = np.divmod(edges, crop.shape[0] + 1)
        return cls.from_edges(without_pairs((left + column) * height + top + row), size_hw)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Take a mask from `{"size": [height, width], "counts": "..."}`.

        Raises:
            ShapeError: The runs do not cover an image of that size.
        """
        height, width = map(int, values["size"])
        mask = cls((height, width), str(values["counts"]))
        mask.edges()
        return mask

    def to_json(self) -> dict[str, Any]:
        """Return `{"size": [height, width], "counts": "..."}`, as COCO has it."""
        return {"size": list(self.size_hw), "counts": self.counts}

    def edges(self) -> np.ndarray:
        """Return where it begins and ends, as `from_edges` takes it; the end of the image is the last end at most.

        Raises:
            ShapeError: The runs do not cover an image of that size.
        """
        runs = _from_text(self.counts)
        total = self.size_hw[0] * self.size_hw[1]
        if min(self.size_hw) < 0 or (runs < 0).any() or int(runs.sum()) != total:
            raise ShapeError(
                f"mask: its runs cover {int(runs.sum())} pixels, expected {total} for {self.size_hw[0]}x"
                f"{self.size_hw[1]}; it is not of this image, or not COCO's compressed text"
            )
        ends = np.cumsum(runs)
        return ends[:-1] if len(ends) % 2 else ends

    @property
    def area(self) -> int:
        """Pixels inside."""
        edges = self.edges()
        return int((edges[1::2] - edges[::2]).sum())

    def xyxy(self) -> Xyxy | None:
        """Return the smallest box around its pixels, without making them; None when it has none."""
        edges, height = self.edges(), self.size_hw[0]
        starts, ends = edges[0::2], edges[1::2]
        starts, ends = starts[starts < ends], ends[starts < ends] - 1
        if not len(starts):
            return None
        left, right = starts[0] // height, ends[-1] // height + 1
        # A run that goes on in the next column reaches the lower and the upper border.
        is_over_border = (starts // height != ends // height).any()
        top, bottom = (0, height) if is_over_border else ((starts % height).min(), (ends % height).max() + 1)
        return float(left), float(top), float(right), float(bottom)

    def to_array(self) -> np.ndarray:
        """Return the pixels, (H, W) bool."""
        height, width = self.size_hw
        return _fill(self.edges(), 0, height * width).reshape(width, height).T

    def to_crop(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the smallest part that holds the object, without making the whole image.

        Returns:
            (h, w) bool, and left and top of it in the image; (0, 0) of no size for an empty mask.
        """
        edges, height = self.edges(), self.size_hw[0]
        edges = edges[: len(edges) // 2 * 2]
        if not len(edges):
            return np.zeros((0, 0), np.bool_), (0, 0)
        left, right = int(edges[0]) // height, (int(edges[-1]) - 1) // height + 1
        columns = _fill(edges, left * height, right * height).reshape(right - left, height)
        rows = np.flatnonzero(columns.any(axis=0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        return columns[:, top:bottom].T, (left, top)


def without_pairs(edges: np.ndarray) -> np.ndarray:
    """Return edges in ascending order, without those between which nothing lies."""
    places, repeats = np.unique(edges, return_counts=True)
    odd: np.ndarray = places[repeats % 2 == 1]
    return odd


def _fill(edges: np.ndarray, start: int, stop: int) -> np.ndarray:
    bounds = np.concatenate([[start], edges, [stop]])
    inside = np.arange(len(bounds) - 1) % 2 == 1
    return np.repeat(inside, np.diff(bounds))


def _to_text(runs: np.ndarray) -> str:
    if len(runs) > 1 and runs[-1] == 0:
        runs = runs[:-1]
    left = runs.astype(np.int64)
    # From the fourth on, the difference to the run before the last: neighbouring columns are alike.
    left[3:] -= runs[1:-2]
    characters = np.zeros((len(left), _MOST_CHARACTERS), np.uint8)
    is_used = np.zeros(characters.shape, np.bool_)
    is_open = np.ones(len(left), np.bool_)
    for place in range(_MOST_CHARACTERS):
        bits = left & 31
        left >>= 5
        has_more = np.where(bits & 16, left != -1, left != 0)
        characters[:, place] = bits + 32 * has_more + _FIRST_CHARACTER
        is_used[:, place] = is_open
        is_open = is_open & has_more
        if not is_open.any():
            break
    return characters[is_used].tobytes().decode("ascii")


def _from_text(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ShapeError(f"mask: {text[:40]!r} is not COCO's compressed text of run lengths")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() >= _MOST_CHARACTERS - 1:
        raise ShapeError(f"mask: {text[:40]!r} holds a run that no image has")
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    is_negative = (codes[ends] & 16) != 0
    values -= np.where(is_negative, np.int64(1) << (5 * (places[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
