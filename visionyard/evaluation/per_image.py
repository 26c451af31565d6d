"""The result of every test image: a row of `per_image.parquet`, read by the report and by comparisons of models.

| column | type | meaning |
| --- | --- | --- |
| key, group, source, timestamp_s | | as in the dataset version's index |
| width, height | int32, null for rows of a table | pixels |
| truth_class_ids | list<int32> | of the true boxes in order, or the one class |
| truth_boxes | list<double>, null for classification | xyxy after xyxy, pixels |
| class_ids, confidence | list<int32>, list<float> | detections down to `DETECTION_FLOOR`; or all classes |
| boxes | list<double>, null for classification | xyxy after xyxy, pixels |
| is_right | bool | every true box found and nothing else; or the most probable class is the true one |
| score | float, null | mean confidence of the detections at the threshold; or the highest probability |
| mean_iou | double, null | mean overlap over the true boxes, 0 for a missed one |
| right_count, false_count, missed_count | int32 | tp, fp, fn at the thresholds; of a classification each 0 or 1 |

Null are `score` without detections at the threshold, and `mean_iou` without true boxes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from visionyard.data.dataset import Example
from visionyard.errors import ArtifactError
from visionyard.evaluation.matching import TrueBoxes, above, match_boxes
from visionyard.transforms import Classification, Detections

PER_IMAGE = "per_image.parquet"
# Lower than any threshold in use: average precision needs the whole ranking.
DETECTION_FLOOR = 0.001


@dataclass(frozen=True)
class ImageResult:
    """One row; the attributes are the columns above."""

    key: str
    group: str
    source: str
    timestamp_s: float | None
    width: int | None
    height: int | None
    truth_class_ids: list[int]
    truth_boxes: list[float] | None
    class_ids: list[int]
    confidence: list[float]
    boxes: list[float] | None
    is_right: bool
    score: float | None
    mean_iou: float | None
    right_count: int
    false_count: int
    missed_count: int

    @property
    def truth(self) -> TrueBoxes:
        """The true boxes; without boxes for classification."""
        return TrueBoxes(_corners(self.truth_boxes), np.asarray(self.truth_class_ids, np.int64))

    @property
    def probabilities(self) -> np.ndarray:
        """(C,) float32 probabilities of the classes; for classification only."""
        return np.asarray(self.confidence, np.float32)

    @property
    def detections(self) -> Detections:
        """All detections, most confident first; for detection only."""
        return Detections(
            _corners(self.boxes), np.asarray(self.class_ids, np.int64), np.asarray(self.confidence, np.float32)
        )


def detection_result(
    sample: Example, found: Detections, *, confidence_threshold: float, iou_threshold: float
) -> ImageResult:
    """Judge the detections of one image.

    Args:
        sample: The image with its true boxes.
        found: All detections of it.
        confidence_threshold: Those below do not count for the judgement.
        iou_threshold: Least overlap of a match.
    """
    truth = TrueBoxes(sample.xyxy, sample.class_ids)
    shown = above(found, confidence_threshold)
    matches = match_boxes(truth, shown, iou_threshold)
    right = int(matches.is_right.sum())
    return ImageResult(
        **_of_sample(sample),
        truth_boxes=sample.xyxy.ravel().tolist(),
        class_ids=found.class_ids.tolist(),
        confidence=found.confidence.tolist(),
        boxes=found.xyxy.astype(np.float64).ravel().tolist(),
        is_right=right == len(truth) == len(shown),
        score=float(shown.confidence.mean()) if len(shown) else None,
        mean_iou=float(matches.iou[matches.is_right].sum() / len(truth)) if len(truth) else None,
        right_count=right,
        false_count=len(shown) - right,
        missed_count=len(truth) - right,
    )


def classification_result(sample: Example, found: Classification) -> ImageResult:
    """Judge the predicted class of one labelled image."""
    is_right = found.class_id == int(sample.class_ids[0])
    return ImageResult(
        **_of_sample(sample),
        truth_boxes=None,
        class_ids=list(range(len(found.probabilities))),
        confidence=found.probabilities.tolist(),
        boxes=None,
        is_right=is_right,
        score=found.confidence,
        mean_iou=None,
        right_count=int(is_right),
        false_count=int(not is_right),
        missed_count=int(not is_right),
    )


def _of_sample(sample: Example) -> dict[str, Any]:
    names = ("key", "group", "source", "timestamp_s", "width", "height")
    return {**{name: getattr(sample, name) for name in names}, "truth_class_ids": sample.class_ids.tolist()}


def _corners(boxes: Sequence[float] | None) -> np.ndarray:
    return np.asarray(boxes if boxes is not None else [], np.float64).reshape(-1, 4)


class ResultWriter:
    """Writes rows batch by batch, so that memory does not grow with them; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file for writing."""
        import pyarrow.parquet

        self._schema = _schema()
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, results: Sequence[ImageResult]) -> None:
        """Append rows."""
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist([asdict(one) for one in results], schema=self._schema))


def read_results(folder: Path) -> Iterator[ImageResult]:
    """Yield the rows of an evaluation folder in key order.

    Raises:
        ArtifactError: The folder has no per-image results.
    """
    import pyarrow.parquet

    path = folder / PER_IMAGE
    if not path.exists():
        raise ArtifactError(f"{path}: the per-image results are missing; run validate again")
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield ImageResult(**row)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.string()),
            ("group", pa.string()),
            ("source", pa.string()),
            ("timestamp_s", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("truth_class_ids", pa.list_(pa.int32())),
            ("truth_boxes", pa.list_(pa.float64())),
            ("class_ids", pa.list_(pa.int32())),
            ("confidence", pa.list_(pa.float32())),
            ("boxes", pa.list_(pa.float64())),
            ("is_right", pa.bool_()),
            ("score", pa.float32()),
            ("mean_iou", pa.float64()),
            ("right_count", pa.int32()),
            ("false_count", pa.int32()),
            ("missed_count", pa.int32()),
        ]
    )
