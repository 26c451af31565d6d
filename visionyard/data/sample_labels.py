"""Labels of the sample clips: boxes about the visible ink, thinned to keyframes, as CVAT-for-video 1.1 XML."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# A digit is labelled while this share of its ink can be seen: less of it could often be another digit.
LEAST_VISIBLE = 0.5
# From this share of covered ink on, it is marked as occluded.
OCCLUDED_FROM = 0.1
# Between keyframes the box may be off by this much; half a pixel cannot be seen.
TOLERANCE_PX = 0.5


@dataclass(frozen=True)
class Sight:
    """What one frame shows of a digit: `xyxy` of its ink within the picture, and whether another one covers some."""

    xyxy: tuple[float, float, float, float]
    is_occluded: bool


def sights(masks: Sequence[np.ndarray | None], ink_px: Sequence[float]) -> list[Sight | None]:
    """Return what can be seen of each digit of a frame.

    Args:
        masks: Its ink as (h, w) bool, None when it is not there; later ones lie on top.
        ink_px: How many pixels its ink would take if all of it were within the picture.

    Returns:
        A sight for each digit; None when less than `LEAST_VISIBLE` of it can be seen.
    """
    found: list[Sight | None] = [None] * len(masks)
    above: np.ndarray | None = None
    for index in reversed(range(len(masks))):
        mask = masks[index]
        if mask is None or not mask.any():
            continue
        inside = int(np.count_nonzero(mask))
        covered = 0 if above is None else int(np.count_nonzero(mask & above))
        if inside - covered >= LEAST_VISIBLE * ink_px[index]:
            found[index] = Sight(xyxy=_bounds(mask), is_occluded=covered >= OCCLUDED_FROM * inside)
        above = mask if above is None else mask | above
    return found


def keyframes(track: Sequence[Sight | None]) -> list[int]:
    """Return the frames that must be written down so that linear interpolation gives back the track.

    Args:
        track: What each frame of the clip shows of one digit.

    Returns:
        Frame indices, rising: where it appears or vanishes, where its occlusion changes, and in between as many as hold
        the boxes within `TOLERANCE_PX`. A frame where it has vanished is in it too: CVAT marks it as outside.
    """
    chosen: list[int] = []
    start = 0
    while start < len(track):
        end = start
        while end + 1 < len(track) and _is_same_run(track, start, end + 1):
            end += 1
        if track[start] is not None:
            chosen += _thin([sight.xyxy for sight in track[start : end + 1] if sight], start)
        elif chosen:
            chosen.append(start)
        start = end + 1
    return chosen


def write_cvat(
    path: Path,
    *,
    clip_name: str,
    classes: Sequence[str],
    size_hw: tuple[int, int],
    frame_count: int,
    tracks: Sequence[tuple[str, Sequence[Sight | None]]],
) -> int:
    """Write the tracks of a clip as CVAT-for-video 1.1 XML and return how many there are.

    Args:
        path: The XML file.
        clip_name: File name of the clip.
        classes: All labels of the task.
        size_hw: Height and width of the clip.
        frame_count: Frames of the clip.
        tracks: Class and sights of each; one that is never seen is left out.
    """
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    values = {"name": clip_name, "size": frame_count, "mode": "interpolation", "overlap": 0, "start_frame": 0}
    for name, value in {**values, "stop_frame": frame_count - 1}.items():
        ET.SubElement(task, name).text = str(value)
    labels = ET.SubElement(task, "labels")
    for class_name in classes:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = class_name
        ET.SubElement(label, "attributes")
    size = ET.SubElement(task, "original_size")
    ET.SubElement(size, "width").text = str(size_hw[1])
    ET.SubElement(size, "height").text = str(size_hw[0])
    ET.SubElement(task, "source").text = clip_name
    seen = [(class_name, track) for class_name, track in tracks if any(track)]
    for number, (class_name, track) in enumerate(seen):
        element = ET.SubElement(root, "track", id=str(number), label=class_name, source="manual")
        _add_boxes(element, track, z_order=number)
    ET.indent(root)
    path.write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
    return len(seen)


def _add_boxes(element: ET.Element, track: Sequence[Sight | None], *, z_order: int) -> None:
    last: Sight | None = None
    for frame in keyframes(track):
        sight = track[frame]
        shown = sight or last
        if shown is None:
            continue
        last = shown
        corners = {name: f"{value:.2f}" for name, value in zip(("xtl", "ytl", "xbr", "ybr"), shown.xyxy)}
        flags = {"outside": str(int(sight is None)), "occluded": str(int(shown.is_occluded)), "keyframe": "1"}
        ET.SubElement(element, "box", {"frame": str(frame), **flags, **corners, "z_order": str(z_order)})


def _bounds(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of the true pixels; right and bottom are the far edges of the last ones."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _is_same_run(track: Sequence[Sight | None], first: int, other: int) -> bool:
    one, two = track[first], track[other]
    if one is None or two is None:
        return one is two
    return one.is_occluded == two.is_occluded


def _thin(boxes: Sequence[tuple[float, float, float, float]], offset: int) -> list[int]:
    """Return keyframes of a run of boxes, each as far from the one before as the tolerance allows."""
    values = np.asarray(boxes)
    kept, start = [0], 0
    while start < len(values) - 1:
        end = start + 1
        while end + 1 < len(values) and _deviation_px(values[start : end + 2]) <= TOLERANCE_PX:
            end += 1
        kept.append(end)
        start = end
    return [offset + index for index in kept]


def _deviation_px(values: np.ndarray) -> float:
    share = np.linspace(0, 1, len(values))[:, None]
    return float(np.abs(values - ((1 - share) * values[0] + share * values[-1])).max())
