"""Boxes around shapes."""

import math

import numpy as np
import pytest

from visionyard.data.formats.shapes import around_mask, around_points, around_turned_box, hardly_overlap
from visionyard.geometry import Mask


def mask_of(*pixels: tuple[int, int], size_hw: tuple[int, int] = (6, 8)) -> Mask:
    array = np.zeros(size_hw, np.bool_)
    for row, column in pixels:
        array[row, column] = True
    return Mask.from_array(array)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(mask_of(), None, id="nothing"),
        pytest.param(mask_of((0, 0)), (0, 0, 1, 1), id="first pixel"),
        pytest.param(mask_of((5, 7)), (7, 5, 8, 6), id="last pixel"),
        pytest.param(mask_of((2, 3), (4, 1)), (1, 2, 4, 5), id="two pixels"),
        pytest.param(mask_of((5, 2), (0, 3)), (2, 0, 4, 6), id="a run over two columns"),
        pytest.param(Mask.from_runs([0, 48], (6, 8)), (0, 0, 8, 6), id="everything"),
        pytest.param(Mask((6, 8), Mask.from_runs([9, 0, 3, 1, 35], (6, 8)).counts), (2, 0, 3, 1), id="an empty run"),
    ],
)
def test_around_a_mask(mask: Mask, expected: tuple[int, ...] | None) -> None:
    assert around_mask(mask) == expected


def test_the_box_around_a_random_mask_is_that_of_its_pixels() -> None:
    random = np.random.default_rng(4)
    for _ in range(200):
        pixels = random.random((5, 7)) < random.uniform(0.02, 0.5)
        rows, columns = np.nonzero(pixels)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
        assert around_mask(Mask.from_array(pixels)) == expected


def test_a_mask_of_an_image_that_fits_no_memory() -> None:
    assert around_mask(Mask.from_runs([5, 10**12 - 5], (10**6, 10**6))) == (0, 0, 10**6, 10**6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([3, 4], (3, 4, 3, 4), id="one"),
        pytest.param([3, 4, -1, 9, 2, 0], (-1, 0, 3, 9), id="three"),
        pytest.param([3, math.nan, 1, 2], None, id="NaN"),
        pytest.param([math.inf, 1], None, id="infinite"),
    ],
)
def test_around_points(values: list[float], expected: tuple[float, ...] | None) -> None:
    assert around_points(values) == expected


@pytest.mark.parametrize(
    ("degrees", "pivot_xy", "expected"),
    [
        pytest.param(0, None, (10, 20, 30, 30), id="not at all"),
        pytest.param(90, None, (15, 15, 25, 35), id="a quarter about its centre"),
        pytest.param(180, None, (10, 20, 30, 30), id="half"),
        pytest.param(90, (10, 20), (0, 20, 10, 40), id="clockwise about its corner"),
        pytest.param(-90, (10, 20), (10, 0, 20, 20), id="the other way"),
    ],
)
def test_around_a_turned_box(degrees: float, pivot_xy: tuple[float, float] | None, expected: tuple[float, ...]) -> None:
    assert around_turned_box((10, 20, 30, 30), degrees, pivot_xy=pivot_xy) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param((0, 0, 10, 10), False, id="the same"),
        pytest.param((0, 0, 10, 5), False, id="half"),
        pytest.param((0, 0, 10, 4.9), True, id="below half"),
        pytest.param((20, 20, 30, 30), True, id="apart"),
    ],
)
def test_overlap(other: tuple[float, float, float, float], expected: bool) -> None:
    assert hardly_overlap((0, 0, 10, 10), other) is expected
