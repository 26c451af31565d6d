"""Boxes around shapes."""

import math

import pytest

from visionyard.data.formats.shapes import around_ellipse, around_points, around_turned_box, hardly_overlap


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
    ("degrees", "expected"),
    [
        pytest.param(0, (6, 18, 14, 22), id="not at all"),
        pytest.param(90, (8, 16, 12, 24), id="a quarter"),
        pytest.param(180, (6, 18, 14, 22), id="half"),
        pytest.param(45, (10 - 10**0.5, 20 - 10**0.5, 10 + 10**0.5, 20 + 10**0.5), id="an eighth"),
    ],
)
def test_around_an_ellipse(degrees: float, expected: tuple[float, ...]) -> None:
    assert around_ellipse((10, 20), (4, 2), degrees) == pytest.approx(expected)


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
