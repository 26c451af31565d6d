"""The postprocessing spec: how a model's output becomes boxes or a class; part of the bundle, run by every consumer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from visionyard.geometry import Mask, non_max_suppression
from visionyard.transforms.layouts import LAYOUTS, Layout
from visionyard.transforms.output_shapes import check_shapes
from visionyard.transforms.preprocessing import Placement

# More candidates than this before suppression carry no signal, and the time grows with them.
_MAX_CANDIDATES = 30_000

LayoutName = Literal["yolo", "end2end", "yolov5", "yolox", "ssd", "yolo_seg", "yolo_pose"]


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, most confident first.

    Attributes:
        xyxy: (N, 4) float64, pixels of the source image.
        class_ids: (N,) int64.
        confidence: (N,) float32 in [0, 1].
        masks: One an object, of the size of the source image; None for a model that gives none.
        keypoints: (N, K, 3) float64: x, y in pixels of the source image, confidence; None for a model without.
    """

    xyxy: np.ndarray
    class_ids: np.ndarray
    confidence: np.ndarray
    masks: Sequence[Mask] | None = None
    keypoints: np.ndarray | None = None

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
    """From raw detector output to boxes; `layout` tells what the model writes, see `visionyard.transforms.layouts`.

    The best class of a candidate counts; then overlapping boxes of a class are suppressed, unless the model has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["detection"] = "detection"
    layout: LayoutName = "yolo"
    confidence_threshold: float = Field(0.25, ge=0, le=1)
    iou_threshold: float = Field(0.7, gt=0, le=1)
    max_detections: int = Field(300, ge=1)
    keypoint_count: int = Field(17, ge=1, description="For layout yolo_pose: points of an object; COCO's people: 17.")

    @property
    def convention(self) -> Layout:
        """What reads the model's outputs."""
        return LAYOUTS[self.layout](self.keypoint_count)

    @property
    def outputs(self) -> dict[str, tuple[str, ...]]:
        """The model's outputs in the order `apply` takes them, each with its shape in letters: B images, C classes."""
        return self.convention.outputs

    @property
    def has_masks(self) -> bool:
        """Whether each object has a mask."""
        return self.layout == "yolo_seg"

    @property
    def has_keypoints(self) -> bool:
        """Whether each object has `keypoint_count` points."""
        return self.layout == "yolo_pose"

    def check(self, outputs: Sequence[np.ndarray], *, count: int, class_count: int | None = None) -> None:
        """Refuse outputs that do not fit the layout.

        Args:
            outputs: Of one batch.
            count: Images in the batch.
            class_count: Classes there should be; None when not known.

        Raises:
            ShapeError: Another number of outputs, or another shape; gives both.
        """
        known = {"B": count, "K": self.keypoint_count}
        if class_count is not None:
            known["C"] = class_count
        check_shapes(self.outputs, outputs, known=known, convention=f"layout {self.layout}")

    def apply(
        self,
        outputs: Sequence[np.ndarray],
        placements: Sequence[Placement],
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Detections]:
        """Turn a batch of raw output into detections, in pixels of each source image.

        Args:
            outputs: In the layout's order, float32.
            placements: One an image, from the preprocessing.
            confidence_threshold: In place of the spec's own, in [0, 1].
            iou_threshold: In place of the spec's own, in (0, 1]; a model that suppresses itself has its own.
            max_detections: In place of the spec's own, 1 or more.

        Raises:
            ShapeError: The outputs do not fit the layout, or another number of images than `placements`.
        """
        self.check(outputs, count=len(placements))
        confidence_threshold = self.confidence_threshold if confidence_threshold is None else confidence_threshold
        iou_threshold = self.iou_threshold if iou_threshold is None else iou_threshold
        max_detections = self.max_detections if max_detections is None else max_detections
        return [
            self._decode(
                [output[position] for output in outputs], placement, confidence_threshold, iou_threshold, max_detections
            )
            for position, placement in enumerate(placements)
        ]

    def _decode(
        self,
        arrays: list[np.ndarray],
        placement: Placement,
        confidence_threshold: float,
        iou_threshold: float,
        max_detections: int,
    ) -> Detections:
        layout = self.convention
        scores = layout.confidence(arrays) if arrays[0].size else np.zeros(0, np.float32)
        chosen = np.flatnonzero(scores >= confidence_threshold)
        limit = max_detections if layout.is_suppressed else _MAX_CANDIDATES
        if layout.is_suppressed or chosen.size > limit:
            chosen = chosen[np.argsort(-scores[chosen], kind="stable")[:limit]]
        confidence, class_ids = scores[chosen], layout.class_ids(arrays, chosen)
        xyxy = layout.boxes(arrays, chosen, placement.input_wh)
        if not layout.is_suppressed:
            kept = non_max_suppression(
                xyxy, confidence, class_ids, iou_threshold=iou_threshold, max_count=max_detections
            )
            chosen, xyxy, confidence, class_ids = chosen[kept], xyxy[kept], confidence[kept], class_ids[kept]
        xyxy = placement.to_source(xyxy)
        return Detections(
            xyxy,
            class_ids,
            confidence,
            masks=layout.masks(arrays, chosen, xyxy, placement),
            keypoints=layout.keypoints(arrays, chosen, placement),
        )


class ClassificationPostprocessing(BaseModel):
    """From raw classifier output (B, C) to probabilities; `none` when the model ends with its own softmax."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classification"] = "classification"
    activation: Literal["softmax", "none"] = "softmax"

    @property
    def outputs(self) -> dict[str, tuple[str, ...]]:
        """The model's one output with its shape in letters: B images, C classes."""
        return {"scores": ("B", "C")}

    def check(self, outputs: Sequence[np.ndarray], *, count: int, class_count: int | None = None) -> None:
        """Refuse outputs that are not one (count, class_count); see `DetectionPostprocessing.check`.

        Raises:
            ShapeError: Another number of outputs, or another shape; gives both.
        """
        known = {"B": count} if class_count is None else {"B": count, "C": class_count}
        check_shapes(self.outputs, outputs, known=known, convention="classification")

    def apply(
        self,
        outputs: Sequence[np.ndarray],
        placements: Sequence[Placement],
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Classification]:
        """Turn a batch of raw output into classifications.

        Args:
            outputs: One (B, C) float32.
            placements: B of them.
            confidence_threshold: For detections; every class keeps its probability here.
            iou_threshold: For detections.
            max_detections: For detections.

        Raises:
            ShapeError: The output is not (B, C) with as many rows as `placements`.
        """
        del confidence_threshold, iou_threshold, max_detections  # one call for both tasks
        self.check(outputs, count=len(placements))
        scores = outputs[0].astype(np.float32)
        if self.activation == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        return [Classification(row) for row in scores]


Postprocessing = Annotated[DetectionPostprocessing | ClassificationPostprocessing, Field(discriminator="kind")]
