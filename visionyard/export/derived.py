"""Write the formats of a bundle: from the trained module, or from the ONNX file that came from it."""

import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from visionyard import events
from visionyard.data.dataset import DatasetVersion
from visionyard.export.formats import WRITERS, ExportedFile
from visionyard.export.quantising import calibration_images, write_fp16, write_int8
from visionyard.inference.openvino_backend import load_openvino
from visionyard.models import TrainedModel

_FROM_ONNX = ("onnx-fp16", "onnx-int8", "openvino")
EXPORTED = (*WRITERS, *_FROM_ONNX)


def write_formats(
    trained: TrainedModel, dataset: DatasetVersion, folder: Path, formats: Iterable[str], *, opset: int
) -> list[ExportedFile]:
    """Write each format once, in the order given.

    `openvino` is no file of its own: OpenVINO reads `model.onnx`, and is certified beside ONNX Runtime.

    Args:
        trained: The model.
        dataset: `onnx-int8` is calibrated on its training split.
        folder: Where the files go.
        formats: Of `EXPORTED`.
        opset: ONNX operator set.

    Raises:
        ConfigError: `openvino` is asked for and not installed.
        ModelError: The model cannot be exported or converted.
        DataError: `onnx-int8` is asked for and the train split is empty.
    """
    wanted = list(dict.fromkeys(formats))
    if "openvino" in wanted:
        load_openvino()  # fails before the work is done
    files = []
    with tempfile.TemporaryDirectory(prefix="visionyard-export-") as scratch:
        source: ExportedFile | None = None
        for done, name in enumerate(wanted, start=1):
            if name in WRITERS and not (name == "onnx" and source):
                file = _written(name, trained, folder, opset)
                source = file if name == "onnx" else source
            else:
                if source is None:
                    # The ONNX file belongs into the bundle only when one of its formats is that file.
                    place = folder if {"onnx", "openvino"} & set(wanted) else Path(scratch)
                    source = _written("onnx", trained, place, opset)
                file = _from_onnx(name, source, trained, dataset, folder)
            files.append(file)
            events.progress(done, len(wanted), unit="format", label=f"writing {name}")
    return files


def _written(name: str, trained: TrainedModel, folder: Path, opset: int) -> ExportedFile:
    before = trained.preprocessing
    return WRITERS[name](trained.module, before.input_shape, folder, opset=opset, input_name=before.input_name)


def _from_onnx(
    name: str, source: ExportedFile, trained: TrainedModel, dataset: DatasetVersion, folder: Path
) -> ExportedFile:
    if name == "onnx-fp16":
        return write_fp16(source, folder)
    if name == "onnx-int8":
        return write_int8(source, folder, calibration_images(dataset), trained.preprocessing)
    if name == "openvino":
        return ExportedFile("openvino", source.path, {**source.details, "openvino": version("openvino")})
    return source
