"""Objects followed through a clip: where they are in one of its frames."""

from bisect import bisect_right
from collections.abc import Iterable

from visionyard.data.items import Box, Track


def boxes_at(tracks: Iterable[Track], frame_index: int, width: int, height: int) -> tuple[Box, ...]:
    """Return the objects visible in one frame, in the order of their tracks.

    Between two shapes a box moves linearly. After the last one, and until one that is outside, it stays: where an
    object was when it left says nothing about its way there. Boxes are cut at the image's edge; what lies beyond it is
    not visible.

    Args:
        tracks: Of the frame's clip.
        frame_index: Place among the decoded frames, from 0.
        width: Of the image, pixels.
        height: Of the image, pixels.
    """
    boxes = []
    for track in tracks:
        xyxy = _track_box(track, frame_index)
        if xyxy is None:
            continue
        left, right = (min(max(value, 0.0), float(width)) for value in (xyxy[0], xyxy[2]))
        top, bottom = (min(max(value, 0.0), float(height)) for value in (xyxy[1], xyxy[3]))
        if right > left and bottom > top:
            boxes.append(Box(track.class_name, (left, top, right, bottom)))
    return tuple(boxes)


def _track_box(track: Track, frame_index: int) -> tuple[float, ...] | None:
    shapes = sorted(track.shapes, key=lambda shape: shape.frame_index)
    place = bisect_right(shapes, frame_index, key=lambda shape: shape.frame_index)
    before = shapes[place - 1] if place else None
    if before is None or before.is_outside:
        return None
    after = shapes[place] if place < len(shapes) else None
    if after is None or after.is_outside:
        return before.xyxy
    share = (frame_index - before.frame_index) / (after.frame_index - before.frame_index)
    return tuple(start + share * (end - start) for start, end in zip(before.xyxy, after.xyxy))
