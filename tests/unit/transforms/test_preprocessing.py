"""Preprocessing, held against torchvision and ultralytics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from visionyard.errors import ShapeError
from visionyard.transforms import Placement, PreprocessingSpec

SIZES_HW = [(100, 150), (333, 501), (64, 64), (8, 8), (40, 900), (1000, 777), (1, 500), (500, 1), (2000, 30), (31, 33)]


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(size_hw).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def letterbox(size_hw: tuple[int, int], **options: Any) -> PreprocessingSpec:
    return PreprocessingSpec(resize="letterbox", size_hw=size_hw, interpolation="bilinear", **options)


def centre_crop(side: int, shorter_side_px: int) -> PreprocessingSpec:
    return PreprocessingSpec(
        resize="shorter_side_crop",
        size_hw=(side, side),
        shorter_side_px=shorter_side_px,
        interpolation="bilinear_antialias",
    )


@pytest.mark.parametrize("source_hw", SIZES_HW, ids=str)
@pytest.mark.parametrize("size_hw", [(64, 64), (96, 160), (33, 65), (640, 640)], ids=str)
def test_letterbox_agrees_with_ultralytics(
    source_hw: tuple[int, int], size_hw: tuple[int, int], ultralytics: Callable[..., Any]
) -> None:
    reference = ultralytics("ultralytics.data.augment").LetterBox(new_shape=size_hw, auto=False)
    image = picture(source_hw)
    np.testing.assert_array_equal(letterbox(size_hw).resize_only(image), reference(image=image))


@pytest.mark.parametrize("source_hw", SIZES_HW, ids=str)
@pytest.mark.parametrize(("side", "shorter"), [(224, 256), (64, 64), (64, 73), (96, 97)], ids=str)
def test_centre_crop_agrees_with_torchvision(source_hw: tuple[int, int], side: int, shorter: int) -> None:
    from torchvision import transforms

    image = picture(source_hw)
    reference = transforms.Compose([transforms.Resize(shorter, antialias=True), transforms.CenterCrop(side)])
    expected = np.asarray(reference(Image.fromarray(image)), dtype=int)
    assert np.abs(centre_crop(side, shorter).resize_only(image) - expected).max() <= 1


def test_whole_classification_transform_agrees_with_torchvision() -> None:
    import torch
    from torchvision import transforms

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = picture((300, 400))
    reference = transforms.Compose(
        [
            transforms.Resize(256, antialias=True),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    spec = centre_crop(224, 256).model_copy(update={"mean": mean, "std": std})
    tensor, _ = spec.apply(image)
    assert tensor.dtype == np.float32
    expected = reference(Image.fromarray(image))
    assert torch.allclose(torch.from_numpy(tensor), expected, atol=1.01 / 255 / min(std))
    assert float((torch.from_numpy(tensor) - expected).abs().mean()) < 1e-3


@pytest.mark.parametrize("interpolation", ["bilinear", "bilinear_antialias"])
@pytest.mark.parametrize("source_hw", [(100, 150), (8, 8), (700, 20)], ids=str)
def test_stretch_agrees_with_the_library_it_names(interpolation: str, source_hw: tuple[int, int]) -> None:
    import cv2

    spec = PreprocessingSpec(resize="stretch", size_hw=(48, 80), interpolation=interpolation)
    image = picture(source_hw)
    expected = (
        cv2.resize(image, (80, 48), interpolation=cv2.INTER_LINEAR)
        if interpolation == "bilinear"
        else np.asarray(Image.fromarray(image).resize((80, 48), Image.Resampling.BILINEAR))
    )
    np.testing.assert_array_equal(spec.resize_only(image), expected)


def test_a_very_wide_image_is_cropped_without_scaling_all_of_it() -> None:
    image = picture((1, 60_000))
    cropped = centre_crop(224, 256).resize_only(image)  # whole, it would be 256 x 15,360,000: 11 GB
    np.testing.assert_allclose(cropped[:, 112], np.broadcast_to(image[:, 30_000], (224, 3)), atol=130)
    assert cropped.shape == (224, 224, 3)


@pytest.mark.parametrize("source_hw", SIZES_HW, ids=str)
@pytest.mark.parametrize(
    "spec",
    [
        letterbox((64, 96)),
        centre_crop(32, 40),
        PreprocessingSpec(resize="stretch", size_hw=(48, 80), interpolation="bilinear"),
    ],
    ids=lambda spec: spec.resize,
)
def test_boxes_go_there_and_back(spec: PreprocessingSpec, source_hw: tuple[int, int]) -> None:
    height, width = source_hw
    _, placement = spec.apply(picture(source_hw))
    source = np.array([[0, 0, width, height], [width * 0.25, height * 0.5, width * 0.75, height * 0.9]])
    scale, offset = np.array(placement.scale_xy * 2), np.array(placement.offset_xy * 2)
    np.testing.assert_allclose(placement.to_source(source * scale + offset), source, atol=1e-6)


def test_a_mark_lies_where_the_placement_says() -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    image[60:80, 100:140] = 255
    for spec in (letterbox((96, 96)), centre_crop(64, 64)):
        placed, placement = spec.resize_only(image), spec.apply(image)[1]
        rows, columns = np.nonzero((placed > 127).all(axis=2))
        found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        np.testing.assert_allclose(placement.to_source(found), [[100, 60, 140, 80]], atol=2.0)


def test_boxes_are_clipped_to_the_source() -> None:
    placement = Placement(scale_xy=(0.5, 0.5), offset_xy=(0.0, 10.0), source_wh=(100, 60), input_wh=(50, 50))
    assert placement.to_source(np.array([[-5, 0, 70, 90]])).tolist() == [[0.0, 0.0, 100.0, 60.0]]
    assert placement.to_source(np.zeros((0, 4))).shape == (0, 4)


def test_values_are_scaled_then_normalised_channel_by_channel() -> None:
    image = np.array([[[0, 128, 255]]], dtype=np.uint8)
    spec = PreprocessingSpec(
        resize="stretch", size_hw=(1, 1), interpolation="bilinear", mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0)
    )
    tensor, _ = spec.apply(image)
    np.testing.assert_allclose(tensor[:, 0, 0], [-1.0, 128 / 255 - 0.25, 0.5], rtol=1e-6)
    swapped, _ = spec.model_copy(update={"channel_order": "bgr", "mean": (0, 0, 0), "std": (1, 1, 1)}).apply(image)
    np.testing.assert_allclose(swapped[:, 0, 0], [1.0, 128 / 255, 0.0], rtol=1e-6)


def test_a_batch_holds_each_image_as_alone() -> None:
    images = [picture((30, 50)), picture((8, 8))]
    spec = letterbox((32, 48), pad_value=0)
    batch, placements = spec.apply_all(images)
    assert batch.shape == (2, 3, 32, 48)
    for row, image, placement in zip(batch, images, placements, strict=True):
        tensor, alone = spec.apply(image)
        np.testing.assert_array_equal(row, tensor)
        assert placement == alone
    assert spec.apply_all([])[0].shape == (0, 3, 32, 48)


def test_the_spec_survives_json() -> None:
    for spec in (letterbox((640, 480), scale=1.0), centre_crop(224, 256)):
        assert PreprocessingSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((4, 4), np.uint8), id="grey"),
        pytest.param(np.zeros((4, 4, 4), np.uint8), id="alpha"),
        pytest.param(np.zeros((4, 4, 3), np.float32), id="float"),
        pytest.param(np.zeros((0, 4, 3), np.uint8), id="no pixels"),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ShapeError, match=r"expected \(H, W, 3\) uint8 RGB, got \(.*\) \w+; use decode_image"):
        letterbox((8, 8)).apply(image)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"size_hw": (0, 8)}, "greater than or equal to 1", id="no height"),
        pytest.param({"std": (1.0, 0.0, 1.0)}, "expected no 0", id="division by zero"),
        pytest.param({"resize": "shorter_side_crop"}, "expected bilinear_antialias, got bilinear", id="unsmoothed"),
        pytest.param(
            {"resize": "shorter_side_crop", "interpolation": "bilinear_antialias", "shorter_side_px": 6},
            "shorter_side_px = 6: expected at least the longer side of the crop, 8",
            id="crop beyond the image",
        ),
        pytest.param({"colour": "rgb"}, "Extra inputs are not permitted", id="unknown key"),
    ],
)
def test_specs_that_cannot_be_honoured_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PreprocessingSpec(**{"resize": "stretch", "size_hw": (8, 8), "interpolation": "bilinear", **values})


@pytest.mark.parametrize("size_hw", [(32, 32), (1, 1), (5, 17), (17, 5)])
@pytest.mark.parametrize("channel_order", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("scale", "mean", "std"),
    [
        pytest.param(1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), id="scaled"),
        pytest.param(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), id="normalised"),
        pytest.param(1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), id="by pixel values"),
    ],
)
def test_looked_up_values_are_those_of_the_arithmetic(
    size_hw: tuple[int, int], channel_order: str, scale: float, mean: tuple, std: tuple
) -> None:
    spec = PreprocessingSpec(
        resize="stretch", size_hw=size_hw, interpolation="bilinear", scale=scale, mean=mean, std=std,
        channel_order=channel_order,
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    placed = spec.resize_only(image)[..., :: 1 if channel_order == "rgb" else -1]
    expected = placed.astype(np.float32) * np.float32(scale)
    if std != (1.0, 1.0, 1.0):
        expected = (expected - np.array(mean, np.float32)) / np.array(std, np.float32)
    image.setflags(write=False)
    assert np.array_equal(spec.apply(image)[0], expected.transpose(2, 0, 1))
    assert np.array_equal(spec.apply_all([image, image])[0][1], expected.transpose(2, 0, 1))
