"""From images to predictions: preprocessing, a backend, postprocessing, as the bundle's specs say."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from visionyard.errors import ShapeError
from visionyard.inference.backends import Backend, TorchBackend
from visionyard.inference.bundle import Bundle
from visionyard.inference.choice import choose_format
from visionyard.transforms import Content, Detections, Placement, Postprocessing, Prediction, Preprocessing

if TYPE_CHECKING:
    from visionyard.models.plugin import TrainedModel


class Predictor:
    """A model ready to look at images, or at rows of a table; also a context manager that closes its backend."""

    def __init__(
        self,
        backend: Backend,
        preprocessing: Preprocessing,
        postprocessing: Postprocessing,
        classes: Sequence[str],
    ) -> None:
        """Put the parts together.

        Args:
            backend: Runs the tensors.
            preprocessing: From image, or row, to input.
            postprocessing: From output to predictions.
            classes: Class names in the order of their ids.
        """
        self.backend = backend
        self.preprocessing = preprocessing
        self.postprocessing = postprocessing
        self.classes = list(classes)

    @classmethod
    def from_bundle(
        cls,
        folder: Path,
        format: str | None = None,  # noqa: A002
        *,
        threads: int = 0,
        device: str = "cpu",
    ) -> "Predictor":
        """Open a model bundle and load one of its formats.

        Args:
            folder: The bundle.
            format: Such as `onnx`; None takes the fastest that is certified, see `choose_format`.
            threads: Intra-operator threads; 0 leaves the library's own choice.
            device: `cpu`, `cuda`, `tensorrt`, or `auto`: a GPU where there is one.

        Raises:
            ArtifactError: The bundle is incomplete, altered or of an unknown version.
            ConfigError: It lacks the format, the format is not certified, or does not run on the device.
        """
        bundle = Bundle.open(folder)
        manifest = bundle.manifest
        choice = choose_format(bundle, wanted=format or "auto", device=device)
        backend = bundle.backend(choice.format, threads=threads, device=choice.device)
        return cls(backend, manifest.preprocessing, manifest.postprocessing, manifest.classes)

    @classmethod
    def from_model(cls, trained: "TrainedModel", device: str = "cpu") -> "Predictor":
        """Wrap a trained PyTorch model."""
        return cls(TorchBackend(trained.module, device), trained.preprocessing, trained.postprocessing, trained.classes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the model's memory back."""
        self.backend.close()

    def predict(
        self,
        images: Sequence[Content],
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        batch_size: int = 8,
    ) -> list[Prediction]:
        """Look at images, or at rows.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any size; or rows of a table, where the model is of one.
            confidence_threshold: For detections, in place of the spec's own, in [0, 1].
            iou_threshold: For detections, in place of the spec's own, in (0, 1].
            max_detections: For detections, in place of the spec's own, 1 or more.
            batch_size: Most images per call of the backend.

        Returns:
            One prediction an image, in order.

        Raises:
            ShapeError: An image is not (H, W, 3) uint8, or the model's output does not fit its specs.
            DataError: A row lacks a column, or has a value of another kind.
        """
        predictions: list[Prediction] = []
        for start in range(0, len(images), batch_size):
            outputs, placements = self.respond(images[start : start + batch_size])
            predictions.extend(
                self.interpret(
                    outputs,
                    placements,
                    confidence_threshold=confidence_threshold,
                    iou_threshold=iou_threshold,
                    max_detections=max_detections,
                )
            )
        return predictions

    def respond(self, images: Sequence[Content]) -> tuple[list[np.ndarray], list[Placement]]:
        """Return the raw outputs for a batch of images, and where each lies in the input.

        Raises:
            DataError: A row lacks a column, or has a value of another kind.
            ShapeError: An image is not (H, W, 3) uint8, or an output does not fit the specs and the classes.
        """
        batch, placements = self.preprocessing.apply_all(list(images))
        outputs = self.backend.run_all(batch)
        self.check(outputs, len(batch))
        return outputs, placements

    def interpret(
        self,
        outputs: Sequence[np.ndarray],
        placements: Sequence[Placement],
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Prediction]:
        """Turn the raw outputs of a batch into predictions, in pixels of each source image.

        Args:
            outputs: As `respond` gave them.
            placements: As `respond` gave them.
            confidence_threshold: For detections, in place of the spec's own, in [0, 1].
            iou_threshold: For detections, in place of the spec's own, in (0, 1].
            max_detections: For detections, in place of the spec's own, 1 or more.

        Raises:
            ShapeError: The outputs do not fit the spec, or name a class that is not there.
        """
        found = self.postprocessing.apply(
            outputs,
            placements,
            confidence_threshold=confidence_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )
        for prediction in found:
            if isinstance(prediction, Detections) and len(prediction):
                self._check_classes(prediction.class_ids)
        return list(found)

    def check(self, outputs: Sequence[np.ndarray], count: int) -> None:
        """Refuse outputs that do not fit the specs and the classes.

        Args:
            outputs: Of one batch.
            count: Images in the batch.

        Raises:
            ShapeError: Another number of outputs, or another shape.
        """
        try:
            self.postprocessing.check(outputs, count=count, class_count=len(self.classes))
        except ShapeError as error:
            raise ShapeError(f"{self.backend.name}: {error}") from None

    def _check_classes(self, class_ids: np.ndarray) -> None:
        # Only a model that writes the class as a number can name one that is not there.
        if class_ids.min() < 0 or class_ids.max() >= len(self.classes):
            beyond = class_ids.min() if class_ids.min() < 0 else class_ids.max()
            raise ShapeError(
                f"{self.backend.name}: the model names class {beyond}, there are {len(self.classes)} classes; correct "
                "the list of classes"
            )
