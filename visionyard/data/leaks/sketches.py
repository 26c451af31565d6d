"""Sketches: what is kept of each image to find its near-duplicates, made in one reduced decoding.

| part | bytes | what it is for |
| --- | --- | --- |
| thumbnail | 4096 | grey, 64x64 px, stretched to the square: the second measure looks at its pixels |
| prints | 3 x 32 | a difference hash of 16x16 cells: finds whole pictures that look alike |
| descriptors, points | 3 x 64 x 34 | of 64 corners, and where they lie: find pictures cut out of one another |

Prints and descriptors are made of the picture, of its mirror image and of it upside down, so that flipped copies are
found. About 10.7 kB an image, in a scratch file that is mapped, not held, in memory.

Source: difference hash: N. Krawetz, Kind of Like That, hackerfactor.com, 2013. Corners, and the pairs of pixels that a
descriptor compares: E. Rublee et al., ORB: An Efficient Alternative to SIFT or SURF, ICCV 2011; here not turned with
the corner (as in M. Calonder et al., BRIEF, ECCV 2010), since copies are rarely turned and upright ones say more. That
corners find copies: Y. Ke, R. Sukthankar, L. Huston, Efficient Near-duplicate Detection, ACM Multimedia 2004.
"""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import cv2
import numpy as np

from visionyard import events
from visionyard.data.threads import in_threads
from visionyard.errors import MediaError
from visionyard.transforms.images import open_thumbnail

# An image is decoded with sides of at least this length: corners are sought on the longer side of it. At 96 px a copy
# cut to 70 % loses too many of them, 160 px found no more.
DECODED_PX = 128
THUMBNAIL_PX = 64
CORNER_COUNT = 64
# The picture as it is, its mirror image, and upside down (turned by 180 degrees it is both, and rare).
VARIANTS = ("", "mirrored", "upside_down")
_CELLS_A_SIDE = 6
# Grey levels between the 1st and 99th percentile below which a picture has no structure: a black frame.
_MIN_CONTRAST = 8
_PRINT_CELLS = 16
# Rows copied in one step: some forty megabytes.
_COPIED_ROWS = 4096


