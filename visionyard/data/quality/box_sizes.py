"""Boxes that are not of their class's usual size or shape, and objects too small for the model's input.

Sizes are shares of their image, so that pictures of several resolutions compare; boxes cut by the image's border are
neither counted as usual nor called small or narrow, for the border made them so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from visionyard.data.dataset import Sample
from visionyard.data.quality.robust import OUTLIER_Z, robust_z
from visionyard.data.quality.suspects import Mark, Suspect

# Boxes of one class that scarcely vary have outliers that no one can see: sides that differ by less are left alone.
_MIN_AREA_FACTOR = 4.0
_MIN_ASPECT_FACTOR = 2.0
# The finest grid of usual detectors has cells of 8 px; an object within one cell is a dot to them.
TINY_PX = 8.0
_BORDER_PX = 1.0


@dataclass(frozen=True)
class BoxTable:
    """All boxes of a dataset version that are no crowds, as columns.

    Attributes:
        image: (N,) int64, position of the image of each.
        class_ids: (N,) int64.
        xyxy: (N, 4) float32 pixels.
        image_wh: (N, 2) float32 pixels, of its image.
    """

    image: np.ndarray
    class_ids: np.ndarray
    xyxy: np.ndarray
    image_wh: np.ndarray

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "BoxTable":
        """Gather the boxes of samples; those without area are left out."""
        parts: dict[str, list[np.ndarray]] = {
            "image": [np.zeros(0, np.int64)],
            "class_ids": [np.zeros(0, np.int64)],
            "xyxy": [np.zeros((0, 4), np.float32)],
            "image_wh": [np.zeros((0, 2), np.float32)],
        }
        for position, sample in enumerate(samples):
            if not len(sample.xyxy):
                continue
            sides = sample.xyxy[:, 2:] - sample.xyxy[:, :2]
            kept = ~sample.is_crowd & (sides > 0).all(axis=1)
            parts["image"].append(np.full(int(kept.sum()), position))
            parts["class_ids"].append(sample.class_ids[kept])
            parts["xyxy"].append(sample.xyxy[kept].astype(np.float32))
            parts["image_wh"].append(np.full((int(kept.sum()), 2), (sample.width, sample.height), np.float32))
        return cls(**{name: np.concatenate(found) for name, found in parts.items()})

    @property
    def sides(self) -> np.ndarray:
        """(N, 2) widths and heights, pixels."""
        sides: np.ndarray = self.xyxy[:, 2:] - self.xyxy[:, :2]
        return sides

    @property
    def share(self) -> np.ndarray:
        """(N,) area as share of the image."""
        share: np.ndarray = self.sides.prod(axis=1) / self.image_wh.prod(axis=1)
        return share


def unusual_boxes(boxes: BoxTable, samples: Sequence[Sample], classes: Sequence[str]) -> Iterator[Suspect]:
    """Yield boxes far from their class's usual size or shape.

    The logarithms of area and of width over height are held against those of the class by the modified z-score
    (`visionyard.data.quality.robust`).

    Args:
        boxes: Of `samples`.
        samples: The images.
        classes: Names in the order of their ids.
    """
    area = np.log(boxes.share)
    aspect = np.log(boxes.sides[:, 0] / boxes.sides[:, 1])
    at_border = np.concatenate([boxes.xyxy[:, :2] <= _BORDER_PX, boxes.xyxy[:, 2:] >= boxes.image_wh - _BORDER_PX], 1)
    is_cut: np.ndarray = np.logical_or.reduce(at_border, axis=1)
    for class_id, name in enumerate(classes):
        rows = np.flatnonzero(boxes.class_ids == class_id)
        whole = rows[~is_cut[rows]]
        if not len(whole):
            continue
        for kind, values, least in (
            ("unusual_box_size", area, np.log(_MIN_AREA_FACTOR)),
            ("unusual_box_shape", aspect, np.log(_MIN_ASPECT_FACTOR)),
        ):
            scores = robust_z(values[rows], values[whole])
            off = values[rows] - np.median(values[whole])
            is_far = (np.abs(scores) > OUTLIER_Z) & (np.abs(off) >= least)
            # A cut box can only be judged where the cut is no excuse: when it is too large.
            is_far &= ~is_cut[rows] | ((off > 0) if kind == "unusual_box_size" else False)
            for place in np.flatnonzero(is_far).tolist():
                row = int(rows[place])
                told = _told(kind, name, float(np.exp(off[place])), float(scores[place]))
                score = abs(float(scores[place]))
                yield _suspect(kind, samples[int(boxes.image[row])], told, score, boxes, [row], classes)


def tiny_objects(
    boxes: BoxTable, samples: Sequence[Sample], classes: Sequence[str], *, image_size_px: int
) -> Iterator[Suspect]:
    """Yield images with objects of which a side is below 8 px once the image has the size of the model's input.

    Args:
        boxes: Of `samples`.
        samples: The images.
        classes: Names in the order of their ids.
        image_size_px: To which the longer side of an image is scaled, as detectors do.
    """
    shown = boxes.sides.min(axis=1) * image_size_px / boxes.image_wh.max(axis=1)
    tiny = np.flatnonzero(shown < TINY_PX)
    # Boxes come image by image.
    for rows in np.split(tiny, np.flatnonzero(np.diff(boxes.image[tiny])) + 1):
        if not len(rows):
            continue
        position = int(boxes.image[rows[0]])
        least = float(shown[rows].min())
        message = (
            f"{len(rows)} of {len(samples[position].xyxy)} objects have a side below {TINY_PX:.0f} px at "
            f"{image_size_px} px, the smallest {least:.1f} px"
        )
        smallest = rows[np.argsort(shown[rows], kind="stable")].tolist()
        yield _suspect("tiny_object", samples[position], message, float(len(rows)), boxes, smallest, classes)


def _told(kind: str, name: str, factor: float, score: float) -> str:
    words = ("larger in area", "smaller in area") if kind == "unusual_box_size" else ("wider", "narrower")
    how = words[0] if factor > 1 else words[1]
    return f"{name}: {max(factor, 1 / factor):.3g} times {how} than is usual of its class (z {score:+.1f})"


def _suspect(
    kind: str,
    sample: Sample,
    message: str,
    score: float,
    boxes: BoxTable,
    rows: Sequence[int],
    classes: Sequence[str],
) -> Suspect:
    def mark(row: int) -> Mark:
        class_id = int(boxes.class_ids[row])
        left, top, right, bottom = boxes.xyxy[row].tolist()
        return Mark((left, top, right, bottom), classes[class_id], class_id)

    return Suspect(kind, sample.key, sample.source, sample.split, message, round(score, 3), tuple(map(mark, rows)))
