"""Clips made on the spot, each frame showing its own number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.clips import write_clip

CELL_PX = 16
BIT_COUNT = 8


def numbered_image(number: int) -> np.ndarray:
    """Return a (64, 96, 3) image with eight cells at its upper left: the bits of a number, the lowest first."""
    image = np.full((4 * CELL_PX, 6 * CELL_PX, 3), 90, np.uint8)
    for bit in range(BIT_COUNT):
        row, column = divmod(bit, 4)
        value = 235 if number >> bit & 1 else 20
        image[row * CELL_PX : (row + 1) * CELL_PX, column * CELL_PX : (column + 1) * CELL_PX] = value
    return image


def number_in(image: np.ndarray) -> int:
    """Return the number that an upright numbered image shows."""
    cells = [divmod(bit, 4) for bit in range(BIT_COUNT)]
    centres = [image[row * CELL_PX + 8, column * CELL_PX + 8].mean() > 128 for row, column in cells]
    return sum(int(is_set) << bit for bit, is_set in enumerate(centres))


@pytest.fixture
def read_number() -> Callable[[np.ndarray], int]:
    return number_in


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that encodes numbered frames, or the given ones; options as of `write_clip`."""

    def make(
        name: str = "clip.mp4", *, count: int = 12, images: Sequence[np.ndarray] | None = None, **options: Any
    ) -> Path:
        images = [numbered_image(number) for number in range(count)] if images is None else images
        return write_clip(tmp_path / name, images, **options)

    return make
