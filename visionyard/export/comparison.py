"""How far one exported model's answer about one image is from the trained model's.

Detections are matched one to one after suppression. Three things look like a difference and are none: a box whose score
lies within the tolerance of the threshold, a box that suppression decided the other way on a tie, and a box beyond the
most that are kept. Each is checked for, never assumed (`_is_tie`).
"""

from dataclasses import dataclass

import numpy as np

from visionyard.errors import NotANumberError, ParityError
from visionyard.geometry import iou_matrix
from visionyard.inference import Predictor
from visionyard.transforms import Content, DetectionPostprocessing, Detections, Placement

# The overlap that the certificate promises.
BOX_IOU = 0.99
# Low enough that a young model is compared on many boxes, high enough that they are not its noise.
COMPARED_CONFIDENCE = 0.05
# The most confident raw boxes of an image whose places are compared, found or not.
RAW_BOX_COUNT = 100
# Slivers that the image's edge leaves of a box have no meaningful overlap: sides this close are the same, input pixels.
_SAME_SIDE_PX = 0.01
# Two boxes that each moved by BOX_IOU change their overlap by about twice the rest.
_TIE_IOU = 2 * (1 - BOX_IOU)


@dataclass(frozen=True)
class Response:
    """What a predictor says of one image.

    Attributes:
        predictor: Who says it.
        output: Raw output without the batch axis.
        placement: Where the image lies in the input.
    """

    predictor: Predictor
    output: np.ndarray
    placement: Placement

    def detections(self, threshold: float) -> Detections:
        """Return the boxes from a confidence on, after suppression."""
        return self._apply(_detection_spec(self), threshold)

    def candidates(self, threshold: float) -> Detections:
        """Return the boxes from a confidence on, before suppression."""
        spec = _detection_spec(self).model_copy(update={"iou_threshold": 1.0, "max_detections": 1 << 30})
        return self._apply(spec, threshold)

    def probabilities(self) -> np.ndarray:
        """Return the (C,) probabilities of a classification."""
        (found,) = self.predictor.interpret([self.output[None]], [self.placement])
        return np.asarray(found.probabilities)  # type: ignore[union-attr]

    def _apply(self, spec: DetectionPostprocessing, threshold: float) -> Detections:
        return spec.apply([self.output[None]], [self.placement], confidence_threshold=max(0.0, threshold))[0]


@dataclass(frozen=True)
class Comparison:
    """The differences on one image.

    Attributes:
        compared: Boxes matched, or 1 for a classification.
        missing: Boxes of the trained model that the exported one lacks.
        extra: Boxes of the exported model that the trained one lacks.
        tied: Boxes that differ by a tie in suppression only.
        iou_gap: 1 - the smallest overlap of a matched pair; None without one.
        score_gap: Largest difference of a class score or probability, in all raw candidates and all matched pairs.
        box_gap_px: Largest difference of a side among the most confident raw boxes, input pixels; None for a class.
        raw_gap: Largest difference in the raw output.
        has_same_class: Whether the top class is the same, or a tie within the tolerance.
    """

    compared: int
    missing: int
    extra: int
    tied: int
    iou_gap: float | None
    score_gap: float
    box_gap_px: float | None
    raw_gap: float
    has_same_class: bool = True


def respond(predictor: Predictor, images: list[Content]) -> list[Response]:
    """Run a predictor on images, or rows, as one batch."""
    (output,), placements = predictor.respond(images)  # a trained model has one
    return [Response(predictor, row, placement) for row, placement in zip(output, placements, strict=True)]


def compare(reference: Response, candidate: Response, score_tolerance: float) -> Comparison:
    """Compare an exported model's answer with the trained model's.

    Args:
        reference: The trained model's.
        candidate: The exported model's, about the same image.
        score_tolerance: Largest harmless difference of a score, in [0, 1].

    Raises:
        NotANumberError: The trained model's output is not finite.
        ParityError: The outputs differ in shape, or the exported one's is not finite.
    """
    _check_outputs(reference, candidate)
    if isinstance(reference.predictor.postprocessing, DetectionPostprocessing):
        return _compare_detections(reference, candidate, score_tolerance)
    first, second = reference.probabilities(), candidate.probabilities()
    return Comparison(
        compared=1,
        missing=0,
        extra=0,
        tied=0,
        iou_gap=None,
        score_gap=_max_gap(first, second),
        box_gap_px=None,
        raw_gap=_max_gap(reference.output, candidate.output),
        has_same_class=bool(first[first.argmax()] - first[second.argmax()] <= score_tolerance),
    )


