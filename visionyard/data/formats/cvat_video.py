"""CVAT for video 1.1: XML with tracks of boxes, for the clip that its `<source>` names, else the clip of its own name.

A track's boxes are kept as they stand, keyframes and others: between them a box moves linearly, which is how CVAT
itself fills in the rest. Frames count from 0 of the whole video. One clip's tracks are in memory at a time.

Source: CVAT documentation, XML annotation format, version 1.1, interpolation mode.
"""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from visionyard.data.formats.reading import Reading, SourceClip, SourceFormat, checked_xyxy, split_of_path
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.formats.xml_reading import number_of, root_tag, text_of, xml_events
from visionyard.data.items import Problems, Track, TrackShape
from visionyard.errors import DataError

_LOOKED_AT = 20
_OTHER_SHAPES = {"polygon", "polyline", "points", "mask", "skeleton", "ellipse", "cuboid"}
_XML_ERRORS = (ParseError, UnicodeDecodeError, ValueError, LookupError)


@dataclass(frozen=True)
class _Meta:
    """What the head of a file says.

    Attributes:
        source: File name of the clip; empty when it does not say.
        labels: Names it declares; empty when it declares none.
        size_wh: Of the clip; None when it does not say.
    """

    source: str
    labels: frozenset[str]
    size_wh: tuple[int, int] | None


def evidence(tree: SourceTree) -> str:
    """Return what shows such a source: XML files whose outermost element is `annotations`, and clips."""
    if not tree.clips():
        return ""
    files = tree.with_extension(".xml")
    found = next(
        (file.name for file in files[:_LOOKED_AT] if root_tag(tree.path(file.name), file.name) == "annotations"), ""
    )
    return f"{len(files)} XML files such as {found} with <annotations>, {len(tree.clips())} clips" if found else ""


def read(tree: SourceTree, problems: Problems) -> Reading:
    """Read clips with CVAT-for-video XML.

    Raises:
        DataError: A file is CVAT for images, or holds a project of several tasks.
    """
    by_clip: dict[str, tuple[str, _Meta]] = {}
    for file in tree.with_extension(".xml"):
        meta = _read_meta(tree, file.name, problems)
        clip = _clip_of(tree, file, meta) if meta else None
        if meta and clip is None:
            message = f"its clip {meta.source or file.path.stem!r} is not in the source; left out"
            problems.add("labels_without_clip", file.name, message)
        elif meta and clip is not None and clip in by_clip:
            problems.add("clip_labelled_twice", file.name, f"{clip} has its labels from {by_clip[clip][0]}; left out")
        elif meta and clip is not None:
            by_clip[clip] = (file.name, meta)
    return Reading(len(tree.clips()), clips=_items(tree, by_clip, problems))


def _items(tree: SourceTree, by_clip: dict[str, tuple[str, _Meta]], problems: Problems) -> Iterator[SourceClip]:
    for file in tree.clips():
        tracks = None
        if file.name in by_clip:
            name, meta = by_clip[file.name]
            tracks = _read_tracks(tree, name, meta, problems)
        else:
            problems.add("clip_without_labels", file.name, "no XML names it; kept as unlabelled")
        yield SourceClip(file, tracks=tracks, published_split=split_of_path(file.path))


def _clip_of(tree: SourceTree, file: SourceFile, meta: _Meta) -> str | None:
    """Return the clip a file is for: named by `<source>`, nearest first, else the one of the file's own name."""
    clips = [clip.path for clip in tree.clips()]
    wanted = PurePosixPath(meta.source.replace("\\", "/")).name
    named = [path for path in clips if path.name == wanted] or [path for path in clips if path.stem == file.path.stem]
    beside = [path for path in named if path.parent == file.path.parent]
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
                    raise DataError(
                        f"{name}: holds <image> elements, the format CVAT for images; export the task again as "
                        "'CVAT for video 1.1'"
                    )
                if element.tag == "track" or (event == "end" and element.tag == "meta"):
                    return _meta(element if element.tag == "meta" else Element("meta"), name)
    except _XML_ERRORS as error:
        problems.add("unreadable_labels", name, f"not well-formed XML ({error}); left out")
        return None
    return _Meta("", frozenset(), None)


