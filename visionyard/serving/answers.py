"""What a prediction gives back, and what it knows of its request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from visionyard.inference.paths import TOP_COUNT, MaskForm, prediction_to_json
from visionyard.transforms import Prediction


class Answered(Protocol):
    """What the model says of one image, or of one row of a table."""

    @property
    def prediction(self) -> Prediction:
        """Boxes, or its class."""

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return plain values; `classes` in the order of their ids."""


@dataclass(frozen=True)
class ImageAnswer:
    """What the model saw in one image.

    Attributes:
        width: Of the upright source image, pixels.
        height: Of the upright source image, pixels.
        prediction: Boxes in its pixels, or its class.
        image: (H, W, 3) uint8 RGB, only when it was asked for.
        top_k: Classes that `to_json` lists of a classification.
        masks: How `to_json` writes masks.
    """

    width: int
    height: int
    prediction: Prediction
    image: np.ndarray | None = None
    top_k: int = TOP_COUNT
    masks: MaskForm = "rle"

    def to_json(self, classes: Sequence[str], top_k: int | None = None) -> dict[str, Any]:
        """Return plain values: as `visionyard predict --json`, with the width and height of the image.

        Args:
            classes: Class names in the order of their ids.
            top_k: Classes listed of a classification; None takes what the request asked for.
        """
        top_count = self.top_k if top_k is None else top_k
        listed = prediction_to_json(self.prediction, classes, top_count=top_count, masks=self.masks)
        return {"width": self.width, "height": self.height, **listed}


@dataclass(frozen=True)
class RequestContext:
    """What watching and sampling know of a request.

    Attributes:
        request_id: As in the answer's header.
        protocol: `http` or `grpc`.
        group: The camera or scene that the images come from; empty when not told.
        is_watched: Whether drift and sampling see its images.
    """

    request_id: str = ""
    protocol: str = "http"
    group: str = ""
    is_watched: bool = True


DEFAULT_CONTEXT = RequestContext()
