"""Box geometry, held against torchvision and hand calculation."""

from typing import Any

import numpy as np
import pytest

from visionyard.errors import ShapeError
from visionyard.geometry import area, cxcywh_to_xyxy, iou_matrix, non_max_suppression, xyxy_to_xywh


def random_boxes(rng: np.random.Generator, count: int, *, extent: float = 100.0) -> np.ndarray:
    corner = rng.uniform(0, extent, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, extent / 2, (count, 2))], axis=1)


def test_conversions_by_hand() -> None:
    assert cxcywh_to_xyxy(np.array([[10.0, 20.0, 4.0, 6.0]])).tolist() == [[8.0, 17.0, 12.0, 23.0]]
    assert xyxy_to_xywh(np.array([[8.0, 17.0, 12.0, 23.0]])).tolist() == [[8.0, 17.0, 4.0, 6.0]]
    assert area(np.array([[0, 0, 2, 3], [5, 5, 5, 9], [3, 3, 1, 1]])).tolist() == [6, 0, 0]


@pytest.mark.parametrize("convert", [cxcywh_to_xyxy, xyxy_to_xywh, area])
def test_no_boxes(convert: Any) -> None:
    assert len(convert(np.zeros((0, 4)))) == 0


def test_conversions_agree_with_torchvision() -> None:
    import torch
    from torchvision.ops import box_convert

    boxes = np.random.default_rng(0).uniform(1, 50, (200, 4))
    given = torch.from_numpy(boxes)
    np.testing.assert_allclose(cxcywh_to_xyxy(boxes), box_convert(given, "cxcywh", "xyxy").numpy())
    np.testing.assert_allclose(xyxy_to_xywh(boxes), box_convert(given, "xyxy", "xywh").numpy())


def test_iou_agrees_with_torchvision() -> None:
    import torch
    from torchvision.ops import box_iou

    rng = np.random.default_rng(1)
    first, second = random_boxes(rng, 60), random_boxes(rng, 40)
    expected = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    found = iou_matrix(first, second)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found, iou_matrix(second, first).T)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param([0, 0, 2, 2], [0, 0, 2, 2], 1.0, id="same"),
        pytest.param([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, id="a quarter shared"),
        pytest.param([0, 0, 2, 2], [2, 0, 4, 2], 0.0, id="touching"),
        pytest.param([0, 0, 0, 0], [0, 0, 0, 0], 0.0, id="both without area"),
        pytest.param([0, 0, 4, 4], [1, 1, 2, 2], 1 / 16, id="inside"),
    ],
)
def test_iou_by_hand(first: list[int], second: list[int], expected: float) -> None:
    assert iou_matrix(np.array([first]), np.array([second]))[0, 0] == pytest.approx(expected)


def test_iou_of_nothing_keeps_its_shape() -> None:
    assert iou_matrix(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4)], ids=str)
def test_iou_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=rf"second_xyxy: expected \(N, 4\), got {str(shape).replace('(', '.')[:-1]}"):
        iou_matrix(np.zeros((1, 4)), np.zeros(shape))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_suppression_agrees_with_torchvision(threshold: float) -> None:
    import torch
    from torchvision.ops import batched_nms

    rng = np.random.default_rng(2)
    for count in (1, 7, 150):
        boxes, classes = random_boxes(rng, count), rng.integers(0, 3, count)
        confidence = rng.permutation(count) / count  # no ties: torchvision does not define their order
        expected = batched_nms(
            torch.from_numpy(boxes), torch.from_numpy(confidence), torch.from_numpy(classes), threshold
        )
        found = non_max_suppression(boxes, confidence, classes, iou_threshold=threshold, max_count=count)
        assert found.tolist() == expected.tolist()


def test_suppression_breaks_ties_by_index_and_stops_at_the_limit() -> None:
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10], [0, 0, 1, 1]], dtype=float)
    same = np.full(4, 0.5)
    classes = np.zeros(4, dtype=int)
    assert non_max_suppression(boxes, same, classes, iou_threshold=0.5, max_count=9).tolist() == [0, 1, 2]
    assert non_max_suppression(boxes, same, classes, iou_threshold=0.5, max_count=2).tolist() == [0, 1]
    other_class = np.array([0, 0, 0, 1])
    assert non_max_suppression(boxes, same, other_class, iou_threshold=0.5, max_count=9).tolist() == [0, 1, 2, 3]


def test_suppression_of_nothing() -> None:
    empty = non_max_suppression(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), iou_threshold=0.5, max_count=5)
    assert empty.shape == (0,)
    assert empty.dtype == np.int64


@pytest.mark.parametrize(
    ("boxes", "confidence", "classes", "message"),
    [
        pytest.param((2, 5), 2, 2, r"xyxy: expected \(N, 4\), got \(2, 5\)", id="boxes"),
        pytest.param((2, 4), 3, 2, r"confidence: expected \(2,\), got \(3,\)", id="confidence"),
        pytest.param((2, 4), 2, 1, r"class_ids: expected \(2,\), got \(1,\)", id="classes"),
    ],
)
def test_suppression_refuses_other_shapes(boxes: tuple[int, int], confidence: int, classes: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        non_max_suppression(
            np.zeros(boxes), np.zeros(confidence), np.zeros(classes, int), iou_threshold=0.5, max_count=5
        )
