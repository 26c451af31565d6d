"""Label Studio's exports JSON and JSON-MIN: tasks with the regions or choices of those who annotated them.

A file is read twice, a task at a time; of each task only its image and its place are held. Of several annotations of
one task the newest that was not cancelled counts. Predictions are no labels. Images are looked for in the source by
the names in the tasks, whatever server or upload folder these name.

Source: Label Studio documentation, https://labelstud.io/guide/export.html and https://labelstud.io/guide/task_format.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from visionyard.data.formats.image_lookup import ImageLookup, NotFound
from visionyard.data.formats.json_reading import json_values, read_value
from visionyard.data.formats.label_studio_references import image_of_task, without_upload_mark
from visionyard.data.formats.label_studio_shapes import choices_of, is_region, read_region, regions_of, size_of
from visionyard.data.formats.reading import (
    ImageLabels,
    RawBox,
    Reading,
    SourceFormat,
    SourceImage,
    split_of_folder,
    split_of_path,
    unlabelled,
)
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problems, Split
from visionyard.errors import DataError

_LOOKED_AT = 50
_HEAD_BYTES = 8 << 20
# What JSON-MIN writes beside the data and the results.
_MIN_KEYS = {"annotation_id", "annotator", "lead_time", "created_at", "updated_at"}
# Names of controls whose value is a class: usual ones, and that of our own labelling configuration.
_CHOICE_KEYS = {"choice", "choices", "class"}


@dataclass(frozen=True)
class _Task:
    """Where a task stands, and what it is of.

    Attributes:
        item: What messages call it.
        start: Its first byte.
        stop: The byte behind it.
        reference: Its image, as written; empty when it names none.
        split: As its data say; None when they do not.
        time: Of its newest annotation, for JSON-MIN, which has a row for each annotation.
    """

    item: str
    start: int
    stop: int
    reference: str
    split: Split | None
    time: str


@dataclass
class _File:
    name: str
    tasks: list[_Task] = field(default_factory=list)
    has_regions: bool = False
    has_choices: bool = False


@dataclass(frozen=True)
class _Annotation:
    """The annotation of a task that counts: its regions, and the classes chosen for the whole image."""

    regions: list[Any]
    choices: list[str]


def evidence(tree: SourceTree) -> str:
    """Return what shows such a source: a JSON list whose first entry is a task of Label Studio, and images."""
    images = tree.images()
    files = tree.with_extension(".json")[:_LOOKED_AT] if images else []
    found = next((file.name for file in files if _is_export(tree, file.name)), "")
    return f"{found} with tasks of Label Studio, {len(images)} images" if found else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read images with exports of Label Studio.

    Raises:
        DataError: No file is such an export, or one cannot be read to its end.
    """
    names = [file.name for file in tree.with_extension(".json") if _is_export(tree, file.name)]
    if not names:
        count = len(tree.with_extension(".json"))
        raise DataError(
            f"{tree.label}: none of {count} JSON files is an export of Label Studio; expected a list of tasks with "
            "data and annotations (JSON), or of rows with annotation_id (JSON-MIN)"
        )
    files = [_survey(tree, name, problems) for name in names]
    labelled = _labelled_images(tree, files, problems)
    is_chosen = not any(file.has_regions for file in files) and any(file.has_choices for file in files)
    for file in files:
        if file.has_choices and not is_chosen:
            message = "choices for whole images are left out: the source is read for its regions"
            problems.add("tag_left_out", file.name, message)
    images = _items(tree, labelled, problems, is_chosen=is_chosen)
    return Reading(len(tree.images()), images=images, task="classification" if is_chosen else "detection")


def _is_export(tree: SourceTree, name: str) -> bool:
    """Return whether a file's first entry is a task; looks no further than that."""
    try:
        first = next(json_values(tree.path(name), name, max_value_bytes=_HEAD_BYTES), None)
    except DataError:
        return False
    if first is None or first.key or not isinstance(first.value, dict):
        return False
    task = first.value
    is_full = isinstance(task.get("data"), dict) and bool({"annotations", "completions", "predictions"} & set(task))
    return is_full or len(_MIN_KEYS & set(task)) >= 3


def _survey(tree: SourceTree, name: str, problems: Problems) -> _File:
    file = _File(name)
    for each in json_values(tree.path(name), name):
        task = each.value
        item = f"task {str(task['id'])[:40]}" if isinstance(task, dict) and "id" in task else f"byte {each.start}"
        if each.key or not isinstance(task, dict):
            problems.add("malformed_entry", name, f"expected a task, got {str(task)[:40]!r}; left out", item)
            continue
        data = task["data"] if isinstance(task.get("data"), dict) else task
        annotation = _annotation(task, item, name, Problems())
        if annotation is not None:
            file.has_regions = file.has_regions or bool(annotation.regions)
            file.has_choices = file.has_choices or bool(annotation.choices)
        split = split_of_folder(str(data.get("split")))
        time = str(task.get("updated_at") or task.get("created_at") or "")
        reference = image_of_task(data)
        file.tasks.append(_Task(item, each.start, each.stop, reference, split, time))
    return file


