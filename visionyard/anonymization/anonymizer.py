"""A detector and a way to hide what it finds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from visionyard.anonymization.hiding import hide, padded_boxes
from visionyard.errors import ArtifactError
from visionyard.inference.bundle import Bundle
from visionyard.inference.predictor import Predictor
from visionyard.transforms import Detections

# More faces than any picture of a crowd has; a detector's own limit is meant for other ends.
_MAX_REGIONS = 5000


@dataclass(frozen=True)
class AnonymizerSettings:
    """All that an anonymizer is made from; a decoder process gets it as text.

    Attributes:
        bundle: Folder of the detector.
        digest: Of the bundle.
        class_ids: What is hidden.
        confidence: Least confidence of what is hidden.
        padding: Share of a box's width and height hidden around it on each side.
        method: As in `visionyard.anonymization.hiding.hide`.
    """

    bundle: str
    digest: str
    class_ids: tuple[int, ...]
    confidence: float
    padding: float
    method: str

    def to_text(self) -> str:
        """Return the settings as one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "AnonymizerSettings":
        """Return the settings that `to_text` described."""
        values = json.loads(text)
        return cls(**{**values, "class_ids": tuple(values["class_ids"])})


class Anonymizer:
    """Hides what a detector finds; may be called from several threads at once."""

    def __init__(self, settings: AnonymizerSettings) -> None:
        """Load the detector.

        Raises:
            ArtifactError: The bundle is incomplete, or another one than it was.
        """
        bundle = Bundle.open(Path(settings.bundle))
        if bundle.digest != settings.digest:
            raise ArtifactError(
                f"{settings.bundle}: the detector changed while it was in use (SHA-256 {bundle.digest[:12]}..., "
                f"expected {settings.digest[:12]}...); run the stage again"
            )
        manifest = bundle.manifest
        self._settings = settings
        self._class_ids = np.array(settings.class_ids, np.int64)
        # One thread: decoder processes share the cores, and sums have one order, so that a picture gives the same
        # boxes each time.
        self._predictor = Predictor(
            bundle.backend("onnx", threads=1), manifest.preprocessing, manifest.postprocessing, manifest.classes
        )

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, int]:
        """Return a picture with what was found hidden, and the number of regions; see `visionyard.video.retouching`.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            ShapeError: The model's output does not fit its specs.
        """
        settings = self._settings
        (found,) = self._predictor.predict(
            [image], confidence_threshold=settings.confidence, max_detections=_MAX_REGIONS
        )
        assert isinstance(found, Detections)  # `open_anonymizing` takes detectors only
        xyxy = found.xyxy[np.isin(found.class_ids, self._class_ids)]
        if not len(xyxy):
            return image, 0
        boxes = padded_boxes(xyxy, settings.padding, width=image.shape[1], height=image.shape[0])
        return hide(image, boxes, settings.method), len(boxes)

    def close(self) -> None:
        """Give the model's memory back."""
        self._predictor.close()