def signal_of(response: Response) -> np.ndarray:
    """Return what a model says at most of an image: (1,) its best score, or (C,) its probabilities."""
    if isinstance(response.predictor.postprocessing, DetectionPostprocessing):
        return np.array([_scores(response).max(initial=0.0)])
    return response.probabilities()


def _check_outputs(reference: Response, candidate: Response) -> None:
    name = candidate.predictor.backend.name
    if not np.isfinite(reference.output).all():
        raise NotANumberError("the trained model's output holds NaN or infinity; train again at a lower learning rate")
    if reference.output.shape != candidate.output.shape:
        raise ParityError(
            f"{name}: the output for one image has shape {candidate.output.shape}, PyTorch's {reference.output.shape}"
        )
    if not np.isfinite(candidate.output).all():
        raise ParityError(f"{name}: the output holds NaN or infinity, PyTorch's does not")


def _compare_detections(reference: Response, candidate: Response, tolerance: float) -> Comparison:
    threshold = min(COMPARED_CONFIDENCE, _detection_spec(reference).confidence_threshold)
    first, second = reference.detections(threshold), candidate.detections(threshold)
    # The other side is asked for a little more, so that a score beside the threshold finds its partner.
    wide_first, wide_second = reference.detections(threshold - tolerance), candidate.detections(threshold - tolerance)
    pairs, overlaps = match(first, wide_second, reference.placement)
    back_pairs, back_overlaps = match(second, wide_first, reference.placement)
    missing, tied = _unmatched(first, pairs, candidate, reference, tolerance)
    extra, back_tied = _unmatched(second, back_pairs, reference, reference, tolerance)
    all_overlaps = np.concatenate([overlaps, back_overlaps])
    score_gaps = [
        _pair_gaps(first, wide_second, pairs),
        _pair_gaps(second, wide_first, back_pairs),
        np.array([_raw_score_gap(reference, candidate)]),
    ]
    return Comparison(
        compared=len(pairs),
        missing=missing,
        extra=extra,
        tied=tied + back_tied,
        iou_gap=float(1 - all_overlaps.min()) if all_overlaps.size else None,
        score_gap=float(np.concatenate(score_gaps).max()),
        box_gap_px=_raw_box_gap(reference, candidate),
        raw_gap=_max_gap(reference.output, candidate.output),
    )


