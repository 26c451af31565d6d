"""Masks and keypoints: outputs made by hand with a known answer, and Ultralytics' own operations on the same output."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.errors import ShapeError
from visionyard.transforms import DetectionPostprocessing, Detections, Placement, PreprocessingSpec

SEG = DetectionPostprocessing(layout="yolo_seg")
LETTERBOX = PreprocessingSpec(resize="letterbox", size_hw=(128, 128), interpolation="bilinear")


def _seg_outputs(boxes: list[tuple[float, ...]], maps: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Return the outputs for boxes in input pixels, one class, and maps (M, h, w) with weights (N, M)."""
    xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    cxcywh = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    scores = np.linspace(0.9, 0.5, len(xyxy))[:, None]
    rows = np.concatenate([cxcywh, scores, weights], axis=1)
    return [rows.T[None].astype(np.float32), maps[None].astype(np.float32)]


def _disc(centre_xy: tuple[float, float], radius: float, *, cells: int = 32, size: int = 128) -> np.ndarray:
    """Return (cells, cells) that are above 0 inside a disc, given in pixels of an input of `size`."""
    middles = (np.arange(cells) + 0.5) * size / cells
    return radius - np.hypot(middles[None, :] - centre_xy[0], middles[:, None] - centre_xy[1])


def _place(width: int, height: int) -> Placement:
    return LETTERBOX.apply(np.zeros((height, width, 3), np.uint8))[1]


def _dense(logits: np.ndarray, box: np.ndarray, placement: Placement) -> np.ndarray:
    """Return the mask the long way: every pixel interpolated."""
    width, height = placement.source_wh
    y, x = np.mgrid[:height, :width] + 0.5
    at = []
    for axis, (grid, count) in enumerate(((x, logits.shape[1]), (y, logits.shape[0]))):
        inputs = grid * placement.scale_xy[axis] + placement.offset_xy[axis]
        at.append(np.clip(inputs * count / placement.input_wh[axis] - 0.5, 0, count - 1))
    low_x, low_y = np.floor(at[0]).astype(int), np.floor(at[1]).astype(int)
    high_x, high_y = np.minimum(low_x + 1, logits.shape[1] - 1), np.minimum(low_y + 1, logits.shape[0] - 1)
    share_x, share_y = at[0] - low_x, at[1] - low_y
    upper = logits[low_y, low_x] * (1 - share_x) + logits[low_y, high_x] * share_x
    lower = logits[high_y, low_x] * (1 - share_x) + logits[high_y, high_x] * share_x
    inside = upper * (1 - share_y) + lower * share_y > 0
    return inside & (x > box[0] - 0.5) & (x < box[2] + 0.5) & (y > box[1] - 0.5) & (y < box[3] + 0.5)


def _pixels(found: Detections, position: int = 0) -> np.ndarray:
    assert found.masks is not None
    assert found.masks[position].size_hw == found.masks[0].size_hw
    return found.masks[position].to_array()


def test_a_disc_in_a_letterboxed_image_is_a_disc_in_its_pixels() -> None:
    placement = _place(400, 300)  # scaled by 0.32, 16 px above and below
    outputs = _seg_outputs([(44, 44, 84, 84)], _disc((64, 64), 20)[None], np.ones((1, 1)))

    (found,) = SEG.apply(outputs, [placement])

    pixels = _pixels(found)
    assert pixels.shape == (300, 400)
    y, x = np.mgrid[:300, :400] + 0.5
    expected = np.hypot(x - 200, y - 150) < 20 / 0.32
    assert (pixels & expected).sum() / (pixels | expected).sum() > 0.98
    np.testing.assert_allclose(found.xyxy, [[137.5, 87.5, 262.5, 212.5]])


@pytest.mark.parametrize(
    ("size_wh", "box"),
    [
        pytest.param((400, 300), (4, 20, 90, 100), id="wide"),
        pytest.param((90, 411), (50, 0, 80, 128), id="tall_whole_height"),
        pytest.param((128, 128), (0, 0, 128, 128), id="whole_image"),
        pytest.param((400, 300), (-30, -30, 30, 40), id="beyond_the_border"),
        pytest.param((1000, 750), (60.2, 60.1, 60.4, 60.3), id="tiny"),
        pytest.param((7, 5), (30, 40, 100, 90), id="tiny_image"),
        pytest.param((40, 30), (63.9, 63.9, 64.0, 64.0), id="within_one_pixel"),
        pytest.param((1000, 3), (0, 60, 128, 68), id="sliver"),
    ],
)
def test_runs_are_those_of_every_pixel_interpolated(size_wh: tuple[int, int], box: tuple[float, ...]) -> None:
    placement = _place(*size_wh)
    maps = np.random.default_rng(5).normal(size=(6, 32, 32))
    weights = np.random.default_rng(6).normal(size=(1, 6)).astype(np.float32)

    (found,) = SEG.apply(_seg_outputs([box], maps, weights), [placement])

    logits = np.tensordot(weights[0], maps.astype(np.float32), 1).astype(np.float64)
    edges = np.concatenate([np.floor(found.xyxy[0, :2]), np.ceil(found.xyxy[0, 2:])])
    expected = _dense(logits, edges, placement) & _touched(edges, size_wh)
    assert np.array_equal(_pixels(found), expected)


