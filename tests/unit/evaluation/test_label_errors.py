"""Labels that were made wrong on purpose are told first, and right ones are not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.data.dataset import Dataset
from visionyard.data.quality import Suspect
from visionyard.errors import ArtifactError
from visionyard.evaluation import evaluate
from visionyard.evaluation.label_errors import judge_labels
from visionyard.transforms import Classification, Detections

A, B, C = (2.0, 2.0, 20.0, 20.0), (30.0, 10.0, 60.0, 40.0), (2.0, 26.0, 16.0, 46.0)
CLASSES = ["cat", "dog", "cow"]
MakeDataset, Boxes = Callable[..., Dataset], Callable[..., Detections]


def _judged(dataset: Dataset, answers: Sequence[Any], target: Path, scripted: Any) -> tuple[Suspect, ...]:
    evaluate(
        scripted(CLASSES, list(answers)),
        dataset,
        target,
        confidence_threshold=0.25,
        iou_threshold=0.5,
        lineage={},
        curves=[],
    )
    return judge_labels(target, dataset).suspects


def test_swapped_labels_come_first(make_dataset: MakeDataset, scripted: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    count, swapped = 90, {4, 33, 61}
    truth = np.arange(count) % 3
    probabilities = random.dirichlet([1, 1, 1], count) * 0.4
    probabilities[np.arange(count), truth] += 0.6
    # Of the wrong labels the model is as sure as of any; unsure ones it could not tell.
    probabilities[sorted(swapped)] = 0.05
    probabilities[sorted(swapped), truth[sorted(swapped)]] = 0.9
    rows = [
        {"split": "test", "class_ids": [int((truth[n] + 1) % 3 if n in swapped else truth[n])], "boxes": None}
        for n in range(count)
    ]
    dataset = make_dataset("classification", CLASSES, rows)
    answers = [Classification(row.astype(np.float32)) for row in probabilities]
    found = _judged(dataset, answers, tmp_path / "evaluation", scripted)
    assert {one.key for one in found[:3]} == {f"item-{number:03d}" for number in swapped}
    assert len(found) == 3 and [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found[0].kind == "label_disagrees" and found[0].split == "test"


def test_an_unsure_disagreement_is_no_label_error(make_dataset: MakeDataset, says: Any, scripted: Any, tmp_path: Path):
    # Of dog the model is usually sure (0.9): 0.5 against the label is none of its confident answers.
    rows = [{"split": "test", "class_ids": [label], "boxes": None} for label in (0, 1, 1, 0)]
    answers = [says(0.9, 0.1, 0.0), says(0.1, 0.9, 0.0), says(0.1, 0.9, 0.0), says(0.4, 0.5, 0.1)]
    dataset = make_dataset("classification", CLASSES, rows)
    assert _judged(dataset, answers, tmp_path / "evaluation", scripted) == ()


@pytest.mark.parametrize(
    ("labels", "answer", "expected", "told"),
    [
        ([(0, A), (1, B)], [(0, 0.9, *A), (1, 0.9, *B)], [], ""),
        (
            [(0, A), (1, B)],
            [(0, 0.9, *A), (0, 0.95, *B), (1, 0.2, *B)],
            ["box_class_disagrees"],
            "dog (0.20); model: cat",
        ),
        ([(0, A), (1, B)], [(0, 0.9, *A), (0, 0.95, *B), (1, 0.97, *B)], [], ""),  # its own class is more confident
        ([(0, A)], [(0, 0.9, *A), (1, 0.92, *B)], ["box_missing"], "no box; model: dog 0.92"),
        ([(0, A)], [(0, 0.9, *A), (1, 0.4, *B)], [], ""),  # not sure of it
        ([(0, A)], [(0, 0.9, *A), (1, 0.92, *B), (0, 0.91, *B)], ["box_missing"], "model: dog 0.92"),  # one place
        ([(0, A), (1, B)], [(0, 0.9, *A)], ["box_unseen"], "labelled dog, the model sees nothing there (0.000)"),
        ([(0, A), (1, B)], [(0, 0.9, *A), (1, 0.3, *B)], [], ""),  # half seen
        ([(0, A), (1, B)], [(0, 0.3, *A)], [], ""),  # sure of nothing in this image
        ([(2, C)], [(2, 0.9, *C)], [], ""),
        ([], [], [], ""),
        ([], [(0, 0.95, *A)], ["box_missing"], "no box; model: cat 0.95"),
    ],
)
def test_boxes(
    labels: list[tuple[int, tuple[float, ...]]],
    answer: list[tuple[float, ...]],
    expected: list[str],
    told: str,
    make_dataset: MakeDataset,
    boxes: Boxes,
    scripted: Any,
    tmp_path: Path,
) -> None:
    # Ten right images make the thresholds: 0.85 for each class, as nearly as one more image leaves them.
    usual = [{"split": "test", "class_ids": [0, 1], "boxes": [*A, *B]} for _ in range(10)]
    judged = {
        "split": "test",
        "key": "judged",
        "class_ids": [class_id for class_id, _ in labels],
        "boxes": [value for _, xyxy in labels for value in xyxy],
    }
    dataset = make_dataset("detection", CLASSES, [*usual, judged])
    answers = [boxes((0, 0.85, *A), (1, 0.85, *B)) for _ in usual] + [boxes(*answer)]
    # One of the ten is found more surely, so that the mean lies above those that are as usual.
    answers[0] = boxes((0, 0.88, *A), (1, 0.88, *B))
    found = _judged(dataset, answers, tmp_path / "evaluation", scripted)
    assert [(one.kind, one.key) for one in found] == [(kind, "judged") for kind in expected]
    assert all(told in one.message for one in found)


def test_what_was_not_judged_is_said(make_dataset: MakeDataset, boxes: Boxes, scripted: Any, tmp_path: Path) -> None:
    rows = [{"split": split, "class_ids": [0], "boxes": [*A]} for split in ("train", "train", "val", "test")]
    dataset = make_dataset("detection", CLASSES, rows)
    target = tmp_path / "evaluation"
    _judged(dataset, [boxes((0, 0.9, *A))], target, scripted)
    (note,) = judge_labels(target, dataset).notes
    assert "1 images of test; not judged: 2 of train and 1 of val" in note
    dataset.digest = "e" * 64
    with pytest.raises(
        ArtifactError, match=r"made on the dataset version dddddddddddd.*is eeeeeeeeeeee.*validate again"
    ):
        judge_labels(target, dataset)


def test_a_model_that_contradicts_too_much_is_doubted(
    make_dataset: MakeDataset, says: Any, scripted: Any, tmp_path: Path
):
    rows = [{"split": "test", "class_ids": [number % 2], "boxes": None} for number in range(12)]
    dataset = make_dataset("classification", CLASSES, rows)
    # Dog for nearly all: its mean of 0.5 is reached by half of the cats.
    answers = [says(0.3, 0.6, 0.1) if number % 4 < 2 else says(0.45, 0.4, 0.15) for number in range(12)]
    assert len(_judged(dataset, answers, tmp_path / "evaluation", scripted)) == 6
    assert "contradicts 6 of 12 labels" in judge_labels(tmp_path / "evaluation", dataset).notes[1]