def _meta(element: Element, name: str) -> _Meta:
    task_count = len(element.findall("project/tasks/task"))
    if task_count > 1:
        raise DataError(f"{name}: holds a project of {task_count} tasks; export each task by itself")
    sources = [text for node in element.iter("source") if (text := (node.text or "").strip())]
    labels = frozenset(text_of(node, "name") for node in element.iter("label"))
    size = next(element.iter("original_size"), Element("original_size"))
    width, height = number_of(size.findtext("width")), number_of(size.findtext("height"))
    size_wh = (int(width), int(height)) if width and height and min(width, height) >= 1 else None
    return _Meta(sources[0] if sources else "", labels - {""}, size_wh)


def _read_tracks(tree: SourceTree, name: str, meta: _Meta, problems: Problems) -> tuple[Track, ...] | None:
    tracks: list[Track] = []
    count = 0
    try:
        for event, element in xml_events(tree.path(name), name):
            if event == "end" and element.tag == "track":
                count += 1
                track = _track(element, f"track {element.get('id', count - 1)}", name, meta, problems)
                tracks += [track] if track else []
                element.clear()
    except _XML_ERRORS as error:
        problems.add("unreadable_labels", name, f"not well-formed XML ({error}); its clip counts as unlabelled")
        return None
    return None if count and not tracks else tuple(tracks)


def _track(element: Element, item: str, file: str, meta: _Meta, problems: Problems) -> Track | None:
    label = (element.get("label") or "").strip()
    if not label or (meta.labels and label not in meta.labels):
        message = f"label {label!r} is none of {sorted(meta.labels)[:10]}; dropped"
        problems.add("unknown_class", file, message, item)
        return None
    for tag in sorted(_OTHER_SHAPES & {child.tag for child in element}):
        problems.add("shape_not_supported", file, f"only boxes are read; its {tag} shapes are dropped", item)
    shapes: dict[int, TrackShape] = {}
    for box in element.iter("box"):
        shape = _shape(box, item, file, meta, problems)
        if shape is not None and shapes.setdefault(shape.frame_index, shape) != shape:
            message = "the frame has two boxes; the first is kept"
            problems.add("frame_labelled_twice", file, message, f"{item}, frame {shape.frame_index}")
    if all(shape.is_outside for shape in shapes.values()):
        return None
    return Track(label, tuple(shapes[frame] for frame in sorted(shapes)))


def _shape(box: Element, track: str, file: str, meta: _Meta, problems: Problems) -> TrackShape | None:
    item = f"{track}, frame {box.get('frame', '?')}"
    frame = _frame_of(box)
    corners = [number_of(box.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
    left, top, right, bottom = corners
    if left is None or top is None or right is None or bottom is None or frame is None:
        problems.add("malformed_box", file, "lacks a frame number or one of xtl, ytl, xbr, ybr; dropped", item)
        return None
    xyxy = (left, top, right, bottom)
    if rotation := number_of(box.get("rotation")):
        xyxy = _upright(xyxy, rotation)
        problems.add("rotated_box", file, f"turned by {rotation:g} degrees; the upright box around it is taken", item)
    checked, code, message = checked_xyxy(xyxy, meta.size_wh)
    is_outside = box.get("outside") == "1"
    # Of a box that is not seen, only that it ends the visibility counts; where it then is does not.
    if code and not (is_outside and code != "box_not_a_number"):
        problems.add(code, file, message, item)
    if code == "box_not_a_number":
        return None
    if is_outside or (checked is None and code == "box_outside_image"):
        return TrackShape(frame, xyxy, is_outside=True)
    return TrackShape(frame, checked) if checked else None


def _frame_of(box: Element) -> int | None:
    number = number_of(box.get("frame"))
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _upright(xyxy: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    """Return the box around a box that is turned about its centre."""
    left, top, right, bottom = xyxy
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    half_width = ((right - left) * cosine + (bottom - top) * sine) / 2
    half_height = ((right - left) * sine + (bottom - top) * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


FORMAT = SourceFormat(
    kind="clips_cvat",
    task="detection",
    expected="clips with a CVAT-for-video 1.1 XML file each",
    evidence=evidence,
    read=read,
)