def _touched(edges: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size_wh[1], : size_wh[0]]
    return (x >= edges[0]) & (x < edges[2]) & (y >= edges[1]) & (y < edges[3])


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, np.nan, np.inf], ids=["in", "out", "border", "nan", "infinite"])
def test_a_map_of_one_value_is_the_box_or_nothing(value: float) -> None:
    outputs = _seg_outputs([(32, 32, 96, 64)], np.ones((1, 8, 8)), np.ones((1, 1)))
    outputs[1][:] = value

    (found,) = SEG.apply(outputs, [_place(256, 256)])

    expected = np.zeros((256, 256), np.bool_)
    expected[64:128, 64:192] = value > 0
    assert np.array_equal(_pixels(found), expected)


def test_each_object_has_its_own_mask_and_suppressed_ones_have_none() -> None:
    maps = np.stack([_disc((30, 30), 12), _disc((90, 90), 25)])
    boxes = [(18, 18, 42, 42), (19, 18, 43, 42), (65, 65, 115, 115)]
    outputs = _seg_outputs(boxes, maps, np.array([[1, 0], [1, 0], [0, 1]]))

    (found,) = SEG.apply(outputs, [_place(128, 128)])
    (none,) = SEG.apply(outputs, [_place(128, 128)], confidence_threshold=1.0)

    assert len(found) == 2
    assert [_pixels(found, 0)[30, 30], _pixels(found, 0)[90, 90]] == [True, False]
    assert [_pixels(found, 1)[30, 30], _pixels(found, 1)[90, 90]] == [False, True]
    assert found.keypoints is None
    assert none.masks == ()


def test_many_large_masks_stay_small() -> None:
    maps = np.random.default_rng(5).normal(size=(4, 32, 32))
    weights = np.random.default_rng(6).normal(size=(40, 4))
    spec = DetectionPostprocessing(layout="yolo_seg", iou_threshold=1.0)

    (found,) = spec.apply(_seg_outputs([(0, 0, 128, 128)] * 40, maps, weights), [_place(4000, 3000)])

    assert found.masks is not None
    assert len(found.masks) == 40
    assert sum(len(mask.counts) for mask in found.masks) < 40 * 400_000, "a 30th of the pixels"


def test_keypoints_leave_the_letterbox() -> None:
    spec = DetectionPostprocessing(layout="yolo_pose", keypoint_count=2)
    column = [64, 64, 40, 40, 0.1, 0.8, 64, 64, 0.9, 44, 0, 0.25]

    (found,) = spec.apply([np.array(column, np.float32)[None, :, None]], [_place(400, 300)])
    (none,) = spec.apply([np.zeros((1, 12, 0), np.float32)], [_place(400, 300)])

    assert found.class_ids.tolist() == [1]
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints, [[[200, 150, 0.9], [137.5, 0, 0.25]]], atol=1e-5)
    assert found.masks is None
    assert none.keypoints is not None
    assert none.keypoints.shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("values", "shapes", "class_count", "message"),
    [
        pytest.param(
            {"layout": "yolo_seg"}, [(1, 37, 9)], 1, r"expected \(1, 5 \+ M, A\), \(1, M, h, w\) .* and 1 classes, got",
            id="no_prototypes",
        ),
        pytest.param({"layout": "yolo_seg"}, [(1, 37, 9), (1, 31, 8, 8)], 1, r"got \(1, 37, 9\), \(1, 31, 8, 8\)",
                     id="other_prototypes"),
        pytest.param({"layout": "yolo_seg"}, [(1, 36, 9), (1, 32, 8, 8)], None, r"4 \+ C \+ M, A", id="no_class"),
        pytest.param({"layout": "yolo_seg"}, [(1, 37, 9), (1, 32, 8)], 1, r"got .* \(1, 32, 8\)", id="flat_prototypes"),
        pytest.param({"layout": "yolo_pose"}, [(1, 56, 9)], 2, r"expected \(1, 57, A\)", id="other_classes"),
        pytest.param({"layout": "yolo_pose", "keypoint_count": 5}, [(1, 19, 9)], None, r"expected \(1, 19 \+ C, A\)",
                     id="no_class_left"),
    ],
)  # fmt: skip
def test_other_shapes_are_refused(
    values: dict[str, Any], shapes: list[tuple[int, ...]], class_count: int | None, message: str
) -> None:
    spec = DetectionPostprocessing.model_validate(values)
    with pytest.raises(ShapeError, match=message):
        spec.check([np.zeros(shape, np.float32) for shape in shapes], count=1, class_count=class_count)


# Sizes at which Ultralytics' letterbox scales both sides alike.
SOURCES = [
    pytest.param((320, 320), id="same"),
    pytest.param((640, 480), id="wide"),
    pytest.param((480, 640), id="tall"),
]


