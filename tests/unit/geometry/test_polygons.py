"""Polygons to masks, held against COCO's own code."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.errors import ShapeError
from visionyard.geometry import Mask
from visionyard.geometry.outlines import mask_to_polygons
from visionyard.geometry.polygons import rasterize

SIZE_HW = (37, 53)


def theirs(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> np.ndarray:
    coco = pytest.importorskip("faster_coco_eval.core.mask", reason="needs faster-coco-eval")
    drawn = coco.merge(coco.frPyObjects([list(polygon) for polygon in polygons], *size_hw))
    return np.asarray(coco.decode(drawn), np.bool_)


def random_polygon(random: np.random.Generator, point_count: int, reach_px: float) -> list[float]:
    middle, extent = np.array(SIZE_HW[::-1]) / 2, reach_px / 2
    return (middle + random.uniform(-extent, extent, (point_count, 2))).ravel().tolist()


@pytest.mark.parametrize(
    "polygon",
    [
        pytest.param([2, 2, 10, 2, 10, 10, 2, 10], id="square"),
        pytest.param([2, 10, 10, 10, 10, 2, 2, 2], id="the other way round"),
        pytest.param([2.5, 2.5, 10.5, 2.5, 10.5, 10.5], id="half pixels"),
        pytest.param([0, 0, 53, 0, 53, 37, 0, 37], id="whole image"),
        pytest.param([-9, -9, 99, -9, 99, 99, -9, 99], id="around the image"),
        pytest.param([60, 40, 70, 40, 70, 50], id="outside"),
        pytest.param([-20, -20, -10, -20, -10, -10], id="outside before"),
        pytest.param([-3, 10, 20, -4, 60, 30, 12, 41], id="over every border"),
        pytest.param([5, 5, 5, 5, 5, 5], id="one point"),
        pytest.param([5, 5, 15, 15, 25, 25], id="line"),
        pytest.param([5, 5, 5, 30, 5, 12], id="upright line"),
        pytest.param([2, 2, 30, 30, 30, 2, 2, 30], id="crossing itself"),
        pytest.param([2, 2, 30, 2, 30, 30, 2, 30, 2, 2, 30, 2, 30, 30, 2, 30], id="drawn twice"),
        pytest.param([2, 2, 9, 2, 9, 9, 2, 9, 2, 2], id="closed by hand"),
        pytest.param([10.1, 3.3, 10.2, 30.7, 10.9, 3.4], id="needle"),
    ],
)
def test_the_pixels_are_coco_s(polygon: list[float]) -> None:
    assert np.array_equal(rasterize([polygon], SIZE_HW).to_array(), theirs([polygon], SIZE_HW))


@pytest.mark.parametrize("point_count", [3, 4, 7, 40])
@pytest.mark.parametrize("reach_px", [4, 30, 90, 400])
def test_the_pixels_of_random_polygons_are_coco_s(point_count: int, reach_px: float) -> None:
    random = np.random.default_rng(point_count * 1000 + reach_px)
    for _ in range(60):
        polygons = [random_polygon(random, point_count, reach_px) for _ in range(random.integers(1, 4))]
        if random.random() < 0.3:
            polygons = np.round(polygons, random.integers(0, 2)).tolist()
        assert np.array_equal(rasterize(polygons, SIZE_HW).to_array(), theirs(polygons, SIZE_HW)), polygons


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([-3.0, 0.0, 0.1, 0.5, 1.0, 2.5, 7.3, 11.0, 12.0, 14.9]), min_size=6, max_size=16))
def test_the_pixels_of_polygons_on_pixel_borders_are_coco_s(values: list[float]) -> None:
    polygon = values[: len(values) // 2 * 2]
    assert np.array_equal(rasterize([polygon], (11, 12)).to_array(), theirs([polygon], (11, 12)))


def test_what_two_polygons_share_counts_once() -> None:
    mask = rasterize([[0, 0, 10, 0, 10, 10, 0, 10], [5, 5, 15, 5, 15, 15, 5, 15]], (20, 20))
    assert mask.area == 100 + 100 - 25


def test_no_polygons_are_an_empty_mask() -> None:
    assert rasterize([], (4, 5)) == Mask.from_array(np.zeros((4, 5), np.bool_))


def test_outlines_give_their_mask_back() -> None:
    random = np.random.default_rng(3)
    for _ in range(40):
        mask = rasterize([random_polygon(random, 5, 60) for _ in range(2)], SIZE_HW)
        polygons = mask_to_polygons(mask)
        filled = rasterize(polygons, SIZE_HW)
        assert mask_to_polygons(filled) == polygons
        assert not (mask.to_array() & ~filled.to_array()).any()


def test_a_polygon_far_larger_than_the_image_costs_no_more() -> None:
    # Drawn point by point, one of them would be 40 billion points and would not fit into memory.
    far = [-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]
    assert rasterize([far] * 20, SIZE_HW).area == SIZE_HW[0] * SIZE_HW[1]


@pytest.mark.parametrize(
    ("polygon", "match"),
    [
        pytest.param([], "got 0 numbers", id="empty"),
        pytest.param([1, 2, 3, 4], "got 4 numbers", id="two points"),
        pytest.param([1, 2, 3, 4, 5, 6, 7], "got 7 numbers", id="odd"),
        pytest.param([1, 2, 3, 4, 5, float("nan")], "got nan", id="NaN"),
        pytest.param([1, 2, 3, 4, 5, float("inf")], "got inf", id="infinite"),
        pytest.param([1, 2, 3, 4, 5, 1e12], "got 1000000000000.0", id="huge"),
    ],
)
def test_what_is_no_polygon_is_refused(polygon: list[float], match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        rasterize([polygon], SIZE_HW)
