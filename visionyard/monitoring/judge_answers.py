"""From predictions to what the judge looks at: an answer in short, and how much two predictions agree."""

import numpy as np

from visionyard.geometry import iou_matrix
from visionyard.monitoring.judge import Answer
from visionyard.transforms import Classification, Detections
from visionyard.transforms.postprocessing import Prediction

IOU_THRESHOLD = 0.5


def answer_of(prediction: Prediction, *, latency_s: float) -> Answer:
    """Return what the judge keeps of an answer that came.

    Args:
        prediction: Of one image. Of boxes the surest one counts: a model that also finds more uncertain ones is not
            less sure of itself.
        latency_s: From request to answer, at least 0.

    Returns:
        The answer; its confidence is NaN, hence a failure to the judge, when any confidence of the prediction is.
    """
    values = prediction.confidence if isinstance(prediction, Detections) else prediction.probabilities
    if not len(values):
        return Answer(latency_s=latency_s)
    best = int(np.argmax(values))
    class_id = int(prediction.class_ids[best]) if isinstance(prediction, Detections) else best
    # NaN is the largest to argmax and max alike.
    return Answer(latency_s=latency_s, confidence=float(np.max(values)), class_id=class_id)


def agreement(champion: Prediction, canary: Prediction) -> float:
    """Return how much two predictions for one image are the same.

    Classification: 1 for the same class, else 0. Detection: twice the number of boxes that have a partner, over the
    number of all boxes (the F1 of either held against the other); 1 when neither found anything. Partners are of the
    same class and overlap by an IoU of at least 0.5; each box has at most one, the largest overlaps first.

    Raises:
        TypeError: The predictions are of different kinds.
    """
    if isinstance(champion, Classification) and isinstance(canary, Classification):
        return float(champion.class_id == canary.class_id)
    if isinstance(champion, Detections) and isinstance(canary, Detections):
        total = len(champion) + len(canary)
        return 2 * _partner_count(champion, canary) / total if total else 1.0
    raise TypeError(f"expected two predictions of one kind, got {type(champion).__name__} and {type(canary).__name__}")


def _partner_count(first: Detections, second: Detections) -> int:
    overlap = iou_matrix(first.xyxy, second.xyxy) * (first.class_ids[:, None] == second.class_ids[None, :])
    rows, columns = np.nonzero(overlap >= IOU_THRESHOLD)
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    count = 0
    for pair in np.argsort(-overlap[rows, columns], kind="stable"):
        row, column = int(rows[pair]), int(columns[pair])
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            count += 1
    return count
