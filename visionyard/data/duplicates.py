"""Find images that are in the data twice."""

from collections import Counter, defaultdict

from visionyard.data.health import Intake
from visionyard.data.items import Problems
from visionyard.data.records import Record


def drop_duplicates(intake: Intake, *, within_published: bool, problems: Problems) -> None:
    """Keep one of several items with the same bytes and the same label, and note which groups share an image.

    Args:
        intake: Loses the others; which one is kept does not depend on the order of listing.
        within_published: Keep one in each published split, so that the leak certificate can tell of the others.
        problems: Gets `duplicate_image` and `conflicting_labels`.
    """
    numbers = Counter(record.sha256 for record in intake.records)
    copies: dict[bytes, list[Record]] = defaultdict(list)
    for record in intake.records:
        if numbers[record.sha256] > 1:
            copies[record.sha256].append(record)
    dropped: set[str] = set()
    for records in copies.values():
        records.sort(key=lambda record: (record.source, record.timestamp_s or 0.0, record.key))
        intake.same_images += [(records[0].group, record.group) for record in records[1:]]
        dropped |= _superfluous(records, within_published=within_published, problems=problems)
    intake.records = [record for record in intake.records if record.key not in dropped]


def _superfluous(records: list[Record], *, within_published: bool, problems: Problems) -> set[str]:
    """Return the keys to drop of records with the same bytes."""
    dropped: set[str] = set()
    kept: list[Record] = []
    for record in records:
        same = [other for other in kept if other.has_label_of(record)]
        if within_published:
            same = [other for other in same if other.published_split == record.published_split]
        if same:
            message = f"the same image and label as {same[0].place}; left out"
            problems.add("duplicate_image", record.source, message, record.key)
            dropped.add(record.key)
            continue
        if kept and not kept[0].has_label_of(record):
            message = f"the same image as {kept[0].place} with another label; both are kept"
            problems.add("conflicting_labels", record.source, message, record.key)
        kept.append(record)
    return dropped
