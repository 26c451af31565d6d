"""The postprocessing spec: how a model's output becomes boxes or a class; part of the bundle, run by every consumer."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from visionyard.errors import ShapeError
from visionyard.geometry import cxcywh_to_xyxy, non_max_suppression
from visionyard.transforms.preprocessing import Placement

# More candidates than this before suppression carry no signal, and the time grows with them.
_MAX_CANDIDATES = 30_000


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, most confident first.

    Attributes:
        xyxy: (N, 4) float64, pixels of the source image.
        class_ids: (N,) int64.
        confidence: (N,) float32 in [0, 1].
    """

    xyxy: np.ndarray
    class_ids: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.class_ids)


@dataclass(frozen=True)
class Classification:
    """The class of one image.

    Attributes:
        probabilities: (C,) float32, summing to 1.
    """

    probabilities: np.ndarray

    @property
    def class_id(self) -> int:
        """The most probable class; on a tie the lower id."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities.max())


Prediction = Detections | Classification


class DetectionPostprocessing(BaseModel):
    """From raw detector output to boxes.

    Layout `yolo`: (B, 4 + C, A), for each of A anchors centre x, centre y, width, height in input pixels, then C class
    scores in [0, 1]; the best class of an anchor counts, then boxes are suppressed. Layout `end2end`: (B, N, 6), each
    row xyxy in input pixels, score, class; the model itself has suppressed them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["detection"] = "detection"
    layout: Literal["yolo", "end2end"] = "yolo"
    confidence_threshold: float = Field(0.25, ge=0, le=1)
    iou_threshold: float = Field(0.7, gt=0, le=1)
    max_detections: int = Field(300, ge=1)

    def apply(
        self, output: np.ndarray, placements: list[Placement], *, confidence_threshold: float | None = None
    ) -> list[Detections]:
        """Turn a batch of raw output into detections, in pixels of each source image.

        Args:
            output: (B, 4 + C, A) or (B, N, 6) float32.
            placements: B of them, from the preprocessing.
            confidence_threshold: In place of the spec's own, in [0, 1].

        Raises:
            ShapeError: `output` has another shape, or another B than `placements`.
        """
        if output.ndim != 3 or len(output) != len(placements):
            raise ShapeError(f"output: expected ({len(placements)}, ., .), got {output.shape}")
        if output.shape[1] < 5 if self.layout == "yolo" else output.shape[2] != 6:
            expected = "(B, 4 + C, A)" if self.layout == "yolo" else "(B, N, 6)"
            raise ShapeError(f"output: expected {expected} for layout {self.layout}, got {output.shape}")
        threshold = self.confidence_threshold if confidence_threshold is None else confidence_threshold
        decode = self._decode_yolo if self.layout == "yolo" else self._decode_end2end
        return [decode(rows, placement, threshold) for rows, placement in zip(output, placements, strict=True)]

    def _decode_yolo(self, rows: np.ndarray, placement: Placement, threshold: float) -> Detections:
        scores = rows[4:]
        class_ids = scores.argmax(axis=0)
        confidence = scores.max(axis=0)
        chosen = np.flatnonzero(confidence >= threshold)
        if chosen.size > _MAX_CANDIDATES:
            chosen = chosen[np.argsort(-confidence[chosen], kind="stable")[:_MAX_CANDIDATES]]
        xyxy = cxcywh_to_xyxy(rows[:4, chosen].T.astype(np.float64))
        kept = non_max_suppression(
            xyxy,
            confidence[chosen],
            class_ids[chosen],
            iou_threshold=self.iou_threshold,
            max_count=self.max_detections,
        )
        return Detections(placement.to_source(xyxy[kept]), class_ids[chosen][kept], confidence[chosen][kept])

    def _decode_end2end(self, rows: np.ndarray, placement: Placement, threshold: float) -> Detections:
        order = np.argsort(-rows[:, 4], kind="stable")[: self.max_detections]
        order = order[rows[order, 4] >= threshold]
        return Detections(placement.to_source(rows[order, :4]), rows[order, 5].round().astype(np.int64), rows[order, 4])


class ClassificationPostprocessing(BaseModel):
    """From raw classifier output (B, C) to probabilities; `none` when the model ends with its own softmax."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classification"] = "classification"
    activation: Literal["softmax", "none"] = "softmax"

    def apply(self, output: np.ndarray, placements: list[Placement]) -> list[Classification]:
        """Turn a batch of raw output into classifications.

        Raises:
            ShapeError: `output` is not (B, C) with as many rows as `placements`.
        """
        if output.ndim != 2 or len(output) != len(placements):
            raise ShapeError(f"output: expected ({len(placements)}, classes), got {output.shape}")
        scores = output.astype(np.float32)
        if self.activation == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        return [Classification(row) for row in scores]


Postprocessing = Annotated[DetectionPostprocessing | ClassificationPostprocessing, Field(discriminator="kind")]
