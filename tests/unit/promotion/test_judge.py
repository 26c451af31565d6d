"""The judge: bounds by simulation, each gate by a table, average precision against the evaluation's own."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from visionyard.evaluation import ImageResult, TrueBoxes, detection_metrics
from visionyard.promotion.bootstrap import compare, least_groups, t_quantile
from visionyard.promotion.judge import Candidate, Gates, Judgement, judge, judge_alone
from visionyard.promotion.scores import ClassificationScores, collect_scores
from visionyard.transforms import Detections

GOOD = Candidate(metric=0.9, p95_ms=10.0, is_parity_passed=True, is_leaky=False)


def _image(group: str, number: int, truth: int, *, is_right: bool) -> ImageResult:
    return ImageResult(
        key=f"{group}-{number:03d}",
        group=group,
        source="",
        timestamp_s=None,
        width=8,
        height=8,
        truth_class_ids=[truth],
        truth_boxes=None,
        class_ids=[0, 1],
        confidence=[0.5, 0.5],
        boxes=None,
        is_right=is_right,
        score=0.5,
        mean_iou=None,
        right_count=int(is_right),
        false_count=int(not is_right),
        missed_count=int(not is_right),
    )


def _results(rights: dict[str, list[int]], *, classes: int = 2) -> list[ImageResult]:
    """Images by group, 1 for a right answer; classes in turn."""
    return [
        _image(group, number, number % classes, is_right=bool(right))
        for group, answers in rights.items()
        for number, right in enumerate(answers)
    ]


def _judged(champion: dict[str, list[int]], challenger: dict[str, list[int]], **gates: Any) -> Judgement:
    return judge(
        _results(champion),
        _results(challenger),
        GOOD,
        Gates(**gates),
        task="classification",
        classes=["blue", "red"],
        groups=list(champion),
    )


def _groups(count: int, answers: list[int]) -> dict[str, list[int]]:
    return {f"clip{number:02d}": answers for number in range(count)}


def test_a_clearly_better_model_is_promoted_with_its_figures():
    found = _judged(_groups(8, [1, 0, 0, 1]), _groups(8, [1, 1, 1, 1]))
    assert found.verdict == "promote"
    assert (found.champion, found.challenger, found.metric_name) == (0.5, 1.0, "top_1")
    assert found.low == pytest.approx(0.5)
    assert "of the champion 0.5000, of the new model 1.0000" in found.reasons[0]
    assert found.statistics["groups"] == found.statistics["groups_that_differ"] == 8


@pytest.mark.parametrize(
    ("champion", "challenger", "reason"),
    [
        (_groups(8, [1, 0]), _groups(8, [1, 0]), "differ on 0 groups of 8, too few to tell"),
        (
            _groups(1, [0, 0]),
            _groups(1, [1, 1]),
            "the test split has 1 group to compare on; 95% confidence needs at le",
        ),
        (_groups(4, [0, 0]), _groups(4, [1, 1]), "the test split has 4 groups"),
        (
            {**_groups(20, [1, 1]), "clip00": [1, 0], "clip01": [0, 1], "clip02": [0, 1]},
            _groups(20, [1, 1]),
            "differ on 3 groups of 20",
        ),
        (
            _groups(8, [1, 1]),
            _groups(8, [1, 0]),
            "the new model is not better: top_1 champion 1.0000, new model 0.5000",
        ),
        (
            {f"clip{number}": [number % 2, 1, 1] for number in range(12)},
            {f"clip{number}": [1 - number % 2, 1, 1] if number > 1 else [1, 1, 1] for number in range(12)},
            "the new model may be better by chance",
        ),
    ],
    ids=["same answers", "one group", "four groups", "few groups differ", "worse", "a toss-up"],
)
def test_what_is_not_shown_is_refused(champion: dict[str, list[int]], challenger: dict[str, list[int]], reason: str):
    found = _judged(champion, challenger)
    assert found.verdict == "reject"
    assert reason in found.reasons[0]


def test_one_class_that_gets_worse_blocks_a_better_model():
    # Class blue is every other image: it falls from 1 to 0.75 while red rises from 0 to 1.
    champion = _groups(8, [1, 0, 1, 0, 1, 0, 1, 0])
    challenger = _groups(8, [1, 1, 1, 1, 1, 1, 0, 1])
    found = _judged(champion, challenger)
    assert found.verdict == "reject"
    assert len(found.reasons) == 1
    assert "class blue gets worse: recall falls from 1.0000 to 0.7500" in found.reasons[0]
    assert "-0.2500 and -0.2500 in 90 % of the draws" in found.reasons[0]
    assert [(one.name, one.is_over_budget) for one in found.classes] == [("blue", True), ("red", False)]
    assert _judged(champion, challenger, class_budget=0.25).verdict == "promote"


def test_a_model_that_is_as_good_passes_where_that_is_enough():
    same = _groups(8, [1, 0])
    assert _judged(same, same, least_gain=-0.01).verdict == "promote"
    assert _judged(same, _groups(8, [0, 0]), least_gain=-0.01).verdict == "reject"


def test_a_class_without_truth_has_no_figures_and_blocks_nothing():
    images = [_image(f"clip{number}", 0, 0, is_right=True) for number in range(6)]
    wrong = [_image(f"clip{number}", 0, 0, is_right=False) for number in range(6)]
    groups = [one.group for one in images]
    found = judge(wrong, images, GOOD, Gates(), task="classification", classes=["blue", "red"], groups=groups)
    assert found.verdict == "promote"
    assert (found.classes[1].champion, found.classes[1].low, found.classes[1].is_over_budget) == (None, None, False)


@pytest.mark.parametrize(
    ("candidate", "gates", "reason"),
    [
        (Candidate(math.nan, 1.0, True, False), Gates(), "top_1 of the new model is nan, not a number"),
        (Candidate(math.inf, 1.0, True, False), Gates(), "is inf, not a number"),
        (Candidate(0.4, 1.0, True, False), Gates(least_metric=0.5), "top_1 0.4000 is below promotion.least_metric 0.5"),
        (Candidate(0.9, 30.0, True, False), Gates(most_p95_ms=20), "up to 30.0 ms, more than promotion.most_p95_ms 20"),
        (Candidate(0.9, math.nan, True, False), Gates(most_p95_ms=20), "up to nan ms"),
        (Candidate(0.9, None, True, False), Gates(most_p95_ms=20), "was not benchmarked"),
        (Candidate(0.9, 1.0, False, False), Gates(), "parity certificate of the bundle did not pass"),
        (Candidate(0.9, 1.0, None, False), Gates(), "parity certificate of the bundle is missing"),
        (Candidate(0.9, 1.0, True, True), Gates(), "the split of the dataset leaks"),
    ],
    ids=["nan", "infinite", "weak", "slow", "nan latency", "no latency", "parity failed", "no parity", "leaky"],
)
def test_an_absolute_gate_holds_with_and_without_a_champion(candidate: Candidate, gates: Gates, reason: str):
    alone = judge_alone(candidate, gates, task="classification", why="the first")
    assert alone.verdict == "reject"
    assert reason in alone.reasons[0]
    found = judge(
        _results(_groups(8, [0, 0])),
        _results(_groups(8, [1, 1])),
        candidate,
        gates,
        task="classification",
        classes=["blue", "red"],
        groups=list(_groups(8, [])),
    )
    assert found.verdict == "reject"
    assert reason in found.reasons[0]


def test_the_first_model_passes_by_the_absolute_gates():
    found = judge_alone(GOOD, Gates(least_metric=0.9), task="detection", why="cells has no champion yet")
    assert found.verdict == "promote"
    assert found.reasons == ["cells has no champion yet; map_50 0.9000 and the other absolute gates hold"]


def test_a_champion_that_saw_all_test_groups_cannot_be_compared():
    found = judge([], [], GOOD, Gates(), task="classification", classes=["blue", "red"], groups=[])
    assert found.verdict == "reject"
    assert "trained on every group" in found.reasons[0]


def test_the_same_results_give_the_same_bounds():
    before, after = _groups(9, [1, 0, 1]), {**_groups(9, [1, 1, 1]), "clip03": [0, 0, 1]}
    assert _judged(before, after) == _judged(before, after)


def _equal_pair(random: np.random.Generator, groups: int) -> list[ClassificationScores]:
    """Two models of equal skill on groups of different size and difficulty."""
    sizes, difficulty = random.integers(1, 12, groups), random.normal(size=groups)
    pair = []
    for _ in range(2):
        chance = 1 / (1 + np.exp(-(1.5 + difficulty + 0.4 * random.normal(size=groups))))
        answers = [random.random(size) < one for size, one in zip(sizes, chance, strict=True)]
        right = np.array([[one.sum()] for one in answers])
        pair.append(ClassificationScores(sizes[:, None], right, [one.tobytes() for one in answers]))
    return pair


@pytest.mark.parametrize("groups", [5, 8, 20])
def test_of_equal_models_at_most_alpha_are_promoted(groups: int):
    """600 pairs; 5 % are 30, and 43 is what chance allows them with 99 %."""
    random = np.random.default_rng(groups)
    promoted = 0
    for _ in range(600):
        champion, challenger = _equal_pair(random, groups)
        promoted += compare(champion, challenger, groups, confidence=0.95, least_gain=0.0).low > 0
    assert promoted <= 43


@pytest.mark.parametrize(("confidence", "expected"), [(0.95, 5), (0.9, 4), (0.75, 2), (0.6, 2), (0.999, 10)], ids=str)
def test_so_many_groups_have_to_differ(confidence: float, expected: int):
    assert least_groups(confidence) == expected


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [(0.95, 1, 6.313752), (0.95, 2, 2.919986), (0.95, 4, 2.131847), (0.05, 5, -2.015048), (0.975, 30, 2.042272)],
    ids=str,
)
def test_quantiles_of_t_are_those_of_the_tables(probability: float, degrees: int, expected: float):
    assert t_quantile(probability, degrees) == pytest.approx(expected, abs=1e-5)


def _detected(random: np.random.Generator, count: int, skill: float) -> Iterator[ImageResult]:
    for number in range(count):
        truth = np.array([[10.0, 10, 30, 30], [50, 50, 80, 90]])
        shift = random.normal(0, 1 / skill, (2, 1)) * 6
        noise = random.uniform(0, 60, (4, 2))
        boxes = np.concatenate([truth + shift, np.concatenate([noise, noise + 20], axis=1)])
        class_ids = np.concatenate([[0, 1], random.integers(0, 2, 4)])
        confidence = np.sort(random.random(6).astype(np.float32))[::-1]
        yield ImageResult(
            key=f"{number:03d}",
            group=f"clip{number // 3:02d}",
            source="",
            timestamp_s=None,
            width=100,
            height=100,
            truth_class_ids=[0, 1],
            truth_boxes=truth.ravel().tolist(),
            class_ids=class_ids.tolist(),
            confidence=confidence.tolist(),
            boxes=boxes.ravel().tolist(),
            is_right=False,
            score=None,
            mean_iou=None,
            right_count=0,
            false_count=0,
            missed_count=0,
        )


def _reference(results: list[ImageResult]) -> list[float]:
    truths = [TrueBoxes(one.truth.xyxy, one.truth.class_ids) for one in results]
    found = [Detections(one.detections.xyxy, one.detections.class_ids, one.detections.confidence) for one in results]
    metrics = detection_metrics(truths, found, ["a", "b"], confidence_threshold=0.25, iou_threshold=0.5)
    return [*(float(one.ap_50) for one in metrics.per_class), metrics.map_50]


def test_average_precision_of_a_draw_is_the_evaluations_own():
    results = list(_detected(np.random.default_rng(3), 12, 1.0))
    scores = collect_scores(results, [f"clip{number:02d}" for number in range(4)], ["a", "b"], "detection")
    # Each group once; and the second twice, the last not at all, against images written out as often.
    counts = np.array([[1, 1, 1, 1], [1, 2, 1, 0]])
    per_class = scores.per_class(counts)
    found = np.column_stack([per_class, scores.overall(counts, per_class)])
    assert found[0] == pytest.approx(_reference(results), abs=1e-9)
    assert found[1] == pytest.approx(_reference([*results[:6], *results[3:6], *results[6:9]]), abs=1e-9)


def test_a_better_detector_is_found_and_an_equal_one_is_not():
    groups = [f"clip{number:02d}" for number in range(12)]
    weak, equal, strong = (
        list(_detected(np.random.default_rng(seed), 36, skill)) for seed, skill in ((1, 0.5), (2, 0.5), (3, 3.0))
    )
    verdicts = [
        judge(weak, other, GOOD, Gates(), task="detection", classes=["a", "b"], groups=groups).verdict
        for other in (equal, strong)
    ]
    assert verdicts == ["reject", "promote"]


def test_images_of_other_groups_are_left_out():
    results = _results({"clip1": [1, 1], "clip2": [0, 0]})
    scores = collect_scores(results, ["clip1"], ["blue", "red"], "classification")
    counts = np.ones((1, 1), np.int64)
    assert scores.overall(counts, scores.per_class(counts)) == pytest.approx([1.0])
