"""A predictor finds hand-made squares in pixels of the source image, alone and in a batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from visionyard.errors import ShapeError
from visionyard.inference import Predictor
from visionyard.transforms import ClassificationPostprocessing, DetectionPostprocessing, PreprocessingSpec

RED, BLUE = (220, 40, 30), (30, 40, 220)


def _square(height: int, width: int, x: int, y: int, colour: tuple[int, int, int], side: int = 16) -> np.ndarray:
    image = np.full((height, width, 3), 120, np.uint8)
    image[y : y + side, x : x + side] = colour
    return image


class _Fixed:
    """A backend that answers with one output, whatever it is shown."""

    name = "fixed"

    def __init__(self, output: np.ndarray) -> None:
        self.output = output

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        return [np.repeat(self.output[None], len(batch), axis=0).astype(np.float32)]

    def close(self) -> None:
        pass


def _fixed(output: np.ndarray, post: Any, class_count: int) -> Predictor:
    spec = PreprocessingSpec(resize="letterbox", size_hw=(64, 64), interpolation="bilinear")
    return Predictor(_Fixed(output), spec, post, [f"c{index}" for index in range(class_count)])


@pytest.mark.parametrize("name", ["pytorch", "onnx", "torchscript"])
@pytest.mark.parametrize(
    ("image", "class_id", "xyxy"),
    [
        pytest.param(_square(96, 96, 40, 24, RED), 1, (40, 24, 56, 40), id="square"),
        pytest.param(_square(80, 96, 40, 24, BLUE), 0, (40, 24, 56, 40), id="padded_above"),
        pytest.param(_square(192, 100, 32, 80, RED, 32), 1, (32, 80, 64, 112), id="tall_halved"),
    ],
)
def test_finds_the_square_where_it_is(
    name: str,
    image: np.ndarray,
    class_id: int,
    xyxy: tuple[float, ...],
    tiny_bundle: Callable[..., Any],
    tiny_model: Callable[..., Any],
) -> None:
    folder, _ = tiny_bundle("detection")
    predictor = (
        Predictor.from_model(tiny_model("detection")) if name == "pytorch" else Predictor.from_bundle(folder, name)
    )

    (found,) = predictor.predict([image])

    assert found.class_ids[0] == class_id
    assert found.confidence[0] > 0.9
    np.testing.assert_allclose(found.xyxy[0], xyxy, atol=2.5)  # the grid is 4 px, half of it is the most it can miss


def test_a_batch_gives_what_single_images_give(tiny_bundle: Callable[..., Any]) -> None:
    images = [_square(60 + 9 * n, 96 - 7 * n, 8 * n, 10, (RED, BLUE)[n % 2]) for n in range(5)]

    with Predictor.from_bundle(tiny_bundle("detection")[0]) as predictor:
        together = predictor.predict(images, batch_size=3)
        alone = [predictor.predict([image])[0] for image in images]

    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)


def test_classifies_and_ignores_a_threshold(tiny_bundle: Callable[..., Any]) -> None:
    with Predictor.from_bundle(tiny_bundle("classification")[0]) as predictor:
        blue, red = predictor.predict(
            [_square(80, 96, 40, 30, BLUE), _square(80, 96, 40, 30, RED)], confidence_threshold=1
        )

    assert (blue.class_id, red.class_id) == (0, 1)
    assert blue.probabilities.sum() == pytest.approx(1)


def test_a_threshold_replaces_the_spec_s() -> None:
    output = np.array([[10, 40], [10, 40], [8, 8], [8, 8], [0.9, 0.1]])
    predictor = _fixed(output, DetectionPostprocessing(), 1)
    image = np.zeros((64, 64, 3), np.uint8)

    assert [len(predictor.predict([image], confidence_threshold=value)[0]) for value in (0.95, 0.25, 0.05)] == [0, 1, 2]


def test_no_images_no_predictions(tiny_model: Callable[..., Any]) -> None:
    assert Predictor.from_model(tiny_model("detection")).predict([]) == []


@pytest.mark.parametrize(
    ("output", "post", "class_count", "message"),
    [
        pytest.param(
            np.zeros((6, 10)),
            DetectionPostprocessing(),
            3,
            r"fixed: output: expected \(1, 7, A\) for layout yolo and 3 classes, got \(1, 6, 10\)",
            id="yolo",
        ),
        pytest.param(
            np.zeros((10, 7)), DetectionPostprocessing(layout="end2end"), 3, r"expected \(1, A, 6\)", id="end2end"
        ),
        pytest.param(np.zeros(4), ClassificationPostprocessing(), 3, r"expected \(1, 3\)", id="classification"),
        pytest.param(np.zeros((4, 4)), ClassificationPostprocessing(), 4, r"got \(1, 4, 4\)", id="too_many_axes"),
    ],
)
def test_refuses_an_output_that_does_not_fit_the_specs(
    output: np.ndarray, post: Any, class_count: int, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        _fixed(output, post, class_count).predict([np.zeros((8, 8, 3), np.uint8)])


def test_refuses_an_image_that_is_not_rgb_bytes() -> None:
    with pytest.raises(ShapeError, match=r"expected \(H, W, 3\) uint8 RGB, got \(8, 8\) uint8"):
        _fixed(np.zeros(2), ClassificationPostprocessing(), 2).predict([np.zeros((8, 8), np.uint8)])
