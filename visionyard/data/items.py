"""What the data stages pass on: labelled images, clips with their tracks, and problems found."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from visionyard.data.shards import Blob
from visionyard.geometry import Mask, Xyxy

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Task = Literal["classification", "detection", "semantic_segmentation"]
# What a model plugin learns: the task that images are labelled for, or that of a table's target.
LearnedTask = Literal[
    "classification", "detection", "semantic_segmentation", "table_classification", "table_regression"
]


@dataclass(frozen=True)
class Box:
    """A labelled object.

    Attributes:
        class_name: Its class.
        xyxy: Pixels of the image as displayed (EXIF orientation and video rotation applied).
        mask: Its pixels, of the image's size; None when only the box was drawn.
        is_crowd: Whether it is a crowd of objects that nobody told apart, as COCO's `iscrowd`.
    """

    class_name: str
    xyxy: Xyxy
    mask: Mask | None = None
    is_crowd: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values; mask and crowd only where there is one."""
        values: dict[str, Any] = {"class_name": self.class_name, "xyxy": list(self.xyxy)}
        if self.mask is not None:
            values["mask"] = self.mask.to_json()
        return {**values, "is_crowd": True} if self.is_crowd else values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Box":
        """Return the box that `to_json` described."""
        mask = Mask.from_json(values["mask"]) if "mask" in values else None
        return cls(values["class_name"], tuple(values["xyxy"]), mask, values.get("is_crowd", False))


@dataclass(frozen=True)
class Item:
    """One image with its label.

    Attributes:
        key: Unique in its artifact; letters, digits, `-`, `_` only (a dot would end a WebDataset key).
        source: Path of the image or clip within the source, POSIX, relative.
        group: Items of one group never stand in two splits.
        sha256: Of the stored image bytes.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        blob: Where the image bytes lie in this artifact.
        class_name: Label of a classification; None when unlabelled.
        boxes: Label of a detection; empty when a person said nothing is there; None when unlabelled.
        mask_blob: Label of a semantic segmentation: where a PNG of the image's size lies in this artifact, 8 bits a
            pixel, the class's place in the artifact's classes, 255 where no one said; None when there is none.
        mask_sha256: Of that PNG.
        mask_classes: The classes that it shows, in the order of their ids.
        timestamp_s: Presentation time in its clip, from the clip's first frame; None for a loose image.
        published_split: The split that the source itself gave; None when it gave none.
    """

    key: str
    source: str
    group: str
    sha256: str
    width: int
    height: int
    blob: Blob
    class_name: str | None = None
    boxes: tuple[Box, ...] | None = None
    timestamp_s: float | None = None
    published_split: Split | None = None
    mask_blob: Blob | None = None
    mask_sha256: str | None = None
    mask_classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON line; those of a mask only where there is one."""
        # Not asdict, which copies each value deeply: a sixth of the time that ingest takes for a small image.
        values = {
            **vars(self),
            "blob": self.blob.to_json(),
            "boxes": None if self.boxes is None else [box.to_json() for box in self.boxes],
        }
        if self.mask_blob is None:
            return {name: value for name, value in values.items() if not name.startswith("mask_")}
        return {**values, "mask_blob": self.mask_blob.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Item":
        """Return the item that `to_json` described."""
        boxes, mask_blob = values["boxes"], values.get("mask_blob")
        return cls(
            **{
                **values,
                "blob": Blob(**values["blob"]),
                "boxes": None if boxes is None else tuple(Box.from_json(box) for box in boxes),
                "mask_blob": mask_blob and Blob(**mask_blob),
                "mask_classes": tuple(values.get("mask_classes", ())),
            }
        )


@dataclass(frozen=True)
class TrackShape:
    """A track's box at one frame of its clip; `is_outside` ends its visibility from that frame on."""

    frame_index: int
    xyxy: Xyxy
    is_outside: bool = False


@dataclass(frozen=True)
class Track:
    """One object followed through a clip; between shapes its box is interpolated linearly."""

    class_name: str
    shapes: tuple[TrackShape, ...]


@dataclass(frozen=True)
class Clip:
    """One video file with its label.

    Attributes:
        source: Path within the source, POSIX, relative.
        group: As in `Item`.
        sha256: Of the video file.
        media_type: Sniffed from its bytes, such as `video/mp4`.
        blob: Where its bytes lie in this artifact.
        class_name: Label of the whole clip; None when there is none.
        tracks: Annotated objects; None when the clip has no annotation.
        published_split: The split that the source itself gave; None when it gave none.
    """

    source: str
    group: str
    sha256: str
    media_type: str
    blob: Blob
    class_name: str | None = None
    tracks: tuple[Track, ...] | None = None
    published_split: Split | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON line."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Clip":
        """Return the clip that `to_json` described."""
        tracks = values["tracks"]
        return cls(
            **{
                **values,
                "blob": Blob(**values["blob"]),
                "tracks": None if tracks is None else tuple(_track_from_json(track) for track in tracks),
            }
        )


def _track_from_json(values: Mapping[str, Any]) -> Track:
    shapes = tuple(
        TrackShape(shape["frame_index"], tuple(shape["xyxy"]), shape["is_outside"]) for shape in values["shapes"]
    )
    return Track(class_name=values["class_name"], shapes=shapes)


@dataclass(frozen=True)
class Problem:
    """Something wrong in the data that was found and dealt with.

    Attributes:
        code: A short word for its kind, such as `box_without_area`; the same word for the same kind everywhere.
        file: Path within the source.
        item: What in the file: `object 3`, `line 12`, a box, a time; empty when it is the whole file.
        message: What is wrong, with the value, and what was done about it.
    """

    code: str
    file: str
    message: str
    item: str = ""

    def __str__(self) -> str:
        """Return place and message, as one line."""
        place = ", ".join(part for part in (self.file, self.item) if part)
        return f"{place}: {self.message}" if place else self.message

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON line."""
        return asdict(self)


@dataclass
class Problems:
    """Collects problems and counts them by code; keeps them all, since a person wants the whole list."""

    found: list[Problem] = field(default_factory=list)

    def add(self, code: str, file: str, message: str, item: str = "") -> None:
        """Add one problem."""
        self.found.append(Problem(code=code, file=file, message=message, item=item))

    def counts(self) -> dict[str, int]:
        """Return the number of problems by code, sorted by code."""
        counts: dict[str, int] = {}
        for problem in self.found:
            counts[problem.code] = counts.get(problem.code, 0) + 1
        return dict(sorted(counts.items()))


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n")
            count += 1
    return count


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON lines file, one at a time."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)
