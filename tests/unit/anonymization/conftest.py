"""A detector of red squares, and pictures that have some."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.red_detector import write_detector


@pytest.fixture
def red_detector(tmp_path: Path) -> Path:
    """Return the path of `red.onnx`, with `red.spec.yaml` beside it."""
    return write_detector(tmp_path / "detector")


@pytest.fixture
def textured() -> Callable[..., np.ndarray]:
    """Return a function that makes a picture of fine grey texture with a red, textured square in it."""

    def make(seed: int = 0, *, left: int = 80, top: int = 40, side: int = 40, **_: Any) -> np.ndarray:
        random = np.random.default_rng(seed)
        image = random.integers(60, 180, (160, 320, 1)).repeat(3, axis=2).astype(np.uint8)
        square = np.zeros((side, side, 3), np.uint8)
        square[..., 0] = random.integers(200, 256, (side, side))
        square[::4, :, 0] = 255
        image[top : top + side, left : left + side] = square
        return image

    return make
