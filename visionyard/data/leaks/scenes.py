"""Scenes: where one shot of a clip ends and the next begins, seen from the frames that were kept.

Two neighbouring frames of a clip belong to different shots when their thumbnails, after the best small shift, hardly
correlate, and their difference hashes differ as those of two unrelated pictures do. Frames half a second apart change
far more than the film's own frames, so both must say so: motion and a turn of the camera keep one of them.

Source: comparing neighbouring frames: H. Zhang, A. Kankanhalli, S. Smoliar, Automatic Partitioning of Full-motion
Video, Multimedia Systems 1993; correlation and hashes of thumbnails in place of its histograms, which two shots of one
place share.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from visionyard.data.leaks.sketches import Sketches

# So 94 % of 2,000 pairs of unrelated pictures (benchmarks/leak_audit.py) are told apart, and 0.7 % of neighbours among
# the frames of the sample's clips, whose ground moves, at 5 Hz.
_MAX_CORRELATION = 0.55
_MIN_BITS = 90
_SHIFT_PX = 8


def scene_numbers(frames: Sequence[tuple[str, float | None]], sketches: Sketches) -> list[int | None]:
    """Return the number of each frame's scene in its clip, from 1.

    Args:
        frames: Of each image its clip and its time, None for a loose image.
        sketches: Of the images.

    Returns:
        One number a frame; None for loose images and for clips of a single scene.
    """
    by_clip: dict[str, list[tuple[float, int]]] = {}
    for position, (clip, timestamp_s) in enumerate(frames):
        if timestamp_s is not None:
            by_clip.setdefault(clip, []).append((timestamp_s, position))
    numbers: list[int | None] = [None] * len(frames)
    for members in by_clip.values():
        positions = [position for _, position in sorted(members)]
        number = 1
        found = [number]
        for before, after in pairwise(positions):
            number += _is_cut(sketches, before, after)
            found.append(number)
        if number > 1:
            for position, scene in zip(positions, found, strict=True):
                numbers[position] = scene
    return numbers


def _is_cut(sketches: Sketches, before: int, after: int) -> bool:
    if sketches.has_structure[before] != sketches.has_structure[after]:
        return True  # to or from black
    bits = np.bitwise_count(sketches.prints[before, 0] ^ sketches.prints[after, 0]).sum()
    if bits < _MIN_BITS:
        return False
    inner = np.asarray(sketches.thumbnails[before])[_SHIFT_PX:-_SHIFT_PX, _SHIFT_PX:-_SHIFT_PX]
    correlation = cv2.matchTemplate(np.asarray(sketches.thumbnails[after]), inner, cv2.TM_CCOEFF_NORMED)
    return float(correlation.max()) < _MAX_CORRELATION
