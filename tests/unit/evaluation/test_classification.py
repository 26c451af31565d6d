import numpy as np
import pytest
from sklearn import metrics as reference

from visionyard.errors import DataError, NotANumberError, ShapeError
from visionyard.evaluation import classification_metrics
from visionyard.evaluation.classification import precision_recall_curve


def _random(count: int, class_count: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, class_count, count)
    logits = random.normal(0, 1, (count, class_count))
    logits[np.arange(count), truth] += 1.5
    powers = np.exp(logits)
    return truth, powers / powers.sum(axis=1, keepdims=True)


def test_agrees_with_scikit_learn() -> None:
    truth, scores = _random(400, 7)
    found, predicted = classification_metrics(truth, scores, list("abcdefg")), scores.argmax(axis=1)
    expected = {
        "top_1": reference.accuracy_score(truth, predicted),
        "top_5": reference.top_k_accuracy_score(truth, scores, k=5),
        "macro_f1": reference.f1_score(truth, predicted, average="macro"),
        "macro_precision": reference.precision_score(truth, predicted, average="macro"),
        "macro_recall": reference.balanced_accuracy_score(truth, predicted),
        "log_loss": reference.log_loss(truth, scores),
    }
    assert {name: found.overall()[name] for name in expected} == pytest.approx(expected)
    assert found.confusion.tolist() == reference.confusion_matrix(truth, predicted).tolist()
    for class_id, one in enumerate(found.per_class):
        is_class = truth == class_id
        assert one.average_precision == pytest.approx(reference.average_precision_score(is_class, scores[:, class_id]))
        precision, recall, _ = reference.precision_recall_curve(is_class, scores[:, class_id])
        expected_curve = [precision[recall >= want - 1e-12].max() for want in np.linspace(0, 1, 101)]
        # scikit-learn ends its curve with an invented point: precision 1 at recall 0.
        assert one.pr_precision is not None and one.pr_precision[1:] == pytest.approx(expected_curve[1:])


def test_calibration_by_hand() -> None:
    """Two images at 0.9, one right: a gap of 0.4; one at 0.6, right: a gap of 0.4 the other way."""
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    found = classification_metrics(np.array([0, 1, 1]), scores, ["a", "b"])
    assert found.ece == pytest.approx(0.4)
    assert sum(one.count for one in found.calibration) == 3
    assert [(one.count, one.accuracy) for one in found.calibration if one.count] == [(1, 1.0), (2, 0.5)]


def test_certain_and_right_is_perfect() -> None:
    found = classification_metrics(np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]], ["a", "b"])
    perfect = {"top_1": 1, "macro_f1": 1, "macro_precision": 1, "macro_recall": 1, "log_loss": 0, "ece": 0}
    assert found.overall() == pytest.approx(perfect)
    assert found.top_5 is None


def test_certain_and_wrong_has_a_finite_loss() -> None:
    found = classification_metrics(np.array([1]), np.array([[1.0, 0.0]]), ["a", "b"])
    assert 30 < found.log_loss < 40


def test_ties_take_the_lower_id() -> None:
    scores = np.full((2, 6), 1 / 6)
    found = classification_metrics(np.array([0, 5]), scores, list("abcdef"))
    assert (found.top_1, found.top_5) == (0.5, 0.5)


def test_a_class_absent_from_the_truth_does_not_count_in_the_means() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    found = classification_metrics(np.array([0, 0]), scores, ["a", "b", "c"])
    assert (found.macro_recall, found.macro_precision) == (0.5, 1.0)
    absent, said = found.per_class[1:]
    assert (absent.precision, absent.recall, absent.f1, absent.average_precision) == (None, None, None, None)
    assert (said.precision, said.recall, said.f1) == (0.0, None, 0.0)


def test_equal_scores_are_one_threshold_in_any_order() -> None:
    is_true = np.array([True, False, True, False])
    score = np.array([0.5, 0.5, 0.5, 0.1])
    forward = precision_recall_curve(is_true, score)
    assert forward == precision_recall_curve(is_true[::-1], score[::-1])
    assert forward[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [3, 7, 29, 100])
def test_the_curve_reaches_every_recall(count: int) -> None:
    """Recalls like 7/100 or 29/100 are not exact in floating point; the point itself must still be found."""
    is_true = np.ones(count, bool)
    average, precision, confidence = precision_recall_curve(is_true, np.linspace(1, 0.5, count))
    assert average == pytest.approx(1.0)
    assert precision == [1.0] * 101
    ranked = np.linspace(1, 0.5, count)
    expected = [ranked[max(-(-count * percent // 100), 1) - 1] for percent in range(101)]
    assert confidence == pytest.approx(expected)


def test_bad_input() -> None:
    good = np.array([[0.5, 0.5]])
    with pytest.raises(ShapeError, match=r"expected \(1, 3\), got \(1, 2\)"):
        classification_metrics(np.array([0]), good, ["a", "b", "c"])
    with pytest.raises(DataError, match="there are 0 images"):
        classification_metrics(np.zeros(0, int), np.zeros((0, 2)), ["a", "b"])
    with pytest.raises(DataError, match="class id 2, expected 0 to 1"):
        classification_metrics(np.array([2]), good, ["a", "b"])
    with pytest.raises(DataError, match=r"image 0: .* sum 5"):
        classification_metrics(np.array([0]), np.array([[2.0, 3.0]]), ["a", "b"])
    with pytest.raises(NotANumberError, match=r"probabilities: expected finite numbers, got nan at \(0, 1\)"):
        classification_metrics(np.array([0]), np.array([[0.5, np.nan]]), ["a", "b"])
