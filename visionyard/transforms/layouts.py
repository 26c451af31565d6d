"""How detectors write what they found: one layout for each convention, from raw output to scores, classes and boxes.

Shapes are written in letters: B images, A candidates, C classes. All boxes leave here as xyxy in input pixels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np

from visionyard.errors import ShapeError
from visionyard.geometry import cxcywh_to_xyxy

_YOLOX_STRIDES = (8, 16, 32)
# exp beyond this leaves float32; no box is e^20 strides large.
_LARGEST_LOG_SIDE = 20.0


class Layout(Protocol):
    """One convention.

    Attributes:
        outputs: What the model gives, in the order that the methods expect: a name for people, and the shape.
        is_suppressed: Whether the model itself has taken overlapping boxes away.
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]]
    is_suppressed: ClassVar[bool]

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return the (A,) score of each candidate's best class; `arrays` are the outputs without the batch axis."""

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """Return the (K,) int64 classes of K chosen candidates."""

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """Return the (K, 4) float64 xyxy of K chosen candidates, pixels of the input of this width and height."""


class Yolo:
    """Box as centre x, centre y, width, height in input pixels, then C class scores in [0, 1].

    Source: Ultralytics YOLOv8 and YOLO11, `Detect` head as exported (docs.ultralytics.com, mode export).
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {"predictions": ("B", "4+C", "A")}
    is_suppressed: ClassVar[bool] = False

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][4:].max(axis=0))

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][4:, chosen].argmax(axis=0))

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """See `Layout`."""
        return cxcywh_to_xyxy(arrays[0][:4, chosen].T.astype(np.float64))


class End2End:
    """Rows of xyxy in input pixels, score, class; at most A of them, overlapping ones already taken away.

    Source: Wang et al., YOLOv10, 2024 (arXiv:2405.14458), section 3.1; Ultralytics exports with `nms=True` write the
    same rows.
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {"predictions": ("B", "A", "6")}
    is_suppressed: ClassVar[bool] = True

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """See `Layout`."""
        return arrays[0][:, 4]

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][chosen, 5].round().astype(np.int64))

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][chosen, :4].astype(np.float64))


class Yolov5:
    """Rows of centre x, centre y, width, height in input pixels, objectness, C class scores; both in [0, 1].

    The confidence is objectness times class score. Source: Ultralytics YOLOv5 as exported; Redmon and Farhadi, YOLOv3,
    2018 (arXiv:1804.02767), section 2.
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {"predictions": ("B", "A", "5+C")}
    is_suppressed: ClassVar[bool] = False

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][:, 4] * arrays[0][:, 5:].max(axis=1))

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][chosen, 5:].argmax(axis=1))

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """See `Layout`."""
        return cxcywh_to_xyxy(arrays[0][chosen, :4].astype(np.float64))


class Yolox(Yolov5):
    """As `Yolov5`, but the box is relative to its cell of three grids, of 8, 16 and 32 input pixels, one by one by row.

    Centre = (value + cell) * stride, size = exp(value) * stride. Source: Ge et al., YOLOX, 2021 (arXiv:2107.08430), and
    `yolox/utils/demo_utils.py` of Megvii-BaseDetection/YOLOX, `demo_postprocess`.
    """

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """See `Layout`.

        Raises:
            ShapeError: There are not as many candidates as cells in the grids of this input.
        """
        cells, strides = _yolox_grid(input_wh)
        if len(cells) != len(arrays[0]):
            raise ShapeError(
                f"layout yolox: an input of {input_wh[0]}x{input_wh[1]} px has {len(cells)} cells at strides 8, 16 and "
                f"32, the output has {len(arrays[0])} rows; correct size_hw, or take another layout"
            )
        rows, stride = arrays[0][chosen].astype(np.float64), strides[chosen]
        centre = (rows[:, :2] + cells[chosen]) * stride
        side = np.exp(np.minimum(rows[:, 2:4], _LARGEST_LOG_SIDE)) * stride
        return cxcywh_to_xyxy(np.concatenate([centre, side], axis=1))


@lru_cache(maxsize=16)
def _yolox_grid(input_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    cells, strides = [], []
    for stride in _YOLOX_STRIDES:
        columns, rows = input_wh[0] // stride, input_wh[1] // stride
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        cells.append(np.stack([x, y], axis=2).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)


class Ssd:
    """Two outputs: probabilities of the background and C classes, and boxes as xyxy in fractions of the input.

    Source: Liu et al., SSD, 2016 (arXiv:1512.02325), section 2.2, with the boxes decoded inside the model, as
    Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB exports them.
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {"scores": ("B", "A", "1+C"), "boxes": ("B", "A", "4")}
    is_suppressed: ClassVar[bool] = False

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][:, 1:].max(axis=1))

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][chosen, 1:].argmax(axis=1))

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[1][chosen].astype(np.float64) * np.array(input_wh * 2, np.float64))


LAYOUTS: dict[str, Layout] = {
    "yolo": Yolo(),
    "end2end": End2End(),
    "yolov5": Yolov5(),
    "yolox": Yolox(),
    "ssd": Ssd(),
}


def check_shapes(
    expected: dict[str, tuple[str, ...]], outputs: Sequence[np.ndarray], *, known: dict[str, int], convention: str
) -> None:
    """Refuse outputs that are not what a convention says.

    Args:
        expected: For each output its shape; an axis is a number, a letter, or a number and a letter (`4+C`). A letter
            stands for one size of at least 1 (A may be 0), the same in all outputs.
        outputs: What a model gave.
        known: Sizes of letters that are known before, such as the images of the batch.
        convention: What the message calls it.

    Raises:
        ShapeError: Another number of outputs, or another shape; gives both.
    """
    found = ", ".join(str(array.shape) for array in outputs)
    wanted = ", ".join(_shape_text(shape, known) for shape in expected.values())
    sizes = dict(known)
    fits = len(outputs) == len(expected) and all(
        len(shape) == array.ndim
        and all(_fits(axis, size, sizes) for axis, size in zip(shape, array.shape, strict=True))
        for shape, array in zip(expected.values(), outputs, strict=True)
    )
    if not fits:
        classes = f" and {known['C']} classes" if "C" in known else ""
        raise ShapeError(
            f"output: expected {wanted} for {convention}{classes}, got {found or 'none'}; the model does not fit its "
            "postprocessing spec"
        )


def _fits(axis: str, size: int, sizes: dict[str, int]) -> bool:
    base, _, letter = axis.rpartition("+") if not axis.isdigit() else (axis, "", "")
    rest = size - int(base or 0)
    if not letter:
        return rest == 0
    return sizes.setdefault(letter, rest) == rest and rest >= (0 if letter == "A" else 1)


def _shape_text(shape: tuple[str, ...], known: dict[str, int]) -> str:
    axes = []
    for axis in shape:
        base, _, letter = axis.rpartition("+") if not axis.isdigit() else (axis, "", "")
        if letter in known:
            axes.append(str(known[letter] + int(base or 0)))
        else:
            axes.append(axis.replace("+", " + "))
    return "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"
