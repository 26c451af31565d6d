"""Faster forms of an ONNX file: half precision, and eight bits calibrated on training images.

Both leave alone what is most sensitive and cheapest: everything behind the last layers with weights, where scores and
coordinates are put together (half precision gives a coordinate of 640 px to half a pixel only), and in eight bits those
last layers too. How much they lose all the same is measured on the test split, see `visionyard.export.parity`.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from visionyard import events
from visionyard.data.dataset import DatasetVersion
from visionyard.errors import DataError, ModelError
from visionyard.export.formats import ExportedFile
from visionyard.transforms import Content, Preprocessing

# Ranges of activations settle within a few dozen pictures; more only take time.
CALIBRATION_IMAGE_COUNT = 64
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def write_fp16(onnx_file: ExportedFile, folder: Path) -> ExportedFile:
    """Write `model-fp16.onnx`: weights and layers in half precision, input and outputs float32 as before.

    Args:
        onnx_file: The float32 model.
        folder: Where the file goes.

    Raises:
        ModelError: The model cannot be converted.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = _named(onnx.load(str(onnx_file.path)))
    path = folder / "model-fp16.onnx"
    with _as_model_error("onnx-fp16", onnx.checker.ValidationError), warnings.catch_warnings():
        # It warns of every weight too small for half precision; the certificate tells whether that mattered.
        warnings.simplefilter("ignore")
        converted = convert_float_to_float16(
            model, keep_io_types=True, node_block_list=sorted(_names_behind_last_layers(model))
        )
        _drop_repeated_casts(converted)
        ONNXModel(converted).topological_sort()  # casts are appended at the end
        onnx.save(converted, str(path))
        onnx.checker.check_model(str(path), full_check=True)
    return ExportedFile("onnx-fp16", path, dict(onnx_file.details))


def write_int8(
    onnx_file: ExportedFile, folder: Path, images: Iterable[Content], preprocessing: Preprocessing
) -> ExportedFile:
    """Write `model-int8.onnx`: convolutions and matrix products in eight bits, scaled by what images bring about.

    Args:
        onnx_file: The float32 model.
        folder: Where the file goes.
        images: Each (H, W, 3) uint8 RGB, or a row, as the model was trained on; `CALIBRATION_IMAGE_COUNT` are enough.
        preprocessing: The model's own.

    Raises:
        ModelError: The model cannot be converted, for instance since it has no convolution or matrix product besides
            its last layers.
    """
    import onnx
    from onnxruntime import quantization

    path = folder / "model-int8.onnx"
    reader = _Calibration(images, preprocessing)
    with tempfile.TemporaryDirectory(prefix="visionyard-int8-") as scratch:
        model = _named(onnx.load(str(onnx_file.path)))
        last = _last_layers(model)
        weighted = [node.name for node in model.graph.node if node.op_type in _WEIGHTED and node.name not in last]
        if not weighted:
            raise ModelError(
                "onnx-int8: the model has no convolution or matrix product besides its last layers; leave onnx-int8 "
                "out of export.formats"
            )
        named = Path(scratch) / "named.onnx"
        onnx.save(model, str(named))
        with _as_model_error("onnx-int8", onnx.checker.ValidationError), _quiet():
            quantization.quantize_static(
                str(named),
                str(path),
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_WEIGHTED),
                nodes_to_quantize=weighted,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            onnx.checker.check_model(str(path), full_check=True)
    return ExportedFile("onnx-int8", path, {**onnx_file.details, "calibration_images": reader.count})


def calibration_images(dataset: DatasetVersion) -> Iterator[Content]:
    """Yield `CALIBRATION_IMAGE_COUNT` training images, or rows, spread evenly, or all there are; one at a time.

    Raises:
        DataError: The train split is empty, or an image cannot be decoded.
    """
    count = dataset.count("train")
    if not count:
        raise DataError(f"{dataset.folder}: the train split is empty; onnx-int8 is calibrated on it")
    chosen = np.unique(np.linspace(0, count - 1, min(count, CALIBRATION_IMAGE_COUNT)).round().astype(int))
    for done, position in enumerate(chosen.tolist(), start=1):
        yield dataset.content(dataset.sample("train", position))
        events.progress(done, len(chosen), unit=dataset.item, label="calibrating onnx-int8")


class _Calibration:
    """Hands ONNX Runtime one preprocessed image after the other (its `CalibrationDataReader`)."""

    def __init__(self, images: Iterable[Content], preprocessing: Preprocessing) -> None:
        self._images = islice(images, CALIBRATION_IMAGE_COUNT)
        self._preprocessing = preprocessing
        self.count = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next input, or None at the end."""
        image = next(self._images, None)
        if image is None:
            return None
        self.count += 1
        return {self._preprocessing.input_name: self._preprocessing.apply_all([image])[0]}


def _named(model: Any) -> Any:
    """Give every node a name: the converters speak of nodes by it."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def _drop_repeated_casts(model: Any) -> None:
    """Keep one of several equal casts: the converter (ONNX Runtime 1.31) adds one for each node that needs it."""
    seen: set[str] = set()
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Cast" or node.output[0] not in seen:
            nodes.append(node)
            seen.update(node.output)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)


def _last_layers(model: Any) -> set[str]:
    """Return the names of layers with weights that lead to no other such layer."""
    leads_on = _leads_to_weights(model)
    return {node.name for node in model.graph.node if node.op_type in _WEIGHTED and not any(map(leads_on, node.output))}


def _names_behind_last_layers(model: Any) -> set[str]:
    leads_on = _leads_to_weights(model)
    return {
        node.name for node in model.graph.node if node.op_type not in _WEIGHTED and not any(map(leads_on, node.output))
    }


def _leads_to_weights(model: Any) -> Callable[[str], bool]:
    """Return a function from a tensor's name to whether a layer with weights takes it, directly or later on."""
    leading: set[str] = set()
    for node in reversed(model.graph.node):  # ONNX lists nodes so that inputs come first
        if node.op_type in _WEIGHTED or any(output in leading for output in node.output):
            leading.update(node.input)
    return leading.__contains__


@contextlib.contextmanager
def _as_model_error(name: str, *kinds: type[Exception]) -> Iterator[None]:
    failures: tuple[type[Exception], ...] = (RuntimeError, ValueError, KeyError, NotImplementedError, *kinds)
    try:
        yield
    except failures as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
        raise ModelError(
            f"{name}: the model cannot be converted: {first}; leave {name} out of export.formats"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice and prints away; it logs by the root logger, once a node."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
