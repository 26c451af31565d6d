"""The parity certificate: proof, image by image, that every exported format answers as the trained model does.

Each format is run through the whole path from image to prediction, with the specs as a reader of the bundle gets them.
A model that finds nothing would agree with anything: when no box or class stands out, the raw output is held to the
tolerance in proportion to how much the model says at all (`signal`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from visionyard import events
from visionyard.errors import ParityError, VisionyardError
from visionyard.export.cases import Case
from visionyard.export.comparison import (
    BOX_IOU,
    COMPARED_CONFIDENCE,
    RAW_BOX_COUNT,
    Comparison,
    Response,
    compare,
    respond,
    signal_of,
)
from visionyard.export.metric import MAIN_METRICS
from visionyard.inference import Predictor
from visionyard.inference.bundle import FormatParity, ParitySummary
from visionyard.transforms import PreprocessingSpec

SCHEMA_VERSION = 1
BATCH_COUNT = 8
# What float32 rounding through a whole network may do to a probability near 0.5, and to a score near 0.
_CLASS_NOISE = 1e-5
_SCORE_NOISE = 1e-9
_TABLE_ROWS = 12


@dataclass(frozen=True)
class Tolerances:
    """How alike is alike: largest difference of a class score, and of the main metric, both in [0, 1]."""

    score: float
    metric: float


@dataclass(frozen=True)
class Row:
    """One image in one format: what was compared, and every sentence of what differed."""

    image: str
    kind: str
    comparison: Comparison
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        verdict = "differs" if self.problems else "same"
        return {
            "image": self.image,
            "kind": self.kind,
            **asdict(self.comparison),
            "verdict": verdict,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class FormatResult:
    """One format: a row an image, and the main metric on the whole test split (None when it cannot be computed)."""

    rows: tuple[Row, ...]
    metric: float | None
    problems: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Whether every image and the metric agree."""
        return not self.problems and not any(row.problems for row in self.rows)


