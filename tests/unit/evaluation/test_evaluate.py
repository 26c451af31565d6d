import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionyard.data.dataset import Dataset
from visionyard.errors import ArtifactError, DataError, ModelError, NotANumberError
from visionyard.evaluation import EvaluationReport, evaluate, read_curves, read_metrics, read_results
from visionyard.transforms import Classification, Detections

A, B = (0.0, 0.0, 20.0, 20.0), (30.0, 10.0, 60.0, 40.0)
MakeDataset, Boxes, Says = Callable[..., Dataset], Callable[..., Detections], Callable[..., Classification]


def _evaluate(predictor: Any, dataset: Dataset, target: Path, **options: Any) -> EvaluationReport:
    values: dict[str, Any] = {
        "confidence_threshold": 0.25,
        "iou_threshold": 0.5,
        "lineage": {},
        "curves": [],
        **options,
    }
    return evaluate(predictor, dataset, target, **values)


@pytest.fixture
def detection(make_dataset: MakeDataset) -> Dataset:
    test = [
        {"split": "test", "class_ids": [0, 1], "boxes": [*A, *B]},
        {"split": "test", "class_ids": [], "boxes": []},
        {"split": "test", "class_ids": [0], "boxes": [*A], "timestamp_s": 1.5, "group": "clip"},
    ]
    return make_dataset("detection", ["cat", "dog"], [{"split": "train", "class_ids": [0], "boxes": [*A]}, *test])


def test_detection(detection: Dataset, boxes: Boxes, scripted: Any, tmp_path: Path) -> None:
    # Ranked worst first on purpose: the rows are ranked by confidence whatever the model's order.
    answers = [boxes((1, 0.4, *B), (0, 0.9, *A)), boxes(), boxes((1, 0.8, *A), (0, 0.1, *A))]
    target = tmp_path / "evaluation"
    report = _evaluate(
        scripted(["cat", "dog"], answers),
        detection,
        target,
        lineage={"checkpoint_digest": "abc"},
        curves=[{"epoch": 1, "train_loss": 2.5}],
    )
    assert (report.metric_name, report.image_count, report.right_count) == ("map_50", 3, 2)
    metrics = read_metrics(target)
    assert metrics["metric"] == {"name": "map_50", "value": report.metric_value}
    assert metrics["confusion_matrix"] == {
        "labels": ["cat", "dog", "background"],
        "counts": [[1, 1, 0], [0, 1, 0], [0, 0, 0]],
    }
    assert metrics["thresholds"] == {"confidence": 0.25, "iou": 0.5}
    assert metrics["lineage"] == {"checkpoint_digest": "abc"}
    assert metrics["dataset_digest"] == detection.digest
    assert read_curves(target) == [{"epoch": 1, "train_loss": 2.5}]
    first, empty, wrong = read_results(target)
    assert first.confidence == pytest.approx([0.9, 0.4])
    assert (first.is_right, first.mean_iou, first.right_count) == (True, pytest.approx(1.0), 2)
    assert (empty.is_right, empty.score, empty.mean_iou) == (True, None, None)
    assert (wrong.is_right, wrong.right_count, wrong.false_count, wrong.missed_count) == (False, 0, 1, 1)
    assert (wrong.timestamp_s, wrong.group, wrong.score, wrong.mean_iou) == (1.5, "clip", pytest.approx(0.8), 0.0)


def test_classification_leaves_unlabelled_images_out(
    make_dataset: MakeDataset, says: Says, scripted: Any, tmp_path: Path
) -> None:
    rows = [{"split": "test", "class_ids": ids} for ids in ([0], None, [1], [1])]
    dataset = make_dataset("classification", ["cat", "dog"], rows)
    answers = [says(0.9, 0.1), says(0.6, 0.4), says(0.2, 0.8)]
    report = _evaluate(scripted(["cat", "dog"], answers), dataset, tmp_path / "evaluation")
    assert (report.metric_name, report.metric_value) == ("top_1", pytest.approx(2 / 3))
    assert (report.image_count, report.right_count, report.unlabelled_count) == (3, 2, 1)
    rows_back = list(read_results(tmp_path / "evaluation"))
    assert [row.truth_class_ids for row in rows_back] == [[0], [1], [1]]
    assert [row.is_right for row in rows_back] == [True, False, True]
    assert rows_back[1].score == pytest.approx(0.6)
    assert rows_back[1].confidence == pytest.approx([0.6, 0.4])
    assert len(read_metrics(tmp_path / "evaluation")["calibration"]) == 15


