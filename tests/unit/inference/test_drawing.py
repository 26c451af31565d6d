"""Drawings show each box in its class's colour and never touch the image they were given."""

import numpy as np
import pytest

from visionyard.geometry import Mask
from visionyard.inference import draw_prediction
from visionyard.pages.marks import class_colour
from visionyard.transforms import Classification, Detections

CLASSES = ["cat", "dog", "señor"]


def _detections(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    confidence = np.linspace(0.9, 0.5, count).astype(np.float32)
    return Detections(np.array(boxes, np.float64).reshape(-1, 4), np.arange(count) % 3, confidence)


def test_the_edge_has_the_colour_of_the_class_and_the_input_stays() -> None:
    image = np.zeros((200, 300, 3), np.uint8)

    drawn = draw_prediction(image, _detections((50, 60, 150, 160)), CLASSES)

    assert drawn.shape == image.shape
    assert tuple(drawn[160, 100]) == class_colour(0)
    assert tuple(drawn[110, 100]) == (0, 0, 0)
    assert not image.any()


def test_nothing_found_nothing_drawn() -> None:
    image = np.full((20, 30, 3), 7, np.uint8)

    np.testing.assert_array_equal(draw_prediction(image, _detections(), CLASSES), image)


def test_masks_are_laid_over_and_keypoints_dotted() -> None:
    pixels = np.zeros((200, 300), np.bool_)
    pixels[80:120, 60:90] = True
    one = _detections((50, 60, 150, 160))
    points = np.array([[[120.0, 120.0, 0.9], [130.0, 140.0, 0.1]]])
    found = Detections(one.xyxy, one.class_ids, one.confidence, masks=[Mask.from_array(pixels)], keypoints=points)
    image = np.full((200, 300, 3), 100, np.uint8)

    drawn = draw_prediction(image, found, CLASSES)

    expected = (100 + np.array(class_colour(0))) // 2
    np.testing.assert_array_equal(drawn[80:120, 60:90], np.broadcast_to(expected, (40, 30, 3)))
    assert tuple(drawn[120, 120]) == class_colour(0)
    assert (drawn[140, 130] == 100).all() and (drawn[79, 75] == 100).all()
    assert (image == 100).all()


def test_lines_grow_with_the_image() -> None:
    def thickness(side: int) -> int:
        box = (side * 0.2, side * 0.5, side * 0.8, side * 0.9)
        drawn = draw_prediction(np.zeros((side, side, 3), np.uint8), _detections(box), CLASSES)
        return int((drawn[int(side * 0.7), : side // 2] > 0).any(axis=1).sum())

    assert thickness(200) < thickness(2000)


@pytest.mark.parametrize(
    ("size_hw", "box"),
    [
        pytest.param((8, 8), (0, 0, 8, 8), id="tiny"),
        pytest.param((20, 2000), (1990, 0, 2000, 20), id="wide"),
        pytest.param((100, 100), (50, 0, 50, 0), id="no_area_at_the_top"),
        pytest.param((100, 100), (90, 95, 100, 100), id="corner"),
    ],
)
def test_odd_places_are_drawn(size_hw: tuple[int, int], box: tuple[float, float, float, float]) -> None:
    drawn = draw_prediction(np.zeros((*size_hw, 3), np.uint8), _detections(box), CLASSES)

    assert drawn.shape == (*size_hw, 3)
    assert drawn.any()


def test_a_class_is_written_in_the_corner() -> None:
    image = np.zeros((100, 100, 3), np.uint8)

    drawn = draw_prediction(image, Classification(np.array([0.1, 0.2, 0.7], np.float32)), CLASSES)

    assert tuple(drawn[0, 0]) == class_colour(2)
    assert not drawn[50:].any()


def test_the_first_twenty_classes_have_colours_of_their_own() -> None:
    colours = np.array([class_colour(index) for index in range(20)], dtype=float)

    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2) + np.eye(20) * 999
    assert distances.min() > 20
