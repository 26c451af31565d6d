"""Masks as run lengths, held against COCO's own codec, and their outlines."""

import numpy as np
import pytest

from visionyard.errors import ShapeError
from visionyard.geometry import Mask
from visionyard.geometry.outlines import mask_to_polygons


def _disc(size: int = 40) -> np.ndarray:
    y, x = np.mgrid[:size, : size + 7]
    return (y - 15) ** 2 + (x - 20) ** 2 < 120


def _random(density: float, shape: tuple[int, int] = (23, 31)) -> np.ndarray:
    return np.random.default_rng(7).random(shape) < density


def _one(row: int, column: int) -> np.ndarray:
    pixels = np.zeros((5, 6), np.bool_)
    pixels[row, column] = True
    return pixels


MASKS = [
    pytest.param(np.zeros((4, 5), np.bool_), id="nothing"),
    pytest.param(np.ones((4, 5), np.bool_), id="everything"),
    pytest.param(_one(0, 0), id="first_pixel"),
    pytest.param(_one(4, 5), id="last_pixel"),
    pytest.param(_one(2, 3), id="one_pixel"),
    pytest.param(_disc(), id="disc"),
    pytest.param(_random(0.5), id="noise"),
    pytest.param(_random(0.02), id="sparse_noise"),
    pytest.param(~_random(0.02), id="dense_noise"),
    pytest.param(np.pad(np.ones((1, 1), np.bool_), ((3000, 1), (2000, 10))), id="far_corner"),
    pytest.param(np.eye(1, 1, dtype=np.bool_), id="smallest_image"),
]


@pytest.mark.parametrize("pixels", MASKS)
def test_pixels_come_back(pixels: np.ndarray) -> None:
    mask = Mask.from_array(pixels)

    assert np.array_equal(mask.to_array(), pixels)
    assert mask.area == pixels.sum()
    assert Mask.from_json(mask.to_json()) == mask
    crop, (left, top) = mask.to_crop()
    whole = np.zeros_like(pixels)
    whole[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    assert np.array_equal(whole, pixels)
    for axis in (0, 1):
        assert not crop.size or (crop.any(axis=axis)[0] and crop.any(axis=axis)[-1]), "no smaller crop would do"


@pytest.mark.parametrize("pixels", MASKS)
def test_pixels_come_back_from_a_part(pixels: np.ndarray) -> None:
    mask = Mask.from_array(pixels)
    assert Mask.from_crop(*mask.to_crop(), mask.size_hw) == mask
    assert Mask.from_crop(pixels, (0, 0), mask.size_hw) == mask


@pytest.mark.parametrize("pixels", MASKS)
def test_pixels_come_back_from_runs(pixels: np.ndarray) -> None:
    flat = pixels.ravel(order="F")
    edges = [0, *np.flatnonzero(np.diff(flat)) + 1, flat.size]
    runs = np.diff(edges).tolist()
    runs = [0, *runs] if flat[0] else runs

    assert Mask.from_runs(runs, pixels.shape) == Mask.from_array(pixels)
    assert Mask.from_runs([0, 0, *runs, 0, 0], pixels.shape) == Mask.from_array(pixels)


@pytest.mark.parametrize(
    ("runs", "match"),
    [
        pytest.param([], "got 0 runs over 0", id="none"),
        pytest.param([19], "got 1 runs over 19", id="too few"),
        pytest.param([10, 20], "got 2 runs over 30", id="too many"),
        pytest.param([21, -1], "got 2 runs;", id="below 0"),
        pytest.param([19.5, 0.5], "got 2 runs;", id="parts of pixels"),
        pytest.param([10**400], "got 1 runs;", id="beyond any number"),
    ],
)
def test_runs_of_another_image_are_refused(runs: list[int], match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        Mask.from_runs(runs, (4, 5))


def test_runs_of_an_image_beyond_all_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="got 1 runs;"):
        Mask.from_runs([10**18], (10**9, 10**9))


@pytest.mark.parametrize("offset_xy", [(-1, 0), (0, -1), (3, 0), (0, 3)])
def test_a_part_that_leaves_the_image_is_refused(offset_xy: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="leaves the image"):
        Mask.from_crop(np.ones((2, 3), np.bool_), offset_xy, (4, 5))


@pytest.mark.parametrize("pixels", MASKS)
def test_the_text_is_coco_s(pixels: np.ndarray) -> None:
    coco = pytest.importorskip("faster_coco_eval.core.mask", reason="needs faster-coco-eval")
    theirs = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))

    mask = Mask.from_array(pixels)

    assert mask.counts == theirs["counts"].decode()
    assert list(mask.size_hw) == list(theirs["size"])
    assert np.array_equal(coco.decode({"size": list(mask.size_hw), "counts": mask.counts.encode()}), pixels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"size": [4, 5], "counts": ""}, "'' is not COCO's compressed text", id="empty"),
        pytest.param({"size": [4, 5], "counts": "P"}, "'P' is not COCO's", id="cut_off"),
        pytest.param({"size": [4, 5], "counts": "d\u00fc"}, "is not COCO's|cover", id="other_letters"),
        pytest.param({"size": [4, 5], "counts": "3"}, "cover 3 pixels, expected 20 for 4x5", id="too_few"),
        pytest.param({"size": [4, 5], "counts": "P" * 20 + "0"}, "a run that no image has", id="too_long"),
    ],
)
def test_other_texts_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Mask.from_json(values)


