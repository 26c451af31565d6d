"""Semantic masks as they are stored."""

import io

import numpy as np
import pytest
from PIL import Image

from visionyard.data.class_masks import (
    decode_class_mask,
    encode_class_mask,
    id_table,
    ids_present,
    looked_up,
    row_parts,
)
from visionyard.errors import MediaError


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def test_every_id_survives() -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32)
    np.testing.assert_array_equal(decode_class_mask(encode_class_mask(ids)), ids)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        pytest.param([[255, 255]], (), id="nobody said"),
        pytest.param([[3, 0], [255, 3]], (0, 3), id="some"),
        pytest.param([[254]], (254,), id="the last id"),
    ],
)
def test_the_ids_that_a_mask_holds(ids: list[list[int]], expected: tuple[int, ...]) -> None:
    assert ids_present(np.array(ids, np.uint8)) == expected


def test_classes_that_move_or_are_left_out() -> None:
    table = id_table(["sky", "road", "car"], ["car", "sky"])
    assert table[[0, 1, 2, 3, 255]].tolist() == [1, 255, 0, 255, 255]
    assert (table.shape, table.dtype) == ((256,), np.uint8)


@pytest.mark.parametrize("size_hw", [(0, 5), (3000, 1200), (1, 3_000_000), (7, 1)], ids=str)
def test_blocks_of_rows_make_the_whole(size_hw: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 250, size_hw, dtype=np.uint8)
    parts = list(row_parts(pixels))
    np.testing.assert_array_equal(np.concatenate([pixels[:0], *parts]), pixels)
    assert all(part.size <= max(1 << 20, size_hw[1]) for part in parts)
    table = np.arange(256, dtype=np.uint8)[::-1].copy()
    np.testing.assert_array_equal(looked_up(table, pixels), 255 - pixels)
    assert ids_present(pixels) == tuple(np.unique(pixels))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(encoded(np.zeros((4, 4, 3), np.uint8)), "a PNG of mode RGB, expected a grey PNG", id="colour"),
        pytest.param(encoded(np.zeros((4, 4), np.uint8), "JPEG"), "a JPEG of mode L", id="JPEG"),
        pytest.param(encode_class_mask(np.zeros((40, 40), np.uint8))[:-20], "cannot be decoded", id="cut short"),
        pytest.param(b"", "it is empty", id="empty"),
    ],
)
def test_other_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        decode_class_mask(data)
