"""Items of both input artifacts as compact records: the metadata of a whole dataset in memory, never its images.

With three boxes an item costs about 1.1 kB (benchmarks/data_packing.py, without the audit's sketches), so a million
labelled images take about 1 GB; a mask adds about 0.3 kB (the same with --masks).
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visionyard.data.items import SPLITS, Split
from visionyard.data.shards import Blob


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image that goes into the dataset version.

    Attributes:
        key: As in `visionyard.data.items.Item`, unique over both artifacts; so are the next five.
        source: Path of the image or clip within the source.
        group: The source's own group.
        timestamp_s: Time in its clip, None for a loose image.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        sha256: Of the image bytes, 32 bytes.
        published_split: The split that the source itself gave.
        artifact: Which of the input folders holds the image.
        shard: Where in the artifact; `offset` and `size` likewise.
        extension: What the image bytes really are: `jpg`, `png`, ...
        class_ids: Of the boxes in order, the one class of the image, or those that its semantic mask shows.
        xyxy: Box after box, pixels; None unless it is for detection.
        masks: Of each box, the run lengths of its mask (`visionyard.geometry.Mask.counts`) at the image's size, None
            for a box without one; None when no box has one.
        is_crowd: Of each box, whether it is a crowd; None when none is.
        mask_blob: Where the PNG of a semantic segmentation lies, its ids those of the artifact's classes.
        mask_sha256: Of that PNG, 32 bytes.
        sketch: Where `visionyard.data.health.Intake.sketches` has the image's.
    """

    key: str
    source: str
    group: str
    timestamp_s: float | None
    width: int
    height: int
    sha256: bytes
    published_split: Split | None
    artifact: int
    shard: str
    offset: int
    size: int
    extension: str
    class_ids: tuple[int, ...]
    xyxy: "array[float] | None"
    masks: tuple[str | None, ...] | None = None
    is_crowd: tuple[bool, ...] | None = None
    mask_blob: Blob | None = None
    mask_sha256: bytes | None = None
    sketch: int = 0

    @property
    def blob(self) -> Blob:
        """Where the image bytes lie in their artifact."""
        return Blob(self.shard, self.offset, self.size)

    @property
    def place(self) -> str:
        """Where a person finds the image: its path, and the time in a clip."""
        return self.source if self.timestamp_s is None else f"{self.source} at {self.timestamp_s:.3f} s"

    def has_label_of(self, other: "Record") -> bool:
        """Return whether both carry the same label."""
        return self._label == other._label

    @property
    def _label(self) -> tuple[object, ...]:
        return self.class_ids, self.xyxy, self.masks, self.is_crowd, self.mask_sha256


def class_counts(
    records: Iterable[Record], splits: Iterable[Split], classes: Sequence[str]
) -> dict[str, dict[str, dict[str, int]]]:
    """Count by split and class name: `items` that show the class, and `boxes` of it (0 unless for detection)."""
    counts = {split: {name: {"items": 0, "boxes": 0} for name in classes} for split in SPLITS}
    for record, split in zip(records, splits, strict=True):
        for class_id in set(record.class_ids):
            entry = counts[split][classes[class_id]]
            entry["items"] += 1
            entry["boxes"] += record.class_ids.count(class_id) if record.xyxy is not None else 0
    return {str(split): by_class for split, by_class in counts.items()}
