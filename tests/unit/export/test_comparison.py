"""Which differences between two answers are real, and which are ties: outputs made by hand, verdicts known before."""

from typing import Any

import numpy as np
import pytest

from visionyard.errors import NotANumberError, ParityError
from visionyard.export.comparison import Comparison, Response, compare
from visionyard.inference import Predictor
from visionyard.transforms import ClassificationPostprocessing, DetectionPostprocessing, Placement, PreprocessingSpec

TOLERANCE = 0.001
PLACEMENT = Placement((0.5, 0.5), (0.0, 0.0), (200, 200), (100, 100))  # 100 px of input, two source pixels each
SPEC = PreprocessingSpec(resize="letterbox", size_hw=(100, 100), interpolation="bilinear")


class _Named:
    name = "onnx"


def _response(output: np.ndarray, post: Any, class_count: int) -> Response:
    predictor = Predictor(_Named(), SPEC, post, [str(index) for index in range(class_count)])  # type: ignore[arg-type]
    return Response(predictor, output.astype(np.float32), PLACEMENT)


def _yolo(*rows: tuple[float, ...], **spec: Any) -> Response:
    """Rows are cx, cy, w, h in input pixels, then the score of each class."""
    output = np.array(rows, np.float64).T
    return _response(output, DetectionPostprocessing(iou_threshold=0.5, **spec), len(rows[0]) - 4)


def _end2end(*rows: tuple[float, ...]) -> Response:
    """Rows are xyxy in input pixels, score, class."""
    return _response(np.array(rows, np.float64), DetectionPostprocessing(layout="end2end"), 2)


def _verdict(found: Comparison) -> tuple[int, int, int, int]:
    return found.compared, found.missing, found.extra, found.tied


FAR = (80, 80, 10, 10, 0.8, 0.0)


@pytest.mark.parametrize(
    ("reference", "candidate", "verdict"),
    [
        pytest.param(
            _yolo((20, 20, 10, 10, 0.9, 0.0), FAR), _yolo((20, 20, 10, 10, 0.9, 0), FAR), (2, 0, 0, 0), id="same"
        ),
        pytest.param(
            # 10x10 against 10x10 moved by 0.04: overlap 9.96 / 10.04 = 0.992.
            _yolo((20, 20, 10, 10, 0.9, 0.0)),
            _yolo((20.04, 20, 10, 10, 0.9, 0.0)),
            (1, 0, 0, 0),
            id="within_the_overlap",
        ),
        pytest.param(
            # Moved by 0.06: 9.94 / 10.06 = 0.988.
            _yolo((20, 20, 10, 10, 0.9, 0.0)),
            _yolo((20.06, 20, 10, 10, 0.9, 0.0)),
            (0, 1, 1, 0),
            id="beyond_the_overlap",
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.9, 0.0), FAR),
            _yolo((20, 20, 10, 10, 0.0, 0.9), FAR),
            (1, 1, 1, 0),
            id="other_class",
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.9, 0.0), FAR), _yolo((20, 20, 10, 10, 0.0, 0.0), FAR), (1, 1, 0, 0), id="missing"
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.0, 0.0), FAR), _yolo((20, 20, 10, 10, 0.9, 0.0), FAR), (1, 0, 1, 0), id="extra"
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.0502, 0.0)),
            _yolo((20, 20, 10, 10, 0.0497, 0.0)),
            (1, 0, 0, 0),
            id="below_the_threshold",
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.0497, 0.0)),
            _yolo((20, 20, 10, 10, 0.0502, 0.0)),
            (0, 0, 0, 0),
            id="above_the_threshold",
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.06, 0.0)),
            _yolo((20, 20, 10, 10, 0.04, 0.0)),
            (0, 1, 0, 0),
            id="far_below_the_threshold",
        ),
        pytest.param(
            # Two boxes of nearly the same score overlap by 0.6: each side keeps another one.
            _yolo((20, 20, 10, 10, 0.9, 0.0), (22.5, 20, 10, 10, 0.89999, 0.0)),
            _yolo((20, 20, 10, 10, 0.89999, 0.0), (22.5, 20, 10, 10, 0.9, 0.0)),
            (0, 0, 0, 2),
            id="tie_of_scores",
        ),
        pytest.param(
            # The tie frees a third box on one side: it overlaps the second by 0.6, the first by 0.33.
            _yolo((20, 20, 10, 10, 0.9, 0.0), (22.5, 20, 10, 10, 0.89999, 0.0), (25, 20, 10, 10, 0.5, 0.0)),
            _yolo((20, 20, 10, 10, 0.89999, 0.0), (22.5, 20, 10, 10, 0.9, 0.0), (25, 20, 10, 10, 0.5, 0.0)),
            (0, 0, 0, 3),
            id="tie_that_frees_a_third",
        ),
        pytest.param(
            # Overlap of 10x10 boxes 10/3 apart: exactly one half, the threshold; a hair less keeps both.
            _yolo((20, 20, 10, 10, 0.9, 0.0), (20 + 10 / 3 + 0.001, 20, 10, 10, 0.6, 0.0)),
            _yolo((20, 20, 10, 10, 0.9, 0.0), (20 + 10 / 3 - 0.001, 20, 10, 10, 0.6, 0.0)),
            (1, 0, 0, 1),
            id="tie_of_overlap",
        ),
        pytest.param(
            # Suppressed by a box that is clearly surer and that the trained model lacks: no tie but an extra box; the
            # freed one has an explanation, the intruder has none.
            _yolo((20, 20, 10, 10, 0.6, 0.0), (22.5, 20, 10, 10, 0.1, 0.0)),
            _yolo((20, 20, 10, 10, 0.6, 0.0), (22.5, 20, 10, 10, 0.9, 0.0)),
            (0, 0, 1, 1),
            id="intruder",
        ),
        pytest.param(
            _yolo((2, 120, 10, 10, 0.9, 0.0)),
            _yolo((2, 120.003, 10, 10, 0.9, 0.0)),
            (1, 0, 0, 0),
            id="cut_to_nothing_by_the_edge",
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.9, 0.0), (50, 50, 10, 10, 0.5, 0.0), max_detections=1),
            _yolo((20, 20, 10, 10, 0.9, 0.0), (50, 50, 10, 10, 0.5, 0.0), max_detections=1),
            (1, 0, 0, 0),
            id="most_kept",
        ),
        pytest.param(
            _yolo((20, 20, 10, 10, 0.7, 0.0), (50, 50, 10, 10, 0.6999, 0.0), max_detections=1),
            _yolo((20, 20, 10, 10, 0.6999, 0.0), (50, 50, 10, 10, 0.7, 0.0), max_detections=1),
            (0, 0, 0, 2),
            id="tie_for_the_last_place",
        ),
        pytest.param(
            _end2end((10, 10, 20, 20, 0.9, 1), (50, 50, 70, 70, 0.5, 0)),
            _end2end((50, 50, 70, 70, 0.5, 0), (10, 10, 20, 20, 0.9, 1)),
            (2, 0, 0, 0),
            id="end2end_in_another_order",
        ),
        pytest.param(
            _end2end((10, 10, 20, 20, 0.9, 1), (50, 50, 70, 70, 0.5, 0)),
            _end2end((10, 10, 20, 20, 0.9, 1), (50, 50, 70, 72, 0.5, 0)),
            (1, 1, 1, 0),
            id="end2end_moved",
        ),
    ],
)
def test_detections_are_matched_one_to_one(
    reference: Response, candidate: Response, verdict: tuple[int, int, int, int]
) -> None:
    assert _verdict(compare(reference, candidate, TOLERANCE)) == verdict


