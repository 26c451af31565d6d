"""Whether two models see the same in an image."""

from collections.abc import Sequence

import numpy as np

from visionyard.geometry.boxes import iou_matrix
from visionyard.monitoring.sampling import NEAR_THRESHOLD
from visionyard.transforms import Classification, Detections, Prediction

_SAME_OBJECT_IOU = 0.5


def disagree(
    first: Prediction,
    second: Prediction,
    *,
    first_classes: Sequence[str],
    second_classes: Sequence[str],
    first_threshold: float,
    second_threshold: float,
) -> bool:
    """Return whether two models answered otherwise; classes are compared by name.

    Classifications differ when their best classes do. Detections differ when one model is sure of an object (its
    confidence at least 0.1 above the model's threshold) where the other has none of that class that overlaps it by
    half: a box that only just crosses a threshold is no disagreement. Answers of two kinds always differ.

    Args:
        first: An answer.
        second: The other model's answer to the same image.
        first_classes: Names in the order of their ids.
        second_classes: The other's.
        first_threshold: Confidence from which the model tells a box, in [0, 1].
        second_threshold: The other's.
    """
    if isinstance(first, Classification) and isinstance(second, Classification):
        best = [
            names[int(np.argmax(answer.probabilities))]
            for answer, names in ((first, first_classes), (second, second_classes))
        ]
        return best[0] != best[1]
    if isinstance(first, Detections) and isinstance(second, Detections):
        same = iou_matrix(first.xyxy, second.xyxy) >= _SAME_OBJECT_IOU
        first_names = np.array([first_classes[each] for each in first.class_ids], dtype=object)
        second_names = np.array([second_classes[each] for each in second.class_ids], dtype=object)
        same &= (first_names[:, None] == second_names[None, :]).astype(bool)
        is_missed = (first.confidence >= first_threshold + NEAR_THRESHOLD) & ~same.any(axis=1)
        is_extra = (second.confidence >= second_threshold + NEAR_THRESHOLD) & ~same.any(axis=0)
        return bool(is_missed.any() or is_extra.any())
    return True