def _annotation(task: dict[str, Any], item: str, file: str, problems: Problems) -> _Annotation | None:
    """Return the annotation that counts; None when no one annotated the task."""
    if not isinstance(task.get("data"), dict):
        return _of_row(task)
    annotations = task.get("annotations", task.get("completions"))
    entries = [each for each in annotations if isinstance(each, dict)] if isinstance(annotations, list) else []
    kept = [each for each in entries if not each.get("was_cancelled") and isinstance(each.get("result"), list)]
    if not kept:
        return None
    kept.sort(key=_time)
    if len(kept) > 1:
        message = f"{len(kept)} annotations; the newest, of {_time(kept[-1]) or 'no time'}, is taken"
        problems.add("several_annotations", file, message, item)
    results = kept[-1]["result"]
    chosen = [
        choices_of(each.get("value")) for each in results if isinstance(each, dict) and each.get("type") == "choices"
    ]
    return _Annotation(list(regions_of(results)), [name for names in chosen for name in names])


def _time(annotation: dict[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _of_row(row: dict[str, Any]) -> _Annotation:
    """Return what a row of JSON-MIN says."""
    regions: list[Any] = []
    choices: list[str] = []
    for key, value in row.items():
        entries = value if isinstance(value, list) else []
        found = [each for each in entries if isinstance(each, dict) and is_region(each, None)]
        regions += found
        if not found and (key in _CHOICE_KEYS or (isinstance(value, dict) and "choices" in value)):
            choices += choices_of(value)
    return _Annotation(regions, choices)


def _labelled_images(tree: SourceTree, files: list[_File], problems: Problems) -> dict[str, tuple[str, _Task]]:
    """Return for each image the file and the task that label it."""
    lookup = ImageLookup(tree)
    labelled: dict[str, tuple[str, _Task]] = {}
    for file in files:
        beside = PurePosixPath(file.name).parent
        # JSON-MIN names an image once for each annotation: that is one image.
        splits = {task.reference: task.split for task in file.tasks if task.reference}
        found = dict(zip(splits, lookup.resolve(list(splits), beside=beside, split=list(splits.values()))))
        plain = {each: without_upload_mark(each) for each, image in found.items() if isinstance(image, NotFound)}
        plain = {each: name for each, name in plain.items() if name != each}
        again = lookup.resolve(list(plain.values()), beside=beside, split=[splits[each] for each in plain])
        found |= {each: image for each, image in zip(plain, again) if not isinstance(image, NotFound)}
        for task in file.tasks:
            image = found.get(task.reference, NotFound("image_not_found", "the task names no image"))
            _assign(image, file.name, task, labelled, problems)
    return labelled


def _assign(
    image: SourceFile | NotFound,
    file: str,
    task: _Task,
    labelled: dict[str, tuple[str, _Task]],
    problems: Problems,
) -> None:
    if isinstance(image, NotFound):
        problems.add(image.code, file, f"{image.message}; its labels are left out", task.item)
        return
    if image.name in labelled:
        first_file, first = labelled[image.name]
        message = f"{image.name} has labels from {first_file}, {first.item}, too; the newest are taken"
        problems.add("image_labelled_twice", file, message, task.item)
        if task.time <= first.time:
            return
    labelled[image.name] = (file, task)


def _items(
    tree: SourceTree, labelled: dict[str, tuple[str, _Task]], problems: Problems, *, is_chosen: bool
) -> Iterator[SourceImage]:
    for image in tree.images():
        if image.name not in labelled:
            yield unlabelled(image, "no task of Label Studio is of it", problems)
            continue
        file, task = labelled[image.name]
        split = task.split or split_of_path(image.path)
        with tree.path(file).open("rb") as stream:
            annotation = _annotation(read_value(stream, task.start, task.stop), task.item, file, problems)
        if annotation is None:
            problems.add("image_without_labels", image.name, f"{file}, {task.item}: no one annotated it, or skipped it")
            yield SourceImage(image, published_split=split)
        elif is_chosen:
            yield SourceImage(image, class_name=_class(annotation, file, task, problems), published_split=split)
        else:
            yield SourceImage(image, labels=_labels(annotation, file, task, problems), published_split=split)


def _class(annotation: _Annotation, file: str, task: _Task, problems: Problems) -> str | None:
    names = list(dict.fromkeys(annotation.choices))
    if len(names) > 1:
        message = f"it has the choices {', '.join(names[:5])}, expected one; kept as unlabelled"
        problems.add("several_classes", file, message, task.item)
    return names[0] if len(names) == 1 else None


def _labels(annotation: _Annotation, file: str, task: _Task, problems: Problems) -> ImageLabels:
    boxes: list[RawBox] = []
    for number, region in enumerate(annotation.regions, start=1):
        box = read_region(region, f"{task.item}, region {number}", file, problems)
        boxes += [box] if box else []
    sizes = {size_of(region) for region in annotation.regions} - {None}
    return ImageLabels(
        file,
        tuple(boxes),
        has_faults=len(boxes) < len(annotation.regions),
        is_normalized=True,
        size_wh=sizes.pop() if len(sizes) == 1 else None,
    )


FORMAT = SourceFormat(
    kind="images_label_studio",
    task="detection",
    expected="images with a JSON or JSON-MIN export of Label Studio",
    evidence=evidence,
    read=read,
)
