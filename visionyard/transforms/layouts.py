"""How detectors write what they found: one layout for each convention, from raw output to scores, classes and boxes.

Shapes are written in letters: B images, A candidates, C classes, M prototypes of masks, K points of an object. Boxes
leave here as xyxy in input pixels, masks and points in pixels of the source image.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np

from visionyard.errors import ShapeError
from visionyard.geometry import Mask, cxcywh_to_xyxy
from visionyard.transforms.preprocessing import Placement
from visionyard.transforms.prototype_masks import masks_from_prototypes

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
        """Return the (N,) int64 classes of N chosen candidates."""

    def boxes(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, input_wh: tuple[int, int]) -> np.ndarray:
        """Return the (N, 4) float64 xyxy of N chosen candidates, pixels of the input of this width and height."""

    def masks(
        self, arrays: Sequence[np.ndarray], chosen: np.ndarray, xyxy: np.ndarray, placement: Placement
    ) -> tuple[Mask, ...] | None:
        """Return the masks of chosen candidates with these boxes in the source image; None where there are none."""

    def keypoints(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, placement: Placement) -> np.ndarray | None:
        """Return the (N, K, 3) float64 x, y in the source image and confidence of N chosen ones; None: no points."""


class _OnlyBoxes:
    def masks(
        self, arrays: Sequence[np.ndarray], chosen: np.ndarray, xyxy: np.ndarray, placement: Placement
    ) -> tuple[Mask, ...] | None:
        """See `Layout`."""
        return None

    def keypoints(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, placement: Placement) -> np.ndarray | None:
        """See `Layout`."""
        return None


class Yolo(_OnlyBoxes):
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


class YoloSeg(Yolo):
    """As `Yolo`, then M mask coefficients for each candidate; the second output holds M prototypes of masks.

    Source: Ultralytics YOLOv8 and YOLO11 `Segment` head as exported (docs.ultralytics.com, tasks segment); Bolya et
    al., YOLACT, 2019 (arXiv:1904.02689).
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {
        "predictions": ("B", "4+C+M", "A"),
        "prototypes": ("B", "M", "h", "w"),
    }

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][4 : -len(arrays[1])].max(axis=0))

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][4 : -len(arrays[1]), chosen].argmax(axis=0))

    def masks(
        self, arrays: Sequence[np.ndarray], chosen: np.ndarray, xyxy: np.ndarray, placement: Placement
    ) -> tuple[Mask, ...] | None:
        """See `Layout`."""
        return masks_from_prototypes(arrays[1], arrays[0][-len(arrays[1]) :, chosen].T, xyxy, placement)


class YoloPose(Yolo):
    """As `Yolo`, then for each of K points x and y in input pixels and how sure the model sees it, in [0, 1].

    Source: Ultralytics YOLOv8 and YOLO11 `Pose` head as exported (docs.ultralytics.com, tasks pose); Maji et al.,
    YOLO-Pose, 2022 (arXiv:2204.06806), section 3.
    """

    outputs: ClassVar[dict[str, tuple[str, ...]]] = {"predictions": ("B", "4+C+3K", "A")}

    def __init__(self, keypoint_count: int) -> None:
        """Take K, which the shape alone does not tell.

        Args:
            keypoint_count: Points of an object.
        """
        self._count = keypoint_count

    def confidence(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][4 : -3 * self._count].max(axis=0))

    def class_ids(self, arrays: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        """See `Layout`."""
        return np.asarray(arrays[0][4 : -3 * self._count, chosen].argmax(axis=0))

    def keypoints(self, arrays: Sequence[np.ndarray], chosen: np.ndarray, placement: Placement) -> np.ndarray | None:
        """See `Layout`."""
        points = arrays[0][-3 * self._count :, chosen].T.reshape(len(chosen), self._count, 3).astype(np.float64)
        points[..., :2] = placement.points_to_source(points[..., :2])
        return np.asarray(points)


class End2End(_OnlyBoxes):
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


class Yolov5(_OnlyBoxes):
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


class Ssd(_OnlyBoxes):
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


LAYOUTS: dict[str, Callable[[int], Layout]] = {
    "yolo": lambda _: Yolo(),
    "end2end": lambda _: End2End(),
    "yolov5": lambda _: Yolov5(),
    "yolox": lambda _: Yolox(),
    "ssd": lambda _: Ssd(),
    "yolo_seg": lambda _: YoloSeg(),
    "yolo_pose": YoloPose,
}
"""By name, what makes a layout from the number of keypoints; all but `yolo_pose` have none."""
