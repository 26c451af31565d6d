"""What a suspect is: an image, or a box in it, that a person should look at, and why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from visionyard.data.items import Problem, Split, Task
from visionyard.data.quality.shift import Shift

# In the order a person goes through them: what is most often an error comes first.
KINDS = {
    "label_disagrees": "the model says another class, confidently",
    "box_class_disagrees": "the model sees another class in the box, confidently",
    "box_missing": "the model sees an object, confidently, where no box is",
    "box_unseen": "a box in which the model sees nothing, while it is confident elsewhere in the image",
    "same_image_other_label": "the very same image twice, with different labels",
    "look_alike_other_label": "two images that look alike, with different classes",
    "unusual_box_size": "a box far larger or smaller than others of its class",
    "unusual_box_shape": "a box far wider or narrower than others of its class",
    "black_image": "an image that is all but black",
    "flat_image": "an image of one colour",
    "blurred_image": "an image far less sharp than the others",
    "tiny_object": "objects too small for the model's input",
}


@dataclass(frozen=True)
class Mark:
    """A place in an image that is meant.

    Attributes:
        xyxy: Pixels of the image.
        text: What is said of it: `label: dog`, `model: cat 0.93`.
        class_id: Of that class.
    """

    xyxy: tuple[float, float, float, float]
    text: str
    class_id: int


@dataclass(frozen=True)
class Suspect:
    """One image, or a place in it, to be looked at.

    Attributes:
        kind: One of `KINDS`.
        key: The image.
        source: Its path within the source.
        split: Where it stands.
        message: What is suspicious, with the figures.
        score: How suspicious, larger is more; comparable within a kind only.
        marks: The places meant; empty for the whole image.
        other_key: Of a pair, the other image; empty else.
        other_source: Its path.
    """

    kind: str
    key: str
    source: str
    split: Split
    message: str
    score: float
    marks: tuple[Mark, ...] = ()
    other_key: str = ""
    other_source: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "marks": [asdict(mark) for mark in self.marks]}


@dataclass(frozen=True)
class SuspectReport:
    """What a person should look at.

    Attributes:
        label: What the data are called.
        task: What the labels are for.
        classes: Names in the order of their ids.
        item_count: Images of the dataset version.
        suspects: By kind in the order of `KINDS`, the most suspicious first.
        balance: Classes that are rare, or missing in a split, as the health check told them.
        shifts: How val and test differ from train; the largest distance first.
        notes: What was not looked at, and why.
    """

    label: str
    task: Task
    classes: tuple[str, ...]
    item_count: int
    suspects: tuple[Suspect, ...]
    balance: tuple[Problem, ...]
    shifts: tuple[Shift, ...]
    notes: tuple[str, ...]

    def by_kind(self) -> dict[str, list[Suspect]]:
        """Return the suspects of each kind that has any, in the order of `KINDS`."""
        found = {kind: [one for one in self.suspects if one.kind == kind] for kind in KINDS}
        return {kind: suspects for kind, suspects in found.items() if suspects}

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to look at."""
        return not (self.suspects or self.balance or any(shift.is_told for shift in self.shifts))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "label": self.label,
            "task": self.task,
            "item_count": self.item_count,
            "suspect_counts": {kind: len(found) for kind, found in self.by_kind().items()},
            "suspects": [one.to_json() for one in self.suspects],
            "balance": [one.to_json() for one in self.balance],
            "shifts": [one.to_json() for one in self.shifts],
            "notes": list(self.notes),
        }


def in_order(suspects: Sequence[Suspect]) -> tuple[Suspect, ...]:
    """Return suspects by kind, within a kind the highest score first, on a tie by key."""
    place = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(suspects, key=lambda one: (place[one.kind], -one.score, one.key, one.message)))
