"""CVAT for video 1.1: XML with tracks, for the clip that its `<source>` names, else the clip of its own name.

A track's shapes are kept as they stand, keyframes and others: between them a box moves linearly, which is how CVAT
itself fills in the rest; one that is outside ends the visibility until the next that is not, and the last goes on to
the end. Of polygons, masks, ellipses and cuboids the upright box around them is taken, of polylines, points and
skeletons nothing. Frames count from 0 of the whole video. One clip's tracks are in memory at a time.

Source: CVAT documentation, XML annotation format, version 1.1, interpolation mode; for what lies between shapes
`TrackManager.get_interpolated_shapes` in `cvat/apps/dataset_manager/annotation.py` of cvat-ai/cvat.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from visionyard.data.box_checks import checked_xyxy
from visionyard.data.formats.cvat_xml import (
    BOXED_SHAPES,
    OTHER_SHAPES,
    Labels,
    first_of_mode,
    read_shape,
    refuse_mode,
)
from visionyard.data.formats.reading import ROUNDING_PX, Reading, SourceClip, SourceFormat, split_of_path
from visionyard.data.formats.source_tree import SourceTree
from visionyard.data.formats.xml_reading import XML_ERRORS, number_of, size_of, xml_events
from visionyard.data.items import Problems, Track, TrackShape
from visionyard.errors import DataError


@dataclass(frozen=True)
class _Meta:
    """What the head of a file says.

    Attributes:
        source: File name of the clip; empty when it does not say.
        labels: Those it declares.
        size_wh: Of the clip; None when it does not say.
    """

    source: str
    labels: Labels
    size_wh: tuple[int, int] | None


def evidence(tree: SourceTree) -> str:
    """Return what shows such a source: an XML file of CVAT with tracks, and clips."""
    clips = tree.clips()
    found = first_of_mode(tree, "video") if clips else ""
    return f"{found} with CVAT's <annotations> of tracks, {len(clips)} clips" if found else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read clips with CVAT-for-video XML.

    Raises:
        DataError: A file is CVAT for images, or holds a project of several tasks.
    """
    clips = [clip.path for clip in tree.clips()]
    by_clip: dict[str, tuple[str, _Meta]] = {}
    for file in tree.with_extension(".xml"):
        meta = _read_meta(tree, file.name, problems)
        clip = _clip_of(clips, file.path, meta) if meta else None
        if meta and clip is None:
            message = f"its clip {(meta.source or file.path.stem)[:120]!r} is not in the source; left out"
            problems.add("labels_without_clip", file.name, message)
        elif meta and clip is not None and clip in by_clip:
            problems.add("clip_labelled_twice", file.name, f"{clip} has its labels from {by_clip[clip][0]}; left out")
        elif meta and clip is not None:
            by_clip[clip] = (file.name, meta)
    return Reading(len(clips), clips=_items(tree, by_clip, problems))


def _items(tree: SourceTree, by_clip: dict[str, tuple[str, _Meta]], problems: Problems) -> Iterator[SourceClip]:
    used: set[str] = set()
    for file in tree.clips():
        tracks = None
        if file.name in by_clip:
            name, meta = by_clip[file.name]
            tracks = _read_tracks(tree, name, meta, problems)
            used |= {track.class_name for track in tracks or ()}
        else:
            problems.add("clip_without_labels", file.name, "no XML names it; kept as unlabelled")
        yield SourceClip(file, tracks=tracks, published_split=split_of_path(file.path))
    declared = {label for _, meta in by_clip.values() for label in meta.labels.names}
    if used and declared - used:
        unused = sorted(declared - used)
        message = (
            f"{len(unused)} of {len(declared)} labels have no track: {', '.join(unused[:20])[:400]}; no classes of ours"
        )
        problems.add("class_without_boxes", next(iter(by_clip.values()))[0], message, "labels")


def _clip_of(clips: Sequence[PurePosixPath], file: PurePosixPath, meta: _Meta) -> str | None:
    """Return the clip a file is for: named by `<source>`, nearest first, else the one of the file's own name."""
    wanted = PurePosixPath(meta.source.replace("\\", "/")).name
    named = [path for path in clips if path.name == wanted] or [path for path in clips if path.stem == file.stem]
    beside = [path for path in named if path.parent == file.parent]
    if len(beside) == 1:
        return str(beside[0])
    return str(named[0]) if len(named) == 1 else None