def match(first: Detections, second: Detections, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Pair the boxes of two sets of one image one to one, by class and overlap of at least `BOX_IOU`.

    Args:
        first: Boxes, most confident first; they choose in this order.
        second: Boxes to choose from.
        placement: Of the image, to tell how small an input pixel is in it.

    Returns:
        (K, 2) int64 positions in both sets, and (K,) overlaps.
    """
    overlaps = _overlaps(first, second, placement)
    overlaps[first.class_ids[:, None] != second.class_ids[None, :]] = 0
    pairs, found = [], []
    for position in range(len(first)):
        partner = int(overlaps[position].argmax()) if len(second) else 0
        if len(second) and overlaps[position, partner] >= BOX_IOU:
            pairs.append((position, partner))
            found.append(overlaps[position, partner])
            overlaps[:, partner] = 0
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(found, dtype=np.float64)


def _overlaps(first: Detections, second: Detections, placement: Placement) -> np.ndarray:
    sides = np.abs(first.xyxy[:, None] - second.xyxy[None]) * np.array(placement.scale_xy * 2)
    is_same = (sides <= _SAME_SIDE_PX).all(axis=2)
    return np.where(is_same, 1.0, iou_matrix(first.xyxy, second.xyxy))


def _unmatched(
    boxes: Detections, pairs: np.ndarray, other: Response, reference: Response, tolerance: float
) -> tuple[int, int]:
    """Return how many boxes lack a partner for a real reason, and how many by a tie."""
    lonely = np.setdiff1d(np.arange(len(boxes)), pairs[:, 0])
    if not lonely.size:
        return 0, 0
    lowest = float(boxes.confidence[lonely].min()) - tolerance
    candidates, kept = other.candidates(lowest), other.detections(lowest)
    spec = _detection_spec(reference)
    tied = 0
    for position in lonely:
        box, surer = _subset(boxes, [int(position)]), _subset(boxes, list(range(position)))
        # A box beside a surer one that should have taken it away is the work of another suppression.
        if not _is_crowded(box, surer, spec, reference.placement):
            tied += _is_tie(box, candidates, kept, spec, reference.placement, tolerance)
    return len(lonely) - tied, tied


def _is_crowded(box: Detections, surer: Detections, spec: DetectionPostprocessing, placement: Placement) -> bool:
    overlaps = _overlaps(box, surer, placement)[0]
    return bool(((overlaps > spec.iou_threshold + _TIE_IOU) & (surer.class_ids == box.class_ids[0])).any())


def _is_tie(
    box: Detections,
    candidates: Detections,
    kept: Detections,
    spec: DetectionPostprocessing,
    placement: Placement,
    tolerance: float,
) -> bool:
    """Return whether the other model has this very box too, and only suppression took it away, on a tie.

    It has the box when one before suppression fits by class, overlap and score. Suppression took it on a tie when a
    kept box, about as confident, overlaps it by about the threshold or more: this side kept the box, so that neighbour
    is either right at the threshold or itself a box on which both models tie.
    """
    same = _overlaps(box, candidates, placement)[0] >= BOX_IOU
    same &= candidates.class_ids == box.class_ids[0]
    same &= np.abs(candidates.confidence - box.confidence[0]) <= tolerance
    if not same.any():
        return False
    is_as_sure = kept.confidence >= box.confidence[0] - tolerance
    if len(kept) >= spec.max_detections and bool(is_as_sure.all()):
        return True
    is_near = _overlaps(box, kept, placement)[0] >= spec.iou_threshold - _TIE_IOU
    return bool((is_near & is_as_sure).any())


def _pair_gaps(first: Detections, second: Detections, pairs: np.ndarray) -> np.ndarray:
    gaps: np.ndarray = np.abs(first.confidence[pairs[:, 0]].astype(np.float64) - second.confidence[pairs[:, 1]])
    return gaps


def _raw_score_gap(reference: Response, candidate: Response) -> float:
    first, second = _scores(reference), _scores(candidate)
    if _detection_spec(reference).layout == "end2end":  # its rows are in order of score, which a tie turns round
        return _max_gap(np.sort(first), np.sort(second))
    return _max_gap(first, second)


def _raw_box_gap(reference: Response, candidate: Response) -> float:
    first, second = reference.output, candidate.output
    if _detection_spec(reference).layout == "yolo":
        chosen = np.argsort(-first[4:].max(axis=0), kind="stable")[:RAW_BOX_COUNT]
        return _max_gap(first[:4, chosen], second[:4, chosen])
    rows = first[np.argsort(-first[:, 4], kind="stable")[:RAW_BOX_COUNT], :4].astype(np.float64)
    gaps = np.abs(rows[:, None] - second[None, :, :4]).max(axis=2)
    return float(gaps.min(axis=1).max(initial=0.0))


def _scores(response: Response) -> np.ndarray:
    is_yolo = _detection_spec(response).layout == "yolo"
    return response.output[4:] if is_yolo else response.output[:, 4]


def _detection_spec(response: Response) -> DetectionPostprocessing:
    spec = response.predictor.postprocessing
    assert isinstance(spec, DetectionPostprocessing)  # the callers have branched on it
    return spec


def _subset(boxes: Detections, positions: list[int]) -> Detections:
    return Detections(boxes.xyxy[positions], boxes.class_ids[positions], boxes.confidence[positions])


def _max_gap(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(np.float64) - second).max(initial=0.0))
