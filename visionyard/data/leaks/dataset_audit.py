"""The leak audit of data that is there already: a dataset version, or what `ingest` read, by its published splits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from visionyard.data.artifacts import IMAGES, SHARDS, read_manifest, read_problems
from visionyard.data.dataset import Dataset
from visionyard.data.given_splits import assign_given, check_unused, read_given_splits
from visionyard.data.items import SPLITS, Item, Problems, read_json_lines
from visionyard.data.leaks.audit import LEAK_BUDGET, AuditedImage, LeakCertificate, certify
from visionyard.data.leaks.near_duplicates import find_near_duplicates, without_other_labels
from visionyard.data.leaks.sketches import make_sketches
from visionyard.data.shards import read_blob
from visionyard.errors import DataError

Reader = Callable[[], bytes]


def audit_dataset(dataset: Dataset, *, leak_budget: float = LEAK_BUDGET, split_file: str = "") -> LeakCertificate:
    """Audit a dataset version anew, whatever certificate it carries.

    Args:
        dataset: The version, in a folder or streamed from the store.
        leak_budget: Share of val and test that may have a near-duplicate in another split, in [0, 1].
        split_file: The splits to audit, where it names some; empty: those of the version.

    Raises:
        ArtifactError: It is incomplete.
        MediaError: An image cannot be decoded; names it.
        SplitError: The file of splits is wrong, or names what is not there.
    """
    is_classification = dataset.task == "classification"
    images, readers = [], []
    for split in SPLITS:
        for sample in dataset.samples(split):
            class_name = dataset.classes[int(sample.class_ids[0])] if is_classification else None
            sha256 = bytes.fromhex(sample.sha256)
            images.append(
                AuditedImage(sample.key, sample.source, sample.group, sample.timestamp_s, sha256, split, class_name)
            )
            readers.append(partial(dataset.image_bytes, sample))
    if split_file:
        images = _with_given_splits(images, split_file, dataset.folder)
    return audit_images(images, readers, leak_budget=leak_budget)


def audit_sources(sources: Path, *, leak_budget: float = LEAK_BUDGET, split_file: str = "") -> LeakCertificate:
    """Audit the loose images that `ingest` read, by the splits that the source gave.

    An image without a split is taken as one of train. Where the source gave none at all nothing can leak; pairs within
    it are told as clusters. Clips are not looked into: extract their frames first.

    Args:
        sources: Folder of the ingest stage.
        leak_budget: Share of val and test that may have a near-duplicate in another split, in [0, 1].
        split_file: The splits to audit, where it names some; empty: those that the source gave.

    Raises:
        ArtifactError: It is incomplete.
        DataError: It holds no image.
        SplitError: The file of splits is wrong, or names what is not there.
    """
    read_manifest(sources, "sources")
    images, readers = [], []
    for item in _items(sources):
        sha256, split = bytes.fromhex(item.sha256), item.published_split or "train"
        images.append(AuditedImage(item.key, item.source, item.group, item.timestamp_s, sha256, split, item.class_name))
        readers.append(partial(read_blob, sources / SHARDS, item.blob))
    if not images:
        raise DataError(f"{sources}: there is no loose image to audit; make a dataset version of clips, and audit that")
    if split_file:
        images = _with_given_splits(images, split_file, sources)
    return audit_images(images, readers, leak_budget=leak_budget)


def _with_given_splits(images: Sequence[AuditedImage], split_file: str, folder: Path) -> list[AuditedImage]:
    given = read_given_splits(split_file)
    assignment = assign_given(given, images)
    # What was left out on the way here is known from the problems.
    check_unused(given, assignment, (problem.file for problem in read_problems(folder)), Problems())
    return [replace(image, split=split or image.split) for image, split in zip(images, assignment.splits, strict=True)]


def _items(sources: Path) -> Iterator[Item]:
    return map(Item.from_json, read_json_lines(sources / IMAGES))


def audit_images(
    images: Sequence[AuditedImage], readers: Sequence[Reader], *, leak_budget: float = LEAK_BUDGET
) -> LeakCertificate:
    """Search near-duplicates among all images and certify their splits.

    Args:
        images: What is known of each.
        readers: Of each image, what returns its encoded bytes; called in several threads.
        leak_budget: Share of val and test that may have a near-duplicate in another split, in [0, 1].

    Raises:
        MediaError: An image cannot be decoded; names it.
    """
    sketches = make_sketches(readers, [image.source for image in images])
    duplicates, _ = without_other_labels(find_near_duplicates(sketches), [image.class_name for image in images])
    return certify(images, duplicates, Problems(), leak_budget=leak_budget)
