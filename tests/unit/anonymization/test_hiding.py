"""What is hidden cannot be told any more, and nothing else changes."""

import numpy as np
import pytest

from visionyard.anonymization.hiding import FILL_VALUE, MOST_CELLS, hide, padded_boxes

METHODS = ["blur", "pixelate", "fill"]


def picture(seed: int, size_hw: tuple[int, int] = (120, 200)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_region_changes_and_the_picture_given_stays(method: str) -> None:
    image = picture(0)
    before = image.copy()
    hidden = hide(image, [(20, 30, 90, 100)], method)
    np.testing.assert_array_equal(image, before)
    outside = np.ones(image.shape[:2], bool)
    outside[30:100, 20:90] = False
    np.testing.assert_array_equal(hidden[outside], image[outside])
    assert (hidden[30:100, 20:90] != image[30:100, 20:90]).mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", [24, 60, 240, 1080], ids=lambda side: f"{side} px")
def test_pictures_with_the_same_few_mean_colours_become_the_same_however_large(method: str, side: int) -> None:
    # All that survives are the means of a coarse grid: two unlike faces of the same means cannot be told apart.
    cell = side // MOST_CELLS
    means = np.random.default_rng(1).integers(60, 196, (MOST_CELLS, MOST_CELLS, 1)).repeat(3, axis=2)
    flat = means.repeat(cell, axis=0).repeat(cell, axis=1)
    stripes = np.where(np.arange(side) % 2 == 0, 50, -50)[: cell * MOST_CELLS, None, None]
    one, other = flat.astype(np.uint8), (flat + stripes).astype(np.uint8)
    box = [(0, 0, one.shape[1], one.shape[0])]
    assert np.abs(one.astype(int) - other).mean() == 50
    hidden_one, hidden_other = hide(one, box, method).astype(int), hide(other, box, method).astype(int)
    assert np.abs(hidden_one - hidden_other).max() <= 1


@pytest.mark.parametrize("side", [1, 3, 7, 16, 40, 500])
def test_pixelate_leaves_few_colours(side: int) -> None:
    hidden = hide(picture(2, (side, side)), [(0, 0, side, side)], "pixelate")
    most = max(1, min(MOST_CELLS, side // 4)) ** 2
    assert len(np.unique(hidden.reshape(-1, 3), axis=0)) <= most


def test_blur_has_no_edge_left() -> None:
    image = picture(3, (300, 300))
    hidden = hide(image, [(0, 0, 300, 300)], "blur").astype(int)
    assert np.abs(np.diff(hidden, axis=1)).max() <= 8 < np.abs(np.diff(image.astype(int), axis=1)).mean()


def test_fill_leaves_one_value() -> None:
    hidden = hide(picture(4), [(5, 6, 50, 60)], "fill")
    assert (hidden[6:60, 5:50] == FILL_VALUE).all()


@pytest.mark.parametrize(
    ("xyxy", "padding", "expected"),
    [
        pytest.param([10.2, 20.7, 30.1, 40.0], 0.0, (10, 20, 31, 40), id="outwards to whole pixels"),
        pytest.param([10, 20, 30, 60], 0.5, (0, 0, 40, 80), id="of width and height each"),
        pytest.param([-5, -5, 10, 10], 0.0, (0, 0, 10, 10), id="cut at the border"),
        pytest.param([90, 70, 130, 130], 0.1, (86, 64, 100, 80), id="cut at the far border"),
        pytest.param([100, 80, 100, 80], 0.5, (99, 79, 100, 80), id="a point in the corner"),
    ],
)
def test_margins(xyxy: list[float], padding: float, expected: tuple[int, int, int, int]) -> None:
    assert padded_boxes(np.array([xyxy]), padding, width=100, height=80) == [expected]


def test_no_boxes() -> None:
    assert padded_boxes(np.zeros((0, 4)), 0.1, width=10, height=10) == []
