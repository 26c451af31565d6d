"""Postprocessing, held against ultralytics, torchvision and torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from visionyard.errors import ShapeError
from visionyard.transforms import (
    Classification,
    ClassificationPostprocessing,
    DetectionPostprocessing,
    Placement,
    PreprocessingSpec,
)

WHOLE = Placement(scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0), source_wh=(640, 640), input_wh=(640, 640))


def raw_output(seed: int, anchors: int = 300, classes: int = 3) -> np.ndarray:
    """Return (1, 4 + C, A) float32 with many overlapping candidates."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(60, 580, (2, anchors))
    size = rng.uniform(20, 120, (2, anchors))
    scores = rng.uniform(0, 1, (classes, anchors)) ** 3
    return np.concatenate([centre, size, scores])[None].astype(np.float32)


@pytest.mark.parametrize("iou_threshold", [0.45, 0.7])
def test_yolo_layout_agrees_with_ultralytics(iou_threshold: float, ultralytics: Callable[..., Any]) -> None:
    import torch

    suppress = ultralytics("ultralytics.utils.nms").non_max_suppression
    for seed in range(5):
        output = raw_output(seed)
        expected = suppress(torch.from_numpy(output), conf_thres=0.25, iou_thres=iou_threshold, max_det=300)[0].numpy()
        found = DetectionPostprocessing(iou_threshold=iou_threshold).apply([output], [WHOLE])[0]
        assert len(found) == len(expected) > 10
        np.testing.assert_allclose(found.xyxy, expected[:, :4], atol=1e-3)
        np.testing.assert_allclose(found.confidence, expected[:, 4])
        np.testing.assert_array_equal(found.class_ids, expected[:, 5])


def test_end2end_layout_keeps_the_models_own_rows_in_order() -> None:
    rows = np.array(
        [[1, 2, 3, 4, 0.3, 1.0], [5, 6, 7, 8, 0.9, 0.0], [5, 6, 7, 8, 0.9, 2.0], [0, 0, 1, 1, 0.1, 0.0]], np.float32
    )
    found = DetectionPostprocessing(layout="end2end").apply([rows[None]], [WHOLE])[0]
    assert found.class_ids.tolist() == [0, 2, 1]
    assert found.xyxy.tolist() == [[5, 6, 7, 8], [5, 6, 7, 8], [1, 2, 3, 4]]
    limited = DetectionPostprocessing(layout="end2end", max_detections=1).apply([rows[None]], [WHOLE])[0]
    assert limited.class_ids.tolist() == [0]


def test_boxes_come_back_in_pixels_of_each_source_image() -> None:
    spec = PreprocessingSpec(resize="letterbox", size_hw=(64, 64), interpolation="bilinear")
    _, placements = spec.apply_all([np.zeros((100, 200, 3), np.uint8), np.zeros((32, 16, 3), np.uint8)])
    # The whole first image lies in rows 16 to 48; the second in columns 16 to 48.
    output = np.zeros((2, 5, 1), np.float32)
    output[0, :, 0] = [32, 32, 64, 32, 0.9]
    output[1, :, 0] = [32, 32, 32, 64, 0.8]
    first, second = DetectionPostprocessing().apply([output], placements)
    assert first.xyxy.tolist() == [[0, 0, 200, 100]]
    assert second.xyxy.tolist() == [[0, 0, 16, 32]]


@pytest.mark.parametrize(
    ("threshold", "count"), [(None, 1), (0.5, 1), (0.51, 0), (0.0, 2)], ids=["own", "equal", "above", "all"]
)
def test_the_threshold_is_inclusive_and_can_be_replaced(threshold: float | None, count: int) -> None:
    output = np.array([[[10, 100], [10, 100], [5, 5], [5, 5], [0.5, 0.125]]], np.float32)
    found = DetectionPostprocessing(confidence_threshold=0.25).apply([output], [WHOLE], confidence_threshold=threshold)
    assert len(found[0]) == count


def test_no_candidate_and_no_anchor_give_no_boxes() -> None:
    for output in (np.zeros((1, 6, 10), np.float32), np.zeros((1, 6, 0), np.float32)):
        found = DetectionPostprocessing().apply([output], [WHOLE])[0]
        assert found.xyxy.shape == (0, 4)
        assert len(found) == 0


def test_scores_that_are_no_numbers_give_no_boxes() -> None:
    for layout, shape in (("yolo", (1, 6, 10)), ("end2end", (1, 10, 6))):
        output = np.full(shape, np.nan, np.float32)
        assert len(DetectionPostprocessing(layout=layout).apply([output], [WHOLE])[0]) == 0


@pytest.mark.parametrize(
    ("layout", "shape", "message"),
    [
        pytest.param("yolo", (1, 4, 9), r"expected \(1, 4 \+ C, A\) for layout yolo, got \(1, 4, 9\)", id="no class"),
        pytest.param("end2end", (1, 9, 7), r"expected \(1, A, 6\) for layout end2end, got \(1, 9, 7\)", id="columns"),
        pytest.param("yolo", (6, 9), r"expected \(1, 4 \+ C, A\) .*, got \(6, 9\)", id="no batch"),
        pytest.param("yolo", (2, 6, 9), r"expected \(1, 4 \+ C, A\) .*, got \(2, 6, 9\)", id="another batch"),
    ],
)
def test_other_detector_outputs_are_refused(layout: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        DetectionPostprocessing(layout=layout).apply([np.zeros(shape, np.float32)], [WHOLE])


def test_softmax_agrees_with_torch_even_for_large_scores() -> None:
    import torch

    output = np.random.default_rng(0).normal(0, 300, (4, 7)).astype(np.float32)
    found = ClassificationPostprocessing().apply([output], [WHOLE] * 4)
    expected = torch.softmax(torch.from_numpy(output), dim=1).numpy()
    np.testing.assert_allclose(np.stack([row.probabilities for row in found]), expected, atol=1e-6)


def test_probabilities_pass_unchanged_without_activation() -> None:
    output = np.array([[0.2, 0.5, 0.3]], np.float32)
    found = ClassificationPostprocessing(activation="none").apply([output], [WHOLE])[0]
    assert (found.class_id, found.confidence) == (1, 0.5)


def test_a_tie_goes_to_the_lower_class() -> None:
    assert Classification(np.array([0.1, 0.45, 0.45], np.float32)).class_id == 1


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 1)], ids=str)
def test_other_classifier_outputs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected \(1, C\) for classification, got"):
        ClassificationPostprocessing().apply([np.zeros(shape, np.float32)], [WHOLE])