def test_images_come_in_small_batches(make_dataset: MakeDataset, says: Says, scripted: Any, tmp_path: Path) -> None:
    dataset = make_dataset("classification", ["a", "b"], [{"split": "test", "class_ids": [0]}] * 19)
    predictor = scripted(["a", "b"], [says(0.9, 0.1)] * 19)
    _evaluate(predictor, dataset, tmp_path / "evaluation")
    assert predictor.sizes == [8, 8, 3]


def test_same_input_same_bytes(detection: Dataset, boxes: Boxes, scripted: Any, tmp_path: Path) -> None:
    for name in ("first", "second"):
        _evaluate(scripted(["cat", "dog"], [boxes((0, 0.9, *A))] * 3), detection, tmp_path / name)
    for file in ("metrics.json", "per_image.parquet", "curves.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_bad_input_leaves_nothing_behind(detection: Dataset, boxes: Boxes, scripted: Any, tmp_path: Path) -> None:
    target, empty = tmp_path / "evaluation", [boxes()] * 3
    with pytest.raises(ModelError, match="knows the classes cat, cow, the dataset has cat, dog"):
        _evaluate(scripted(["cat", "cow"], empty), detection, target)
    with pytest.raises(DataError, match="the val split is empty"):
        _evaluate(scripted(["cat", "dog"], empty), detection, target, split="val")
    with pytest.raises(NotANumberError, match="item-001: confidence: expected finite numbers, got nan"):
        _evaluate(scripted(["cat", "dog"], [boxes((0, float("nan"), *A))] * 3), detection, target)
    with pytest.raises(NotANumberError, match="training curves: loss of row 1 is nan"):
        curves = [{"loss": 1.0}, {"loss": float("nan")}]
        _evaluate(scripted(["cat", "dog"], empty), detection, target, curves=curves)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_labels_that_no_metric_judges_are_refused(make_dataset: MakeDataset, scripted: Any, tmp_path: Path) -> None:
    dataset = make_dataset("semantic_segmentation", ["a", "b"], [{"split": "test", "class_ids": [0]}])
    with pytest.raises(DataError, match="labelled for semantic_segmentation, which no metric judges; expected "):
        _evaluate(scripted(["a", "b"], []), dataset, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_nothing_labelled(make_dataset: MakeDataset, scripted: Any, tmp_path: Path) -> None:
    dataset = make_dataset("classification", ["a", "b"], [{"split": "test", "class_ids": None}])
    with pytest.raises(DataError, match="no image of the test split has a label"):
        _evaluate(scripted(["a", "b"], []), dataset, tmp_path / "evaluation")


def test_incomplete_folders_are_refused(detection: Dataset, boxes: Boxes, scripted: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected a evaluation folder with metrics\.json"):
        read_metrics(tmp_path)
    with pytest.raises(ArtifactError, match=r"per_image\.parquet: the per-image results are missing"):
        list(read_results(tmp_path))
    with pytest.raises(ArtifactError, match=r"curves\.json: the training curves are missing"):
        read_curves(tmp_path)
    target = tmp_path / "evaluation"
    _evaluate(scripted(["cat", "dog"], [boxes()] * 3), detection, target)
    values = json.loads((target / "metrics.json").read_text())
    (target / "metrics.json").write_text(json.dumps({**values, "schema_version": 9}))
    with pytest.raises(ArtifactError, match="schema_version 9 is not known"):
        read_metrics(target)
