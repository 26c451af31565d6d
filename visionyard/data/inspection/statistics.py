"""What is counted of labelled images: plain numbers, of a size that does not grow with the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionyard.data.inspection.histogram import Histogram
from visionyard.data.items import Task


@dataclass(frozen=True)
class ClassCounts:
    """How much shows a class.

    Attributes:
        name: The class.
        items: By split, images that show it.
        boxes: By split, its boxes; empty unless for detection.
        mask_count: Boxes that have a mask.
        pixels: By split, its pixels; empty unless for semantic segmentation.
        side_px: Of its boxes, the square root of the area.
    """

    name: str
    items: Mapping[str, int]
    boxes: Mapping[str, int]
    mask_count: int
    pixels: Mapping[str, int]
    side_px: Histogram

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "items": dict(self.items),
            "boxes": dict(self.boxes),
            "mask_count": self.mask_count,
            "pixels": dict(self.pixels),
            "side_px": self.side_px.to_json(),
            "median_side_px": self.side_px.quantile(0.5),
        }


@dataclass(frozen=True)
class Extreme:
    """An image at the end of a scale.

    Attributes:
        key: The image.
        source: Its path within the source.
        value: Where it stands.
    """

    key: str
    source: str
    value: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"key": self.key, "source": self.source, "value": self.value}


@dataclass(frozen=True)
class Looks:
    """How the images look, of those that were decoded.

    Attributes:
        measured_count: Images decoded, spread evenly over all.
        unreadable_count: Of these, images that could not be decoded.
        brightness: Mean grey level, 0 to 255.
        sharpness: log10 of 1 + the variance of the Laplacian, see `visionyard.video.selection.sharpness`.
        darkest: A few images, the darkest first; the next two likewise.
        brightest: The brightest first.
        blurriest: The least sharp first.
    """

    measured_count: int
    unreadable_count: int
    brightness: Histogram
    sharpness: Histogram
    darkest: tuple[Extreme, ...]
    brightest: tuple[Extreme, ...]
    blurriest: tuple[Extreme, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "measured_count": self.measured_count,
            "unreadable_count": self.unreadable_count,
            "brightness": self.brightness.to_json(),
            "sharpness": self.sharpness.to_json(),
            "darkest": [one.to_json() for one in self.darkest],
            "brightest": [one.to_json() for one in self.brightest],
            "blurriest": [one.to_json() for one in self.blurriest],
        }


@dataclass(frozen=True)
class Inspection:
    """What labelled images hold.

    Attributes:
        label: What they are called.
        task: What the labels are for.
        items: By split (`none` where no one put an image into one), images.
        groups: By split, groups.
        item_count: Images in all.
        unlabelled_count: Images of which no one said what they show.
        background_count: Images of which someone said that they show nothing.
        crowd_count: Boxes that are crowds.
        classes: In the order of their ids.
        image_sizes: Width, height and count of the most frequent sizes, those first.
        image_size_count: Different sizes in all.
        image_sides_px: Of the longer sides of all images.
        image_side_quantiles_px: Of the longer sides, exactly: 5 %, half and 95 % are at most so long.
        boxes_per_image: Of labelled images; empty unless for detection.
        box_sides_px: Square roots of the boxes' areas.
        box_share: Areas of the boxes as share of their image's.
        coverage: Rows of columns: share of the boxes that cover this part of their image; empty when there are none.
        looks: How the images look.
        problem_counts: Problems found on the way here, by code.
    """

    label: str
    task: Task
    items: Mapping[str, int]
    groups: Mapping[str, int]
    item_count: int
    unlabelled_count: int
    background_count: int
    crowd_count: int
    classes: tuple[ClassCounts, ...]
    image_sizes: tuple[tuple[int, int, int], ...]
    image_size_count: int
    image_sides_px: Histogram
    image_side_quantiles_px: tuple[int, int, int]
    boxes_per_image: Histogram
    box_sides_px: Histogram
    box_share: Histogram
    coverage: tuple[tuple[float, ...], ...]
    looks: Looks
    problem_counts: Mapping[str, int]

    @property
    def box_count(self) -> int:
        """Boxes in all."""
        return sum(self.box_sides_px.counts)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "label": self.label,
            "task": self.task,
            "items": dict(self.items),
            "groups": dict(self.groups),
            "item_count": self.item_count,
            "unlabelled_count": self.unlabelled_count,
            "background_count": self.background_count,
            "crowd_count": self.crowd_count,
            "box_count": self.box_count,
            "classes": [one.to_json() for one in self.classes],
            "image_sizes": [list(size) for size in self.image_sizes],
            "image_size_count": self.image_size_count,
            "image_sides_px": self.image_sides_px.to_json(),
            "image_side_quantiles_px": list(self.image_side_quantiles_px),
            "boxes_per_image": self.boxes_per_image.to_json(),
            "box_sides_px": self.box_sides_px.to_json(),
            "box_share": self.box_share.to_json(),
            "coverage": [list(row) for row in self.coverage],
            "looks": self.looks.to_json(),
            "problem_counts": dict(self.problem_counts),
        }
