"""Detector layouts, held against the same boxes written by hand in each of them."""

import numpy as np
import pytest

from visionyard.errors import ShapeError
from visionyard.transforms import DetectionPostprocessing, Placement

INPUT_WH = (64, 32)
WHOLE = Placement(scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0), source_wh=INPUT_WH, input_wh=INPUT_WH)
# Two boxes, as xyxy in input pixels, their classes and confidences; the third is the first again, a little aside.
XYXY = np.array([[4, 6, 24, 26], [40, 2, 60, 12], [5, 6, 25, 26]], np.float64)
CLASS_IDS = np.array([1, 0, 1])
CONFIDENCE = np.array([0.9, 0.6, 0.5])


def _cxcywh() -> np.ndarray:
    return np.concatenate([(XYXY[:, :2] + XYXY[:, 2:]) / 2, XYXY[:, 2:] - XYXY[:, :2]], axis=1)


def _one_hot(values: np.ndarray) -> np.ndarray:
    scores = np.full((3, 2), 0.01)
    scores[np.arange(3), CLASS_IDS] = values
    return scores


def _yolo() -> list[np.ndarray]:
    return [np.concatenate([_cxcywh(), _one_hot(CONFIDENCE)], axis=1).T]


def _yolov5() -> list[np.ndarray]:
    objectness = np.array([0.95, 0.8, 0.5])
    return [np.concatenate([_cxcywh(), objectness[:, None], _one_hot(CONFIDENCE / objectness)], axis=1)]


def _yolox() -> list[np.ndarray]:
    """The boxes sit in cells 9, 15 and 34 of 8x4 + 4x2 + 2x1: two of the fine grid, one of the middle one."""
    rows = np.zeros((42, 7))
    boxes, places = _cxcywh(), [(9, 8, 1, 1), (15, 8, 7, 1), (34, 16, 2, 0)]
    for (place, stride, column, row), box, score in zip(
        places, boxes, np.concatenate([CONFIDENCE[:, None], _one_hot(np.ones(3))], axis=1), strict=True
    ):
        rows[place, :2] = box[:2] / stride - (column, row)
        rows[place, 2:4] = np.log(box[2:] / stride)
        rows[place, 4:] = score
    return [rows]


def _ssd() -> list[np.ndarray]:
    scores = _one_hot(CONFIDENCE)
    return [np.concatenate([1 - scores.sum(axis=1, keepdims=True), scores], axis=1), XYXY / np.array(INPUT_WH * 2)]


@pytest.mark.parametrize(
    ("layout", "arrays"),
    [("yolo", _yolo()), ("yolov5", _yolov5()), ("yolox", _yolox()), ("ssd", _ssd())],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_boxes_come_out_of_every_layout(layout: str, arrays: list[np.ndarray]) -> None:
    outputs = [array[None].astype(np.float32) for array in arrays]
    spec = DetectionPostprocessing.model_validate({"layout": layout, "iou_threshold": 0.5})

    (found,) = spec.apply(outputs, [WHOLE])
    (all_three,) = spec.apply(outputs, [WHOLE], iou_threshold=1.0)
    (one,) = spec.apply(outputs, [WHOLE], max_detections=1)

    np.testing.assert_allclose(found.xyxy, XYXY[:2], atol=1e-4)
    assert found.class_ids.tolist() == [1, 0]
    np.testing.assert_allclose(found.confidence, CONFIDENCE[:2], atol=1e-6)
    assert (len(all_three), len(one)) == (3, 1)


def test_a_suppressed_layout_is_not_suppressed_again() -> None:
    rows = np.concatenate([XYXY, CONFIDENCE[:, None], CLASS_IDS[:, None]], axis=1)[None].astype(np.float32)

    (found,) = DetectionPostprocessing(layout="end2end", iou_threshold=0.1).apply([rows], [WHOLE])

    assert len(found) == 3


def test_a_huge_value_makes_no_infinite_box() -> None:
    rows = _yolox()[0]
    rows[9, 2:4] = 1e4

    (found,) = DetectionPostprocessing(layout="yolox").apply([rows[None].astype(np.float32)], [WHOLE])

    assert np.isfinite(found.xyxy).all()


@pytest.mark.parametrize(
    ("layout", "shapes", "message"),
    [
        pytest.param(
            "yolov5", [(1, 9, 5)], r"expected \(1, A, 5 \+ C\) for layout yolov5, got \(1, 9, 5\)", id="yolov5"
        ),
        pytest.param(
            "ssd", [(1, 9, 2)], r"expected \(1, A, 1 \+ C\), \(1, A, 4\) .*, got \(1, 9, 2\)", id="one_output"
        ),
        pytest.param("ssd", [(1, 9, 2), (1, 8, 4)], r"got \(1, 9, 2\), \(1, 8, 4\)", id="other_count_of_anchors"),
        pytest.param("ssd", [(1, 9, 4), (1, 9, 2)], r"got \(1, 9, 4\), \(1, 9, 2\)", id="outputs_turned_round"),
        pytest.param("yolo", [], "got none", id="no_output"),
        pytest.param("yolox", [(1, 41, 7)], r"64x32 px has 42 cells .*, the output has 41 rows", id="other_grid"),
    ],
)
def test_outputs_of_another_layout_are_refused(layout: str, shapes: list[tuple[int, ...]], message: str) -> None:
    spec = DetectionPostprocessing.model_validate({"layout": layout})
    with pytest.raises(ShapeError, match=message):
        spec.apply([np.zeros(shape, np.float32) for shape in shapes], [WHOLE])