@dataclass(frozen=True)
class Sketches:
    """Sketches of N images; one that was not added is like no other.

    Attributes:
        thumbnails: (N, 64, 64) uint8.
        prints: (N, 3, 32) uint8, a row a variant.
        descriptors: (N, 3, 64, 32) uint8.
        points: (N, 3, 64, 2) uint8: x and y of each corner in 1/256 of the picture's sides.
        corner_counts: (N,) uint8, how many of the 64 rows are in use.
        has_structure: (N,) bool, False for a black or otherwise even picture, which is like no other.
    """

    thumbnails: np.ndarray
    prints: np.ndarray
    descriptors: np.ndarray
    points: np.ndarray
    corner_counts: np.ndarray
    has_structure: np.ndarray

    @classmethod
    def room_for(cls, count: int) -> Self:
        """Return room for so many, in scratch files.

        Raises:
            OSError: The disk that holds temporary files is full.
        """
        return cls(
            thumbnails=_scratch((count, THUMBNAIL_PX, THUMBNAIL_PX)),
            prints=_scratch((count, len(VARIANTS), 32)),
            descriptors=_scratch((count, len(VARIANTS), CORNER_COUNT, 32)),
            points=_scratch((count, len(VARIANTS), CORNER_COUNT, 2)),
            corner_counts=np.zeros(count, dtype=np.uint8),
            has_structure=np.zeros(count, dtype=bool),
        )

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.corner_counts)

    def add(self, position: int, grey: np.ndarray) -> None:
        """Sketch an image; several threads may, each another one.

        Args:
            position: Its place among all.
            grey: (H, W) uint8, the longer side at least `DECODED_PX`, unless the image is smaller.
        """
        low, high = np.percentile(grey, (1, 99))
        if high - low < _MIN_CONTRAST:
            return
        height, width = grey.shape
        scale = DECODED_PX / max(height, width)
        size_wh = (max(16, round(width * scale)), max(16, round(height * scale)))
        small = cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        # Exposure and contrast fall out here, for corners are found and compared by grey levels.
        even = np.clip((small.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        thumbnail = cv2.resize(even, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
        self.thumbnails[position] = thumbnail
        self.has_structure[position] = True
        for variant, picture in enumerate(flipped(thumbnail)):
            cells = cv2.resize(picture, (_PRINT_CELLS + 1, _PRINT_CELLS), interpolation=cv2.INTER_AREA)
            self.prints[position, variant] = np.packbits(cells[:, :-1] < cells[:, 1:])
        self.corner_counts[position] = _describe_corners(even, self.descriptors[position], self.points[position])

    def taken(self, positions: np.ndarray) -> Self:
        """Return the sketches of some images in another order; these themselves where it is all in theirs.

        Raises:
            OSError: The disk that holds temporary files is full.
        """
        if np.array_equal(positions, np.arange(self.count)):
            return self
        others = type(self).room_for(len(positions))
        for start in range(0, len(positions), _COPIED_ROWS):
            part = slice(start, start + _COPIED_ROWS)
            for field in fields(self):
                getattr(others, field.name)[part] = getattr(self, field.name)[positions[part]]
        return others


def make_sketches(readers: Sequence[Callable[[], bytes]], names: Sequence[str] = ()) -> Sketches:
    """Decode each image once, small, in as many threads as there are cores.

    Args:
        readers: One an image; returns its encoded bytes and may be called in another thread.
        names: Of the images, for errors; empty when there are none.

    Raises:
        MediaError: An image cannot be decoded; names it.
        OSError: The disk that holds temporary files is full.
    """
    count = len(readers)
    sketches = Sketches.room_for(count)

    def fill(position: int) -> None:
        try:
            sketches.add(position, np.asarray(open_thumbnail(readers[position](), DECODED_PX)))
        except MediaError as error:
            raise MediaError(f"{names[position]}: {error}" if names else str(error)) from None

    for done, _ in enumerate(in_threads(fill, range(count)), 1):
        events.progress(done, count, unit="image", label="sketching")
    return sketches


def _scratch(shape: tuple[int, ...]) -> np.ndarray:
    """Return zeros in a file without a name: mapped, gone with the process however it ends."""
    size_bytes = math.prod(shape)
    if not size_bytes:
        return np.zeros(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        # Without the reservation a full disk would kill the process by SIGBUS at some later write.
        os.posix_fallocate(file.fileno(), 0, size_bytes)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def flipped(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the variants of a (H, W) picture in the order of `VARIANTS`."""
    return picture, np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(picture[::-1])


def _describe_corners(picture: np.ndarray, descriptors: np.ndarray, points: np.ndarray) -> int:
    """Write descriptors and points of each variant, corners in the same order; return how many."""
    height, width = picture.shape
    # Made anew: one object must not be used by two threads. The patch reaches 15 px, and so does the border.
    orb = cv2.ORB.create(nfeatures=400, scaleFactor=1.2, nlevels=6, edgeThreshold=15, fastThreshold=4)
    corners = _spread_out(orb.detect(picture, None), width, height)
    if not corners:
        return 0
    for variant, image in enumerate(flipped(picture)):
        moved = [
            cv2.KeyPoint(
                width - 1 - corner.pt[0] if variant == 1 else corner.pt[0],
                height - 1 - corner.pt[1] if variant == 2 else corner.pt[1],
                corner.size,
                0.0,
                corner.response,
                corner.octave,
                number,
            )
            for number, corner in enumerate(corners)
        ]
        kept, described = orb.compute(image, moved)
        rows = [corner.class_id for corner in kept]
        descriptors[variant, rows] = described
        xy = np.array([corner.pt for corner in kept]) * (256 / np.array([width, height]))
        points[variant, rows] = np.clip(xy, 0, 255).round().astype(np.uint8)
    return len(corners)


def _spread_out(corners: Sequence[cv2.KeyPoint], width: int, height: int) -> list[cv2.KeyPoint]:
    """Return the strongest corners, taken in turn from the cells of a grid: a caption must not take them all."""
    if not corners:
        return []
    xy = np.array([corner.pt for corner in corners])
    strength = np.array([corner.response for corner in corners])
    column, row = (xy * _CELLS_A_SIDE // (width, height)).astype(int).T
    cell = row * _CELLS_A_SIDE + column
    order = np.lexsort((-strength, cell))
    starts = np.searchsorted(cell[order], cell[order])
    turn = np.empty(len(corners), dtype=int)
    turn[order] = np.arange(len(corners)) - starts
    return [corners[index] for index in np.lexsort((-strength, turn))[:CORNER_COUNT]]
