"""What a model answers as tensors of the Open Inference Protocol: the same for REST and gRPC.

Objects of all images of a request stand one after another, in the order of the images; `image_index` tells whose each
is, and every other output of objects has a row for each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from visionyard.errors import RequestError, TooLargeError
from visionyard.geometry import Mask
from visionyard.inference.bundle import BundleManifest
from visionyard.serving.answers import ImageAnswer
from visionyard.serving.kserve_sdk import InferOutput
from visionyard.serving.rows import RowAnswer
from visionyard.serving.tensors import BYTES, DTYPES
from visionyard.transforms import Classification, DetectionPostprocessing, Detections

MASKS, MASK_PIXELS = "masks", "mask_pixels"
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


def describe_outputs(manifest: BundleManifest) -> list[dict[str, Any]]:
    """Return what a model answers, as model metadata list it: about images, and for its own input its raw outputs."""
    named: list[tuple[str, str, list[int]]] = [("predictions", BYTES, [-1])]
    if manifest.task == "classification":
        named.append(("probabilities", "FP32", [-1, len(manifest.classes)]))
    spec = manifest.postprocessing
    if isinstance(spec, DetectionPostprocessing):
        named += [
            ("image_index", "INT64", [-1]),
            ("xyxy", "FP32", [-1, 4]),
            ("confidence", "FP32", [-1]),
            ("class_id", "INT64", [-1]),
            ("image_hw", "INT64", [-1, 2]),
        ]
        if spec.has_masks:
            named += [(MASKS, BYTES, [-1]), (MASK_PIXELS, "BOOL", [-1, -1, -1])]
        if spec.has_keypoints:
            named.append(("keypoints", "FP32", [-1, spec.keypoint_count, 3]))
    named += [(own.name, "FP32", own.shape) for own in manifest.outputs]
    return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in named]


def answers_to_outputs(
    answers: Sequence[ImageAnswer],
    classes: Sequence[str],
    names: Sequence[str] | None = None,
    *,
    max_mask_pixels: int = 0,
) -> list[InferOutput]:
    """Return the outputs for images: their predictions as JSON texts, and as tensors.

    Args:
        answers: One an image.
        classes: Names in the order of their ids.
        names: Outputs asked for, in order; None: all but the pixels of masks, and but the masks where the request
            wants none.
        max_mask_pixels: Most pixels of all masks together; only what is asked for by name is made.

    Raises:
        RequestError: An output is not one of these.
        TooLargeError: The masks have more pixels than allowed.
    """
    makers = _makers(answers, classes, max_mask_pixels)
    if names is None:
        hidden = {MASK_PIXELS, *(MASKS for answer in answers if answer.masks == "none")}
        names = [name for name in makers if name not in hidden]
    check_known(names, makers)
    return [_output(name, makers[name]()) for name in names]


def row_answers_to_outputs(
    answers: Sequence[RowAnswer], classes: Sequence[str], names: Sequence[str] | None = None
) -> list[InferOutput]:
    """Return the outputs for rows of a table; arguments and errors as of `answers_to_outputs`."""
    makers: dict[str, Callable[[], np.ndarray]] = {
        "predictions": lambda: _objects([orjson.dumps(answer.to_json(classes)) for answer in answers]),
        "probabilities": lambda: np.stack([answer.probabilities for answer in answers]),
    }
    names = list(makers) if names is None else names
    check_known(names, makers)
    return [_output(name, makers[name]()) for name in names]


def rows_to_outputs(
    rows: Sequence[np.ndarray], manifest: BundleManifest, names: Sequence[str] | None = None
) -> list[InferOutput]:
    """Return raw outputs under their own names, those of `names` or all.

    Raises:
        RequestError: An output is not one of these.
    """
    by_name = {info.name: values for info, values in zip(manifest.outputs, rows, strict=True)}
    names = list(by_name) if names is None else names
    check_known(names, by_name)
    return [_output(name, by_name[name]) for name in names]


def check_known(names: Sequence[str], known: Mapping[str, object]) -> None:
    """Refuse outputs that are not given.

    Raises:
        RequestError: Some of `names` are not among those `known`.
    """
    missing = [name for name in names if name not in known]
    if missing:
        raise RequestError(f"outputs {', '.join(missing)[:80]}: not given here; known: {', '.join(known)}")


def _makers(
    answers: Sequence[ImageAnswer], classes: Sequence[str], max_mask_pixels: int
) -> dict[str, Callable[[], np.ndarray]]:
    """Return what makes each output, so that only those that are asked for are made."""
    predictions = [answer.prediction for answer in answers]
    kinds = [each for each in predictions if isinstance(each, Classification)]
    boxes = [each for each in predictions if isinstance(each, Detections)]
    makers: dict[str, Callable[[], np.ndarray]] = {
        "predictions": lambda: _objects([orjson.dumps(answer.to_json(classes)) for answer in answers])
    }
    if kinds:
        makers["probabilities"] = lambda: np.stack([each.probabilities for each in kinds]).astype(np.float32)
    if not boxes:
        return makers
    counts = [len(each) for each in boxes]
    makers |= {
        "image_index": lambda: np.repeat(np.arange(len(boxes), dtype=np.int64), counts),
        "xyxy": lambda: np.concatenate([each.xyxy for each in boxes]).astype(np.float32).reshape(-1, 4),
        "confidence": lambda: np.concatenate([each.confidence for each in boxes]).astype(np.float32),
        "class_id": lambda: np.concatenate([each.class_ids for each in boxes]).astype(np.int64),
        "image_hw": lambda: np.array([(answer.height, answer.width) for answer in answers], np.int64),
    }
    if boxes[0].masks is not None:
        masks = [mask for each in boxes for mask in each.masks or ()]
        size_hw = max(answer.height for answer in answers), max(answer.width for answer in answers)
        makers[MASKS] = lambda: _objects([mask.counts.encode("ascii") for mask in masks])
        makers[MASK_PIXELS] = lambda: _mask_pixels(masks, size_hw, max_mask_pixels)
    points = [each.keypoints for each in boxes if each.keypoints is not None]
    if points:
        makers["keypoints"] = lambda: np.concatenate(points).astype(np.float32)
    return makers


def _mask_pixels(masks: Sequence[Mask], size_hw: tuple[int, int], max_pixels: int) -> np.ndarray:
    """Return the (N, H, W) bool pixels of N masks, each from the top left; beyond its image there is nothing.

    Raises:
        TooLargeError: They are more than allowed; looked at before any is made.
    """
    height, width = size_hw
    if len(masks) * height * width > max_pixels:
        raise TooLargeError(
            f"output {MASK_PIXELS!r}: {len(masks)} masks of {height}x{width} px are more than the {max_pixels} pixels "
            f"that one answer takes (limits.max_mask_mib; in JSON a sixth of it); take {MASKS!r}, fewer images at a "
            "time, or a lower max_detections"
        )
    pixels = np.zeros((len(masks), height, width), np.bool_)
    for target, mask in zip(pixels, masks, strict=True):
        part, (left, top) = mask.to_crop()
        target[top : top + part.shape[0], left : left + part.shape[1]] = part
    return pixels


def _objects(elements: list[bytes]) -> np.ndarray:
    values = np.empty(len(elements), np.object_)
    values[:] = elements
    return values


def _output(name: str, values: np.ndarray) -> InferOutput:
    datatype = BYTES if values.dtype == np.object_ else _DATATYPES[values.dtype]
    return InferOutput(name, list(values.shape), datatype, data=values)
