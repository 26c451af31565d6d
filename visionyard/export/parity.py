"""The parity certificate: proof, image by image, that every exported format answers as the trained model does.

Each format is run through the whole path from image to prediction, with the specs as a reader of the bundle gets them.
A model that finds nothing would agree with anything: when no box or class stands out, the raw output is held to the
tolerance in proportion to how much the model says at all (`signal`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from visionyard import events
from visionyard.errors import ParityError, VisionyardError
from visionyard.export.cases import Case
from visionyard.export.certificate import Certificate, FormatResult, Row
from visionyard.export.comparison import COMPARED_CONFIDENCE, Comparison, Response, compare, respond, signal_of
from visionyard.export.metric import MAIN_METRICS
from visionyard.export.tolerances import Lossy, Tolerances
from visionyard.inference import Predictor
from visionyard.transforms import Preprocessing

BATCH_COUNT = 8
# What float32 rounding through a whole network may do to a probability near 0.5, and to a score near 0.
_CLASS_NOISE = 1e-5
_SCORE_NOISE = 1e-9


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
    preprocessing: Preprocessing

    @property
    def side_px(self) -> int:
        """The longer side of the model's input; of a row, in which no boxes are found, 1."""
        return max(self.preprocessing.input_shape[1:], default=1)


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
        (response,) = respond(reference, [case.content])
        signals.append(signal_of(response))
        if len(batch) < BATCH_COUNT:
            batch.append((case, response))
        for name, candidate in candidates.items():
            (answer,) = _answers(name, candidate, [case], case.kind)
            compared[name].append((case.name, case.kind, compare(response, answer, score_tolerance)))
        events.progress(done, None, unit=reference.preprocessing.item, label="comparing formats")
    for name, candidate in candidates.items():
        answers = _answers(name, candidate, [case for case, _ in batch], "batch")
        for (case, response), answer in zip(batch, answers, strict=True):
            compared[name].append((case.name, "batch", compare(response, answer, score_tolerance)))
    return Comparisons(compared, signals, reference.preprocessing)


def _answers(name: str, candidate: Predictor, images: list[Case], kind: str) -> list[Response]:
    try:
        return respond(candidate, [case.content for case in images])
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
        box_tolerance_px = tolerances.score * seen.side_px
    formats = {}
    for name, compared in seen.compared.items():
        metric = metrics.formats[name]
        if lossy := tolerances.lossy(name):
            formats[name] = _lossy_result(name, compared, lossy, metrics, signal, seen.side_px)
            continue
        rows = tuple(
            Row(image, kind, comparison, _problems(comparison, score_tolerance, box_tolerance_px))
            for image, kind, comparison in compared
        )
        formats[name] = FormatResult(rows, metric, _metric_problems(metrics, metric, tolerances.metric))
    item = seen.preprocessing.item
    return Certificate(tolerances, signal, score_tolerance, metrics.name, metrics.reference, formats, item)


def _lossy_result(
    name: str,
    compared: list[tuple[str, str, Comparison]],
    lossy: Lossy,
    metrics: Metrics,
    signal: float,
    size_px: int,
) -> FormatResult:
    rows = tuple(
        Row(image, kind, comparison, _lossy_problems(comparison, lossy, size_px), is_judged=lossy.score is not None)
        for image, kind, comparison in compared
    )
    metric = metrics.formats[name]
    problems = list(_metric_problems(metrics, metric, lossy.metric))
    if signal < COMPARED_CONFIDENCE:
        # Nothing comes out of such a model that could get lost, whatever was done to it.
        problems.append(
            f"the trained model says next to nothing (at most {signal:.3g}), which proves nothing; train it longer"
        )
    if lossy.score is None and (metric is None or metrics.reference is None):
        problems.append(f"{metrics.name} cannot be measured: the test split has no labels")
    if problems:
        budget = ", or raise export.int8_metric_tolerance" if lossy.score is None else ""
        problems.append(f"leave {name} out of export.formats{budget}")
    return FormatResult(rows, metric, tuple(problems))


def _lossy_problems(comparison: Comparison, lossy: Lossy, size_px: int) -> tuple[str, ...]:
    problems = []
    if lossy.score is not None and comparison.score_gap > lossy.score:
        problems.append(f"score differs by {comparison.score_gap:.3g}, allowed {lossy.score:.3g}")
    box_gap_px = comparison.box_gap_px
    if lossy.box is not None and box_gap_px is not None and box_gap_px > lossy.box * size_px:
        problems.append(f"raw boxes differ by {box_gap_px:.3g} px, allowed {lossy.box * size_px:.3g}")
    return tuple(problems)


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
