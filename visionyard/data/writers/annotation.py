"""One image's label, as the formats that people label in take it: a person's word, or a model's."""

from dataclasses import dataclass

from visionyard.data.items import Box, Item


@dataclass(frozen=True)
class Annotation:
    """A label of one image.

    Attributes:
        size_wh: Width and height of the image, pixels.
        class_name: Of the whole image; None when there is none.
        boxes: Its objects.
        split: train, val or test; empty when no one said.
        scores: A model's confidence in each box, or in the class, in [0, 1]; empty where a person labelled.
    """

    size_wh: tuple[int, int]
    class_name: str | None = None
    boxes: tuple[Box, ...] = ()
    split: str = ""
    scores: tuple[float, ...] = ()

    @classmethod
    def of_item(cls, item: Item) -> "Annotation":
        """Return what a person said of an item."""
        return cls((item.width, item.height), item.class_name, item.boxes or (), item.published_split or "")
