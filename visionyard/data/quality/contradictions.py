"""Images that are the same, or look alike, and whose labels say different things.

Frames of one fixed camera look alike and rightly differ in label, where what is to be learnt is the only difference: a
person judges, so pairs are told with how much of them agrees. Objects leave the picture in a crop and between two
frames, so of boxes only pairs count that agree nearly everywhere.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from visionyard.data.dataset import Dataset, Sample
from visionyard.data.leaks.near_duplicates import find_near_duplicates
from visionyard.data.leaks.sketches import Sketches
from visionyard.data.quality.suspects import Suspect
from visionyard.digests import sha256_bytes

# Of 481 pictures with augmented crops 125 pairs differ in their classes, nearly all since the crop cut an object off; a
# pair that agrees in nine blocks of ten has no room for that.
_MIN_BOX_AGREEMENT = 0.9


def contradictions(dataset: Dataset, samples: Sequence[Sample], sketches: Sketches | None) -> Iterator[Suspect]:
    """Yield pairs of images that are the same or look alike and are labelled differently.

    Of images with the same bytes any difference of the labels counts; of images that look alike only the classes that
    they show, since a crop or a flip moves boxes.

    Args:
        dataset: The version.
        samples: All its images.
        sketches: Of the samples; None compares images with the same bytes only.
    """
    same: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        same[sample.sha256].append(sample)
    for alike in same.values():
        for other in alike[1:]:
            if _label(dataset, alike[0]) != _label(dataset, other):
                yield _pair("same_image_other_label", dataset, alike[0], other, 1.0)
    if sketches is None:
        return
    # Those that show the same classes need no comparing: in clips that is nearly all that look alike.
    shown = [_shown(sample) for sample in samples]
    number_of = {classes: number for number, classes in enumerate(dict.fromkeys(shown))}
    found = find_near_duplicates(sketches, np.array([number_of[classes] for classes in shown], dtype=np.int64))
    least = _MIN_BOX_AGREEMENT if dataset.task == "detection" else 0.0
    for (first, second), score in zip(found.pairs.tolist(), found.scores.tolist(), strict=True):
        one, other = samples[first], samples[second]
        if score >= least and one.sha256 != other.sha256:
            yield _pair("look_alike_other_label", dataset, one, other, score)


def _shown(sample: Sample) -> frozenset[int]:
    return frozenset(sample.class_ids.tolist())


def _label(dataset: Dataset, sample: Sample) -> object:
    if sample.mask_blob is not None:
        return sha256_bytes(dataset.read(sample.mask_blob))
    boxes = sample.xyxy.round().astype(int).tolist() if len(sample.xyxy) else []
    return sorted(zip(sample.class_ids.tolist(), boxes or [[]] * len(sample.class_ids), strict=True))


def _pair(kind: str, dataset: Dataset, one: Sample, other: Sample, score: float) -> Suspect:
    first, second = _words(dataset, one), _words(dataset, other)
    told = f"{first} here, {second} in {other.source} ({other.split})"
    if first == second:
        told = f"{first} here and in {other.source} ({other.split}), but not in the same places"
    agreement = f"; {score:.0%} of the picture agrees" if kind == "look_alike_other_label" else ""
    return Suspect(
        kind=kind,
        key=one.key,
        source=one.source,
        split=one.split,
        message=told + agreement,
        score=round(score, 3),
        other_key=other.key,
        other_source=other.source,
    )


def _words(dataset: Dataset, sample: Sample) -> str:
    return ", ".join(dataset.classes[class_id] for class_id in sorted(_shown(sample))) or "nothing"
