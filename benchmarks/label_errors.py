"""How many labels made wrong on purpose `visionyard dataset suspects --run` finds, in the results of a real run.

    python benchmarks/label_errors.py runs/<name>-<n>

A twentieth of the labels of the test split is made wrong, and the search repeated 20 times with others: of an image or
a box the class is exchanged, and in turn as many boxes are removed. The model does not change. What it contradicts in
the labels as they are is printed too: no one knows how much of that is right, so nothing is said of precision.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from visionyard.data.dataset import Dataset
from visionyard.data.quality import Suspect
from visionyard.evaluation.label_errors import find_label_errors
from visionyard.evaluation.per_image import ImageResult, read_results
from visionyard.geometry import iou_matrix

SHARE = 0.05
REPEAT_COUNT = 20


def spoiled(result: ImageResult, place: int, class_id: int | None) -> ImageResult:
    """Give one label of an image another class; None takes its box away."""
    labels, boxes = list(result.truth_class_ids), result.truth_boxes
    if class_id is not None:
        labels[place] = class_id
    elif boxes is not None:
        labels = labels[:place] + labels[place + 1 :]
        boxes = boxes[: 4 * place] + boxes[4 * place + 4 :]
    return replace(result, truth_class_ids=labels, truth_boxes=boxes)


def is_found(suspects: Sequence[Suspect], kind: str, before: ImageResult, place: int) -> bool:
    """Return whether a suspect of the kind is about the label that was changed."""
    about = [one for one in suspects if one.kind == kind and one.key == before.key]
    if before.truth_boxes is None or not about:
        return bool(about)
    overlap = iou_matrix(np.array([one.marks[0].xyxy for one in about]), before.truth.xyxy[[place]])
    return bool((overlap >= 0.5).any())


def measure(results: list[ImageResult], classes: Sequence[str], kind: str) -> tuple[int, int, float]:
    """Return errors found, errors planted, and suspects of that kind an average repeat tells."""
    random = np.random.default_rng(0)
    labels = [(row, place) for row, one in enumerate(results) for place in range(len(one.truth_class_ids))]
    found = planted = told = 0
    for _ in range(REPEAT_COUNT):
        changed = list(results)
        chosen = random.choice(len(labels), max(1, round(SHARE * len(labels))), replace=False)
        # The last box of an image first, so that removing one does not move the next.
        for row, place in sorted((labels[index] for index in chosen), reverse=True):
            other = int((results[row].truth_class_ids[place] + random.integers(1, len(classes))) % len(classes))
            changed[row] = spoiled(changed[row], place, None if kind == "box_missing" else other)
        suspects = list(find_label_errors(lambda changed=changed: changed, classes=classes))
        told += sum(one.kind == kind for one in suspects)
        found += sum(is_found(suspects, kind, results[row], place) for row, place in (labels[i] for i in chosen))
        planted += len(chosen)
    return found, planted, told / REPEAT_COUNT


def main(folder: Path) -> None:
    """Print recall by kind."""
    dataset = Dataset(folder / "dataset")
    results = list(read_results(folder / "evaluation"))
    as_they_are = list(find_label_errors(lambda: results, classes=dataset.classes))
    kinds = ["box_class_disagrees", "box_missing"] if dataset.task == "detection" else ["label_disagrees"]
    print(f"{folder.name}: {len(results)} test images")
    for kind in kinds:
        found, planted, told = measure(results, dataset.classes, kind)
        before = sum(one.kind == kind for one in as_they_are)
        print(
            f"{kind}: {found} of {planted} planted errors found ({found / planted:.0%}); suspects: {before} before, "
            f"{told:.0f} with {planted // REPEAT_COUNT} errors planted"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