@pytest.fixture(scope="module")
def run_ultralytics(tmp_path_factory: pytest.TempPathFactory, ultralytics: Callable[..., Any]) -> Any:
    """Return a function that exports an architecture with random weights to ONNX and runs it on a picture of noise."""
    pytest.importorskip("onnx", reason="needs onnx")
    import torch

    from visionyard.inference.onnx_backend import OnnxBackend

    @cache
    def export(architecture: str) -> Path:
        torch.manual_seed(4)
        network = ultralytics().YOLO(f"{architecture}.yaml").model.eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # as they are, a fresh network says the same everywhere
                torch.nn.init.uniform_(module.weight, 1.0, 2.0)
                torch.nn.init.normal_(module.bias)
        head = network.fuse().model[-1]
        head.export, head.format = True, "onnx"
        names = ["predictions", "prototypes"] if architecture.endswith("seg") else ["predictions"]
        path = tmp_path_factory.mktemp(architecture) / "model.onnx"
        with torch.no_grad():
            torch.onnx.export(
                network, (torch.zeros(1, 3, 320, 320),), str(path), output_names=names, opset_version=17, dynamo=False
            )
        return path

    def run(architecture: str, image: np.ndarray, class_count: int) -> tuple[list[np.ndarray], Placement]:
        before = PreprocessingSpec(resize="letterbox", size_hw=(320, 320), interpolation="bilinear")
        batch, placements = before.apply_all([image])
        backend = OnnxBackend(export(architecture))
        outputs = backend.run_all(batch)
        backend.close()
        # Scores of a network that learnt nothing are alike; these tell each candidate from the others.
        scores = outputs[0][0, 4 : 4 + class_count]
        scores[:] = np.random.default_rng(2).permutation(np.linspace(0, 1, scores.size)).reshape(scores.shape)
        return outputs, placements[0]

    return run


def _noise(size_wh: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (size_wh[1], size_wh[0], 3)).astype(np.uint8)


def _chosen(outputs: np.ndarray, found: Detections, class_count: int) -> np.ndarray:
    """Return the candidates that detections come from, told by their scores."""
    scores = outputs[0, 4 : 4 + class_count].max(axis=0)
    chosen = [int(np.flatnonzero(scores == confidence)[0]) for confidence in found.confidence]
    assert len(set(chosen)) == len(chosen), "scores differ, so each belongs to one candidate"
    return np.array(chosen)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size_wh", SOURCES)
def test_masks_are_those_of_ultralytics(size_wh: tuple[int, int], run_ultralytics: Any) -> None:
    import torch

    outputs, placement = run_ultralytics("yolo11n-seg", _noise(size_wh), 80)
    from ultralytics.utils import ops

    (found,) = SEG.apply(outputs, [placement], confidence_threshold=0.0, iou_threshold=0.3, max_detections=12)

    chosen = _chosen(outputs[0], found, 80)
    boxes = ops.scale_boxes((320, 320), ops.xywh2xyxy(torch.from_numpy(outputs[0][0, :4, chosen])), size_wh[::-1])
    np.testing.assert_allclose(found.xyxy, boxes.numpy(), atol=0.01)
    # Random weights give maps around one sign; taking off their middle makes parts inside and outside.
    coefficients, prototypes = torch.from_numpy(outputs[0][0, 84:, chosen]), torch.from_numpy(outputs[1][0])
    prototypes = prototypes - prototypes.mean(dim=(1, 2), keepdim=True)
    moved = [outputs[0], prototypes.numpy()[None]]
    (found,) = SEG.apply(moved, [placement], confidence_threshold=0.0, iou_threshold=0.3, max_detections=12)
    whole = torch.tensor([[0, 0, *size_wh]]).expand(len(chosen), 4).float()
    theirs = ops.process_mask_native(prototypes, coefficients, whole, size_wh[::-1]).numpy().astype(np.bool_)
    assert found.masks is not None
    shares = []
    for mask, box, expected in zip(found.masks, found.xyxy, theirs, strict=True):
        expected = expected & _touched(np.concatenate([np.floor(box[:2]), np.ceil(box[2:])]), size_wh)
        either = (mask.to_array() | expected).sum()
        shares.append((mask.to_array() & expected).sum() / either if either else 1.0)
    assert sum(expected.any() for expected in theirs) > 5
    # Where they cut the padding off before enlarging, the pixels at the border have other neighbours.
    assert np.mean(shares) > (0.9999 if size_wh == (320, 320) else 0.99)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size_wh", SOURCES)
def test_keypoints_are_those_of_ultralytics(size_wh: tuple[int, int], run_ultralytics: Any) -> None:
    import torch

    outputs, placement = run_ultralytics("yolo11n-pose", _noise(size_wh), 80)
    from ultralytics.utils import ops

    spec = DetectionPostprocessing(layout="yolo_pose")
    (found,) = spec.apply(outputs, [placement], confidence_threshold=0.0, iou_threshold=0.3, max_detections=12)

    chosen = _chosen(outputs[0], found, 80)
    points = torch.from_numpy(outputs[0][0, 84:, chosen]).reshape(-1, 17, 3).clone()
    expected = ops.scale_coords((320, 320), points, size_wh[::-1]).numpy()
    assert len(found) > 5
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints, expected, atol=0.01)
