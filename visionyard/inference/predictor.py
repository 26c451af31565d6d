"""From images to predictions: preprocessing, a backend, postprocessing, as the bundle's specs say."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from visionyard.errors import ShapeError
from visionyard.inference.backends import Backend, TorchBackend
from visionyard.inference.bundle import Bundle
from visionyard.transforms import DetectionPostprocessing, Placement, Postprocessing, Prediction, PreprocessingSpec

if TYPE_CHECKING:
    from visionyard.models.plugin import TrainedModel


class Predictor:
    """A model ready to look at images; also a context manager that closes its backend."""

    def __init__(
        self,
        backend: Backend,
        preprocessing: PreprocessingSpec,
        postprocessing: Postprocessing,
        classes: Sequence[str],
    ) -> None:
        """Put the parts together.

        Args:
            backend: Runs the tensors.
            preprocessing: From image to input.
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
            format: `onnx` or `torchscript`; None takes onnx, or the first there is.
            threads: Intra-operator threads; 0 leaves the library's own choice.
            device: `cpu`; for onnx also `cuda`.

        Raises:
            ArtifactError: The bundle is incomplete, altered or of an unknown version.
            ConfigError: It lacks the format, or the format does not run on the device.
        """
        bundle = Bundle.open(folder)
        manifest = bundle.manifest
        backend = bundle.backend(format, threads=threads, device=device)
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
        self, images: Sequence[np.ndarray], *, confidence_threshold: float | None = None, batch_size: int = 8
    ) -> list[Prediction]:
        """Look at images.

        Args:
            images: Each (H, W, 3) uint8 RGB, of any size.
            confidence_threshold: For detections, in place of the spec's own, in [0, 1].
            batch_size: Most images per call of the backend.

        Returns:
            One prediction an image, in order.

        Raises:
            ShapeError: An image is not (H, W, 3) uint8, or the model's output does not fit its specs.
        """
        predictions: list[Prediction] = []
        for start in range(0, len(images), batch_size):
            output, placements = self.respond(images[start : start + batch_size])
            predictions.extend(self.interpret(output, placements, confidence_threshold=confidence_threshold))
        return predictions

    def respond(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Placement]]:
        """Return the raw output for a batch of images, and where each lies in the input.

        Raises:
            ShapeError: An image is not (H, W, 3) uint8, or the output does not fit the classes.
        """
        batch, placements = self.preprocessing.apply_all(list(images))
        output = self.backend.run(batch)
        self._check(output, len(batch))
        return output, placements

    def interpret(
        self, output: np.ndarray, placements: list[Placement], *, confidence_threshold: float | None = None
    ) -> list[Prediction]:
        """Turn the raw output of a batch into predictions, in pixels of each source image.

        Raises:
            ShapeError: The output does not fit the spec.
        """
        if isinstance(self.postprocessing, DetectionPostprocessing):
            found = self.postprocessing.apply(output, placements, confidence_threshold=confidence_threshold)
            return list(found)
        return list(self.postprocessing.apply(output, placements))

    def _check(self, output: np.ndarray, count: int) -> None:
        classes = len(self.classes)
        expected: tuple[int | None, ...]
        if not isinstance(self.postprocessing, DetectionPostprocessing):
            expected = (count, classes)
        elif self.postprocessing.layout == "yolo":
            expected = (count, 4 + classes, None)
        else:
            expected = (count, None, 6)
        fits = len(expected) == output.ndim and all(
            want is None or want == got for want, got in zip(expected, output.shape, strict=True)
        )
        if not fits:
            shape = ", ".join("any" if size is None else str(size) for size in expected)
            raise ShapeError(
                f"output of {self.backend.name}: expected ({shape}) for {classes} classes, got {output.shape}; the "
                "model does not fit its specs"
            )
