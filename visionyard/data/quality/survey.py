"""All suspects of a dataset version that can be told before anything is trained."""

from collections.abc import Iterator, Sequence

import numpy as np

from visionyard.data.artifacts import read_problems
from visionyard.data.dataset import Dataset, Sample
from visionyard.data.items import SPLITS, Problem, Split
from visionyard.data.leaks.sketches import Sketches
from visionyard.data.quality.box_sizes import BoxTable, tiny_objects, unusual_boxes
from visionyard.data.quality.contradictions import contradictions
from visionyard.data.quality.images import measure_images, poor_images
from visionyard.data.quality.shift import Shift, after_holm, shift_of_classes, shift_of_values
from visionyard.data.quality.suspects import Suspect, SuspectReport, in_order

# What the health check told of the balance when the version was made.
_BALANCE_CODES = frozenset({"class_imbalance", "class_with_few_groups", "class_missing_in_split"})


def find_suspects(dataset: Dataset, *, image_size_px: int) -> SuspectReport:
    """Look at every image and label of a dataset version.

    Memory follows the number of images and boxes (about 11 kB an image in a scratch file); images are decoded small.

    Args:
        dataset: The version.
        image_size_px: Longer side of the model's input, at which objects may be too small.

    Raises:
        ArtifactError: It is incomplete.
        MediaError: An image cannot be decoded; names it.
    """
    samples = [sample for split in SPLITS for sample in dataset.samples(split)]
    boxes = BoxTable.of(samples)
    # Two semantic masks of what looks alike are never quite the same.
    sketches = None if dataset.task == "semantic_segmentation" else Sketches.room_for(len(samples))
    looks = measure_images(dataset, samples, sketches)
    suspects: list[Suspect] = [*contradictions(dataset, samples, sketches), *poor_images(samples, looks)]
    if dataset.task == "detection":
        suspects += unusual_boxes(boxes, samples, dataset.classes)
        suspects += tiny_objects(boxes, samples, dataset.classes, image_size_px=image_size_px)
    return SuspectReport(
        label=str(dataset.folder),
        task=dataset.task,
        classes=tuple(dataset.classes),
        item_count=len(samples),
        suspects=in_order(suspects),
        balance=balance_of(dataset),
        shifts=after_holm(list(_shifts(samples, boxes, looks))),
        notes=tuple(_notes(dataset)),
    )


def balance_of(dataset: Dataset) -> tuple[Problem, ...]:
    """Return what the health check told of classes that are rare or missing when the version was made."""
    return tuple(problem for problem in read_problems(dataset.folder) if problem.code in _BALANCE_CODES)


def _shifts(samples: Sequence[Sample], boxes: BoxTable, looks: np.ndarray) -> Iterator[Shift]:
    """Yield val and test held against train."""
    # A group that stands in two splits, as in a leaky one, counts as two.
    unit_of = {pair: unit for unit, pair in enumerate(sorted({(one.split, one.group) for one in samples}))}
    units = np.array([unit_of[one.split, one.group] for one in samples], np.int64)
    splits = np.array([split for split, _ in unit_of])
    labels = np.concatenate([np.zeros(0, np.int64), *(one.class_ids for one in samples)])
    unit_of_label = np.repeat(units, [len(one.class_ids) for one in samples])
    longer = np.array([max(one.width, one.height) for one in samples], float)
    columns = {"brightness": looks[:, 0], "contrast": looks[:, 1], "sharpness": looks[:, 2], "longer side": longer}
    compared: tuple[Split, ...] = ("val", "test")
    for split in compared:
        kept_units = np.flatnonzero((splits == "train") | (splits == split))
        new_unit = np.full(len(splits), -1)
        new_unit[kept_units] = np.arange(len(kept_units))
        is_split = splits[kept_units] == split
        of_image = new_unit[units]
        found = [
            shift_of_values(name, split, values[of_image >= 0], of_image[of_image >= 0], is_split)
            for name, values in columns.items()
        ]
        of_box = of_image[boxes.image]
        found.append(shift_of_values("box size", split, boxes.share[of_box >= 0], of_box[of_box >= 0], is_split))
        of_label = new_unit[unit_of_label]
        found.append(shift_of_classes(split, labels[of_label >= 0], of_label[of_label >= 0], is_split))
        yield from (shift for shift in found if shift is not None)


def _notes(dataset: Dataset) -> Iterator[str]:
    if dataset.task == "semantic_segmentation":
        yield "images that look alike were not compared: two masks of one scene are never quite the same"
    for split in SPLITS:
        if not dataset.count(split):
            yield f"{split} is empty: nothing to compare"
