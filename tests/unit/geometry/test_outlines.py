"""One polygon for a mask with parts and holes, held against the polygon code that is COCO's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visionyard.geometry import Mask
from visionyard.geometry.outlines import mask_to_outline
from visionyard.geometry.polygons import rasterize


def _mask(*rows: str) -> Mask:
    return Mask.from_array(np.array([[letter == "#" for letter in row] for row in rows]))


MASKS = {
    "one pixel": _mask("#"),
    "hole": _mask("###", "#.#", "###"),
    "part in a hole": _mask("#####", "#...#", "#.#.#", "#...#", "#####"),
    "two parts": _mask("#..#", "#..#"),
    "parts that touch at a corner": _mask("#.", ".#"),
    "holes that touch at a corner": _mask("####", "#.##", "##.#", "####"),
    "hole at a corner outside": _mask("##.", "#.#", "###"),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_an_outline_holds_the_mask_exactly(mask: Mask):
    assert rasterize([mask_to_outline(mask)], mask.size_hw) == mask


def test_an_empty_mask_has_no_outline():
    assert mask_to_outline(Mask.from_array(np.zeros((3, 4), bool))) == []


@settings(max_examples=200, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_comes_back_from_its_outline(pixels: np.ndarray):
    mask = Mask.from_array(pixels)
    outline = mask_to_outline(mask)
    assert rasterize([outline] if outline else [], mask.size_hw) == mask