@pytest.mark.parametrize(
    ("iou_threshold", "x", "verdict"),
    [
        pytest.param(0.3, 24.0, (1, 1, 0, 0), id="stricter"),  # the boxes overlap by 6 / 14 = 0.43
        pytest.param(0.9, 22.5, (1, 0, 1, 0), id="looser"),  # by 7.5 / 12.5 = 0.6
    ],
)
def test_another_suppression_is_no_tie(iou_threshold: float, x: float, verdict: tuple[int, int, int, int]) -> None:
    rows = ((20, 20, 10, 10, 0.9, 0.0), (x, 20, 10, 10, 0.6, 0.0))
    other = _response(np.array(rows).T, DetectionPostprocessing(iou_threshold=iou_threshold), 2)

    assert _verdict(compare(_yolo(*rows), other, TOLERANCE)) == verdict


def test_gaps_are_the_largest_seen() -> None:
    reference = _yolo((20, 20, 10, 10, 0.9, 0.01), FAR)
    candidate = _yolo((20.02, 20, 10, 10, 0.8995, 0.013), FAR)

    found = compare(reference, candidate, TOLERANCE)

    assert found.score_gap == pytest.approx(0.003, abs=1e-6)  # the class that was not chosen counts too
    assert found.box_gap_px == pytest.approx(0.02, abs=1e-5)
    assert found.iou_gap == pytest.approx(1 - 9.98 / 10.02, abs=1e-5)
    assert found.raw_gap == pytest.approx(0.02, abs=1e-5)


def test_young_models_are_compared_on_their_raw_boxes() -> None:
    found = compare(_yolo((20, 20, 10, 10, 1e-4, 0.0)), _yolo((23, 20, 10, 10, 1e-4, 0.0)), TOLERANCE)

    assert found.compared == 0
    assert found.box_gap_px == pytest.approx(3)


@pytest.mark.parametrize(
    ("candidate", "gap", "has_same_class"),
    [
        pytest.param((0.5, 0.3, 0.2), 0.0, True, id="same"),
        pytest.param((0.46, 0.34, 0.2), 0.04, True, id="other_probabilities"),
        pytest.param((0.3, 0.5, 0.2), 0.2, False, id="other_class"),
    ],
)
def test_classes_are_compared_by_probability(candidate: tuple[float, ...], gap: float, has_same_class: bool) -> None:
    post = ClassificationPostprocessing(activation="none")

    found = compare(_response(np.array((0.5, 0.3, 0.2)), post, 3), _response(np.array(candidate), post, 3), TOLERANCE)

    assert found.score_gap == pytest.approx(gap, abs=1e-6)
    assert found.has_same_class is has_same_class


def test_a_tie_of_classes_is_no_other_class() -> None:
    post = ClassificationPostprocessing(activation="none")

    found = compare(
        _response(np.array((0.4004, 0.3998, 0.1998)), post, 3),
        _response(np.array((0.3999, 0.4003, 0.1998)), post, 3),
        TOLERANCE,
    )

    assert found.has_same_class


def test_outputs_that_cannot_be_compared() -> None:
    good = _yolo((20, 20, 10, 10, 0.9, 0.0))
    with pytest.raises(ParityError, match=r"onnx: the output for one image has shape \(6, 2\), PyTorch's \(6, 1\)"):
        compare(good, _yolo((20, 20, 10, 10, 0.9, 0.0), FAR), TOLERANCE)
    with pytest.raises(ParityError, match="onnx: the output holds NaN"):
        compare(good, _yolo((20, 20, 10, 10, float("nan"), 0.0)), TOLERANCE)
    with pytest.raises(NotANumberError, match="trained model's output holds NaN"):
        compare(_yolo((20, 20, 10, 10, float("inf"), 0.0)), good, TOLERANCE)