@dataclass(frozen=True)
class Certificate:
    """The whole proof.

    Attributes:
        tolerances: As asked for.
        signal: How much the trained model says at most: its best score, or how far a probability moves between images.
        score_tolerance: The one applied: `tolerances.score`, or in proportion to the signal when that is weak.
        metric_name: Such as `map_50_95`.
        reference_metric: The trained model's; None when it cannot be computed.
        formats: By name.
    """

    tolerances: Tolerances
    signal: float
    score_tolerance: float
    metric_name: str
    reference_metric: float | None
    formats: dict[str, FormatResult]

    @property
    def is_passed(self) -> bool:
        """Whether every format agrees."""
        return all(result.is_passed for result in self.formats.values())

    @property
    def image_count(self) -> int:
        """Rows of each format."""
        return max((len(result.rows) for result in self.formats.values()), default=0)

    def metric_gap(self, result: FormatResult) -> float | None:
        """Return how far a format's metric is from the trained model's; None when there is none."""
        if result.metric is None or self.reference_metric is None:
            return None
        return abs(result.metric - self.reference_metric)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `parity.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "is_passed": self.is_passed,
            "tolerances": {**asdict(self.tolerances), "box_iou": BOX_IOU, "score_applied": self.score_tolerance},
            "compared_confidence": COMPARED_CONFIDENCE,
            "raw_box_count": RAW_BOX_COUNT,
            "signal": self.signal,
            "metric_name": self.metric_name,
            "reference_metric": self.reference_metric,
            "formats": {
                name: {
                    "is_passed": result.is_passed,
                    "metric": result.metric,
                    "metric_gap": self.metric_gap(result),
                    "problems": list(result.problems),
                    "rows": [row.to_json() for row in result.rows],
                }
                for name, result in self.formats.items()
            },
        }

    def summary(self) -> ParitySummary:
        """Return the certificate in short, for `model.json`."""
        return ParitySummary(
            is_passed=self.is_passed,
            image_count=self.image_count,
            metric_name=self.metric_name,
            reference_metric=self.reference_metric,
            score_tolerance=self.score_tolerance,
            metric_tolerance=self.tolerances.metric,
            formats={name: self._format_summary(result) for name, result in self.formats.items()},
        )

    def _format_summary(self, result: FormatResult) -> FormatParity:
        comparisons = [row.comparison for row in result.rows]
        iou_gaps = [comparison.iou_gap for comparison in comparisons if comparison.iou_gap is not None]
        return FormatParity(
            is_passed=result.is_passed,
            compared_count=sum(comparison.compared for comparison in comparisons),
            max_score_gap=max((comparison.score_gap for comparison in comparisons), default=0.0),
            max_iou_gap=max(iou_gaps, default=None),
            metric=result.metric,
            metric_gap=self.metric_gap(result),
        )

    def text(self) -> str:
        """Return a table of what differed, for a message; a line when nothing did."""
        lines = []
        for name, result in self.formats.items():
            bad = [row for row in result.rows if row.problems]
            if result.is_passed:
                lines.append(f"{name}: the same on all {len(result.rows)} images")
                continue
            lines.append(f"{name}: differs on {len(bad)} of {len(result.rows)} images")
            lines += [f"  {problem}" for problem in result.problems]
            lines += _table(bad[:_TABLE_ROWS])
            if len(bad) > _TABLE_ROWS:
                lines.append(f"  ... and {len(bad) - _TABLE_ROWS} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Metrics:
    """The main metric on the whole test split; None where it cannot be computed (a split without labels).

    Attributes:
        name: Such as `map_50_95`.
        reference: The trained model's.
        formats: Each format's.
    """

    name: str
    reference: float | None
    formats: Mapping[str, float | None]


@dataclass(frozen=True)
class Comparisons:
    """What was seen on each image, not yet judged.

    Attributes:
        compared: For each format, the image's name, its kind (`batch` where it was run among others), the differences.
        signals: What the trained model says at most of each image, see `signal_of`.
        preprocessing: The trained model's.
    """

    compared: dict[str, list[tuple[str, str, Comparison]]]
    signals: list[np.ndarray]
    preprocessing: PreprocessingSpec


def compare_formats(
    reference: Predictor, candidates: Mapping[str, Predictor], images: Iterable[Case], score_tolerance: float
) -> Comparisons:
    """Compare exported formats with the trained model on images, one by one and some of them as a batch.

    Args:
        reference: The trained model in PyTorch.
        candidates: Each format, with the specs as read back from the bundle.
        images: Taken one at a time; `BATCH_COUNT` of them are kept for the batch.
        score_tolerance: Largest harmless difference of a score.

    Raises:
        ParityError: A format cannot be run on an image, or its output has another shape or is not finite.
        NotANumberError: The trained model's output is not finite.
    """
    compared: dict[str, list[tuple[str, str, Comparison]]] = {name: [] for name in candidates}
    signals: list[np.ndarray] = []
    batch: list[tuple[Case, Response]] = []
    for done, case in enumerate(images, start=1):
        (response,) = respond(reference, [case.image])
        signals.append(signal_of(response))
        if len(batch) < BATCH_COUNT:
            batch.append((case, response))
        for name, candidate in candidates.items():
            (answer,) = _answers(name, candidate, [case], case.kind)
            compared[name].append((case.name, case.kind, compare(response, answer, score_tolerance)))
        events.progress(done, None, unit="image", label="comparing formats")
    for name, candidate in candidates.items():
        answers = _answers(name, candidate, [case for case, _ in batch], "batch")
        for (case, response), answer in zip(batch, answers, strict=True):
            compared[name].append((case.name, "batch", compare(response, answer, score_tolerance)))
    return Comparisons(compared, signals, reference.preprocessing)


def _answers(name: str, candidate: Predictor, images: list[Case], kind: str) -> list[Response]:
    try:
        return respond(candidate, [case.image for case in images])
    except VisionyardError as error:
        raise ParityError(f"{name}: fails on {images[0].name} ({kind}, batch of {len(images)}): {error}") from None


def certify(seen: Comparisons, metrics: Metrics, tolerances: Tolerances) -> Certificate:
    """Judge what was seen.

    Args:
        seen: The differences on each image, found with `tolerances.score`.
        metrics: Of the trained model and of each format.
        tolerances: How alike is alike.

    Returns:
        The certificate, passed or not.
    """
    is_detector = metrics.name == MAIN_METRICS["detection"]
    said = np.stack(seen.signals)
    signal = float(said.max() if is_detector else np.ptp(said, axis=0).max())
    score_tolerance, box_tolerance_px = tolerances.score, None
    if signal < COMPARED_CONFIDENCE:
        score_tolerance = max(_SCORE_NOISE if is_detector else _CLASS_NOISE, tolerances.score * signal)
        box_tolerance_px = tolerances.score * max(seen.preprocessing.size_hw)
    formats = {}
    for name, compared in seen.compared.items():
        rows = tuple(
            Row(image, kind, comparison, _problems(comparison, score_tolerance, box_tolerance_px))
            for image, kind, comparison in compared
        )
        metric = metrics.formats[name]
        formats[name] = FormatResult(rows, metric, _metric_problems(metrics, metric, tolerances.metric))
    return Certificate(tolerances, signal, score_tolerance, metrics.name, metrics.reference, formats)


def _problems(comparison: Comparison, score_tolerance: float, box_tolerance_px: float | None) -> tuple[str, ...]:
    problems = []
    if comparison.missing:
        problems.append(f"{comparison.missing} boxes missing")
    if comparison.extra:
        problems.append(f"{comparison.extra} boxes too many")
    if not comparison.has_same_class:
        problems.append("another top class")
    if comparison.score_gap > score_tolerance:
        problems.append(f"score differs by {comparison.score_gap:.3g}, allowed {score_tolerance:.3g}")
    box_gap_px = comparison.box_gap_px
    if box_tolerance_px is not None and box_gap_px is not None and box_gap_px > box_tolerance_px:
        problems.append(f"raw boxes differ by {box_gap_px:.3g} px, allowed {box_tolerance_px:.3g}")
    return tuple(problems)


def _metric_problems(metrics: Metrics, metric: float | None, tolerance: float) -> tuple[str, ...]:
    if metric is None or metrics.reference is None or abs(metric - metrics.reference) <= tolerance:
        return ()
    gap = abs(metric - metrics.reference)
    text = (
        f"{metrics.name} is {metric:.4f}, PyTorch's {metrics.reference:.4f}: differs by {gap:.4f}, allowed {tolerance}"
    )
    return (text,)


def _table(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    cells = [("image", "kind", "same", "missing", "extra", "IoU gap", "score gap", "what differs")]
    for row in rows:
        found = row.comparison
        iou_gap = "-" if found.iou_gap is None else f"{found.iou_gap:.2g}"
        counts = (str(found.compared), str(found.missing), str(found.extra))
        cells.append((row.image, row.kind, *counts, iou_gap, f"{found.score_gap:.2g}", "; ".join(row.problems)))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells)
    return [f"  {'  '.join(line)}".rstrip() for line in padded]
