"""The splits of an earlier dataset version, which its items keep in the next one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionyard.data.dataset import Dataset
from visionyard.data.items import SPLITS, Problems, Split
from visionyard.data.records import Record
from visionyard.errors import ArtifactError


@dataclass(frozen=True)
class PreviousSplits:
    """Where images and groups of an earlier version stand.

    Attributes:
        of_image: By SHA-256 of the image bytes.
        of_group: By group; of one that stands in several splits, the first of train, val, test.
    """

    of_image: Mapping[bytes, Split]
    of_group: Mapping[str, Split]


def read_previous(address: str) -> PreviousSplits:
    """Read the splits of a dataset version: a folder, or its address in the object store.

    Raises:
        ArtifactError: There is none, or of an unknown version.
        StorageError: The store cannot be read.
    """
    from visionyard.data.streaming.streamed import open_dataset

    dataset = open_dataset(address)
    if not isinstance(dataset, Dataset):
        raise ArtifactError(f"{address}: a table, expected a dataset version of images; name another one")
    of_image: dict[bytes, Split] = {}
    of_group: dict[str, Split] = {}
    for split in SPLITS:
        for sample in dataset.samples(split):
            of_image.setdefault(bytes.fromhex(sample.sha256), split)
            of_group.setdefault(sample.group, split)
    return PreviousSplits(of_image, of_group)


def kept_splits(
    records: Sequence[Record], joined: Mapping[str, str], previous: PreviousSplits, problems: Problems
) -> dict[str, Split]:
    """Return the split that each joined group keeps, without those of which nothing was there before.

    Args:
        records: All items of the new version.
        joined: From each group to the one it is joined with.
        previous: The earlier version.
        problems: Gets `split_changed` where images of two splits are now joined, and go to the first of train, val.
    """
    found: defaultdict[str, set[Split]] = defaultdict(set)
    for record in records:
        split = previous.of_image.get(record.sha256) or previous.of_group.get(record.group)
        if split:
            found[joined.get(record.group, record.group)].add(split)
    kept = {name: min(splits, key=SPLITS.index) for name, splits in found.items()}
    changed = [name for name, splits in found.items() if len(splits) > 1]
    if changed:
        problems.add(
            "split_changed",
            changed[0],
            f"{len(changed)} groups, this one first, hold images of two splits of data.previous that now belong "
            "together (near-duplicates, identical images); they go to train, else to val",
        )
    return kept