def _read_meta(tree: SourceTree, name: str, problems: Problems) -> _Meta | None:
    """Return the head of a CVAT file; None for XML of another kind, which is passed over, or that cannot be read."""
    root = ""
    try:
        with closing(xml_events(tree.path(name), name)) as parsed:
            for event, element in parsed:
                root = root or element.tag
                if root != "annotations":
                    return None
                if element.tag == "image":
                    raise refuse_mode(name, "images")
                if element.tag == "track" or (event == "end" and element.tag == "meta"):
                    return _meta(element if element.tag == "meta" else Element("meta"), name)
    except XML_ERRORS as error:
        problems.add("unreadable_labels", name, f"not well-formed XML ({error}); left out")
        return None
    return _Meta("", Labels(), None)


def _meta(element: Element, name: str) -> _Meta:
    task_count = len(element.findall("project/tasks/task"))
    if task_count > 1:
        raise DataError(f"{name}: holds a project of {task_count} tasks; export each task by itself")
    sources = [text for node in element.iter("source") if (text := (node.text or "").strip())]
    size = next(element.iter("original_size"), Element("original_size"))
    size_wh = size_of(size.findtext("width"), size.findtext("height"))
    return _Meta(sources[0] if sources else "", Labels.of(element), size_wh)


def _read_tracks(tree: SourceTree, name: str, meta: _Meta, problems: Problems) -> tuple[Track, ...] | None:
    tracks: list[Track] = []
    count = depth = 0
    try:
        for event, element in xml_events(tree.path(name), name):
            if element.tag != "track":
                continue
            depth += 1 if event == "start" else -1
            # The points of a skeleton are tracks within its track.
            if event == "end" and depth == 0:
                count += 1
                track = _track(element, f"track {element.get('id', count - 1)}", name, meta, problems)
                tracks += [track] if track else []
                element.clear()
    except XML_ERRORS as error:
        problems.add("unreadable_labels", name, f"not well-formed XML ({error}); its clip counts as unlabelled")
        return None
    return None if count and not tracks else tuple(tracks)


def _track(element: Element, item: str, file: str, meta: _Meta, problems: Problems) -> Track | None:
    label = meta.labels.checked(element, item, file, problems)
    if label is None:
        return None
    tags = {child.tag for child in element}
    for tag in sorted(tags & OTHER_SHAPES):
        problems.add("shape_not_supported", file, f"<{tag}> has no inside; such shapes are dropped", item)
    for tag in sorted(tags & (BOXED_SHAPES - {"box"})):
        problems.add("shape_as_box", file, f"<{tag}>: the upright boxes around such shapes are taken", item)
    shapes: dict[int, TrackShape] = {}
    for child in element:
        shape = _shape(child, item, file, meta, problems) if child.tag in BOXED_SHAPES else None
        if shape is not None and shapes.setdefault(shape.frame_index, shape) != shape:
            message = "the frame has two shapes; the first is kept"
            problems.add("frame_labelled_twice", file, message, f"{item}, frame {shape.frame_index}")
    if all(shape.is_outside for shape in shapes.values()):
        return None
    return Track(label, tuple(shapes[frame] for frame in sorted(shapes)))


def _shape(element: Element, track: str, file: str, meta: _Meta, problems: Problems) -> TrackShape | None:
    item = f"{track}, frame {element.get('frame', '?')[:20]}"
    frame = _frame_of(element)
    if frame is None:
        problems.add("malformed_box", file, "lacks a frame number from 0 on; dropped", item)
        return None
    noted = Problems()
    box = read_shape(element, "", item, file, meta.size_wh, noted)
    # That only its box is taken is told of the track, not of each of its frames.
    problems.found += [problem for problem in noted.found if problem.code != "shape_as_box"]
    if box is None:
        return None
    checked, code, message = checked_xyxy(box.xyxy, meta.size_wh, rounding_px=ROUNDING_PX)
    is_outside = element.get("outside") == "1"
    # Of a box that is not seen, only that it ends the visibility counts; where it then is does not.
    if code and not (is_outside and code != "box_not_a_number"):
        problems.add(code, file, message, item)
    if code == "box_not_a_number":
        return None
    if is_outside or (checked is None and code == "box_outside_image"):
        return TrackShape(frame, box.xyxy, is_outside=True)
    return TrackShape(frame, checked) if checked else None


def _frame_of(element: Element) -> int | None:
    number = number_of(element.get("frame"))
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


FORMAT = SourceFormat(
    kind="clips_cvat",
    task="detection",
    expected="clips with a CVAT-for-video 1.1 XML file each",
    evidence=evidence,
    read=read,
)