def test_numbers_are_no_mask() -> None:
    with pytest.raises(ShapeError, match=r"expected \(H, W\) bool, got \(2, 2\) float64"):
        Mask.from_array(np.zeros((2, 2)))


def _area(polygon: list[float]) -> float:
    x, y = np.array(polygon).reshape(-1, 2).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(_one(2, 3), id="one_pixel"),
        pytest.param(_one(0, 0), id="first_pixel"),
        pytest.param(np.pad(np.ones((1, 9), np.bool_), 2), id="line"),
        pytest.param(np.tri(9, dtype=np.bool_), id="stairs"),
        pytest.param(_disc(), id="disc"),
        pytest.param(np.kron(np.eye(2), np.ones((3, 3))).astype(np.bool_), id="touching_corners"),
    ],
)
def test_outlines_run_along_the_edges_of_the_pixels(pixels: np.ndarray) -> None:
    coco = pytest.importorskip("faster_coco_eval.core.mask", reason="needs faster-coco-eval")

    polygons = mask_to_polygons(Mask.from_array(pixels))

    assert len(polygons) == 1
    assert len(polygons[0]) >= 8, "COCO takes no polygon of fewer than three points"
    assert _area(polygons[0]) == pixels.sum()
    drawn = coco.decode(coco.merge(coco.frPyObjects(polygons, *pixels.shape)))
    assert np.array_equal(drawn, pixels)


def test_each_part_has_its_outline_and_holes_are_filled() -> None:
    pixels = np.zeros((12, 12), np.bool_)
    pixels[1:6, 1:6] = True
    pixels[3, 3] = False
    pixels[8:10, 8:11] = True

    polygons = mask_to_polygons(Mask.from_array(pixels))

    assert sorted(map(_area, polygons)) == [6, 25]
    assert mask_to_polygons(Mask.from_array(np.zeros((3, 3), np.bool_))) == []


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
def test_the_box_around_a_mask(mask: Mask, expected: tuple[int, ...] | None) -> None:
    assert mask.xyxy() == expected


def test_the_box_around_a_random_mask_is_that_of_its_pixels() -> None:
    random = np.random.default_rng(4)
    for _ in range(200):
        pixels = random.random((5, 7)) < random.uniform(0.02, 0.5)
        rows, columns = np.nonzero(pixels)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
        assert Mask.from_array(pixels).xyxy() == expected


def test_the_box_around_a_mask_of_an_image_that_fits_no_memory() -> None:
    assert Mask.from_runs([5, 10**12 - 5], (10**6, 10**6)).xyxy() == (0, 0, 10**6, 10**6)
