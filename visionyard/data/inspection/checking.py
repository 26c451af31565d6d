"""The health check alone: of a dataset version against its own index, of raw input as prepare_dataset would make it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.class_masks import decode_class_mask
from visionyard.data.duplicates import drop_duplicates
from visionyard.data.health import check_balance, check_health
from visionyard.data.items import Problem, Problems
from visionyard.data.labelled import LabelledImage, LabelledSet
from visionyard.data.threads import in_threads
from visionyard.digests import sha256_bytes
from visionyard.errors import ArtifactError, DataError
from visionyard.transforms import decode_image

# Advice: nothing was lost, and nothing contradicts anything. Whatever else is found left a label or an image out,
# changed one, or says two things of one image.
ADVICE_CODES = frozenset(
    {
        "class_count_differs",
        "class_imbalance",
        "class_missing_in_split",
        "class_with_few_groups",
        "class_without_boxes",
        "class_without_items",
        "clip_without_labels",
        "column_like_an_id",
        "constant_column",
        "decimal_comma",
        "duplicate_image",
        "duplicate_rows",
        "encoding_guessed",
        "extension_differs",
        "image_without_labels",
        "near_duplicates_across_splits",
        "parent_class_left_out",
        "split_not_found",
        "text_column",
        "tiny_image",
    }
)


@dataclass(frozen=True)
class CheckReport:
    """What the check found.

    Attributes:
        item_count: Images (rows of a table) looked at.
        usable_count: Of these, those that can be trained on.
        problems: All problems; of raw input those of reading it first.
    """

    item_count: int
    usable_count: int
    problems: tuple[Problem, ...]

    @property
    def serious_count(self) -> int:
        """Problems that are more than advice."""
        return sum(problem.code not in ADVICE_CODES for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "item_count": self.item_count,
            "usable_count": self.usable_count,
            "serious_count": self.serious_count,
            "problem_counts": Problems(list(self.problems)).counts(),
            "problems": [
                {**problem.to_json(), "is_serious": problem.code not in ADVICE_CODES} for problem in self.problems
            ],
        }


def check_version(labelled: LabelledSet) -> CheckReport:
    """Read every image and mask of a dataset version: the bytes must be those of its index, and decode.

    Its own list of problems is left out: they were found, and dealt with, when it was made.

    Args:
        labelled: The images of the version.
    """
    problems: list[Problem] = []
    for done, problem in enumerate(in_threads(_fault, labelled.images()), start=1):
        events.progress(done, labelled.item_count, unit="image", label="checking")
        problems += [problem] if problem else []
    return CheckReport(labelled.item_count, labelled.item_count - len(problems), tuple(problems))


def _fault(image: LabelledImage) -> Problem | None:
    """Return what is wrong with an image of a version, None when it is whole."""
    item = image.item
    try:
        data = image.image_bytes()
        if sha256_bytes(data) != item.sha256:
            message = f"the bytes of {item.key} are not those that its index names (SHA-256 {item.sha256[:12]}...)"
            return Problem("image_altered", item.source, f"{message}; fetch or make the version again")
        shape = decode_image(data).shape[:2]
        if item.mask_blob is not None and decode_class_mask(image.mask_bytes()).shape != shape:
            return Problem("mask_size_differs", item.source, f"the mask of {item.key} is not of its image's size")
    except (ArtifactError, DataError) as error:
        return Problem("unreadable_image", item.source, f"{item.key}: {error}")
    if shape != (item.height, item.width):
        message = f"{item.key} has {shape[1]}x{shape[0]} px, its index says {item.width}x{item.height}"
        return Problem("size_differs", item.source, message)
    return None


def check_stages(sources: Path, frames: Path) -> CheckReport:
    """Check what ingest and extract_frames wrote, as prepare_dataset does.

    Args:
        sources: Of the ingest stage.
        frames: Of the extract_frames stage.

    Raises:
        DataError: There is no image, no usable label, or there are labels of two tasks.
        ArtifactError: A folder is incomplete, altered or of an unknown version.
    """
    folders = (sources, frames)
    manifest = read_manifest(sources, "sources")
    problems = Problems([problem for folder in folders for problem in read_problems(folder)])
    intake = check_health(folders, listed=manifest.get("classes") or (), wanted=(), problems=problems)
    item_count = int(manifest["image_count"]) + int(read_manifest(frames, "frames")["frame_count"])
    usable_count = len(intake.records)
    # As published: whether copies of one image matter depends on the split, which the audit judges.
    drop_duplicates(intake, within_published=True, problems=problems)
    check_balance(intake, problems)
    return CheckReport(item_count, usable_count, tuple(problems.found))
