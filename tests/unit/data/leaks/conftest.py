"""Pictures with something on them, and what is done to a copy."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image


def scene(seed: int) -> np.ndarray:
    """Return a picture of its own for each seed: soft clouds with things in front, (240, 320, 3) uint8."""
    rng = np.random.default_rng(seed)
    pixels = sum(
        cv2.resize(rng.normal(size=(cells, cells, 3)).astype(np.float32), (320, 240), interpolation=cv2.INTER_CUBIC)
        / cells
        for cells in (4, 8, 32)
    )
    pixels = np.clip(128 + 300 * pixels, 0, 255).astype(np.uint8)
    for _ in range(9):
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        x, y = map(int, rng.integers(0, (320, 240)))
        cv2.fillPoly(pixels, [np.int32(rng.normal(0, 30, (5, 2)) + np.array([x, y]))], colour)
        cv2.putText(pixels, str(rng.integers(100, 999)), (y, x), 0, 0.8, colour, 2)
    return pixels


def encode(pixels: np.ndarray, quality: int = 92) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def stamped(pixels: np.ndarray) -> np.ndarray:
    marked = pixels.copy()
    marked[10:40, 20:140] = 250
    cv2.putText(marked, "CAM 3 12:30", (22, 32), 0, 0.5, (0, 0, 0), 1)
    return marked


def moved(pixels: np.ndarray) -> np.ndarray:
    shift = np.array([[1, 0, 6], [0, 1, -4]], dtype=np.float64)
    next_frame = cv2.warpAffine(pixels, shift, (320, 240), borderMode=cv2.BORDER_REFLECT)
    next_frame[100:140, 60:100] = 90
    return next_frame


COPIES: dict[str, Callable[[np.ndarray], bytes]] = {
    "neighbouring frame": lambda pixels: encode(moved(pixels)),
    "compressed": lambda pixels: encode(pixels, 25),
    "crop": lambda pixels: encode(pixels[30:220, 40:300]),
    "crop scaled back": lambda pixels: encode(cv2.resize(pixels[20:200, 10:260], (320, 240))),
    "mirrored": lambda pixels: encode(pixels[:, ::-1]),
    "upside down": lambda pixels: encode(pixels[::-1]),
    "darker": lambda pixels: encode((pixels * 0.6).astype(np.uint8)),
    "brighter": lambda pixels: encode((255 * (pixels / 255) ** 0.6).astype(np.uint8)),
    "half the size": lambda pixels: encode(cv2.resize(pixels, (160, 120), interpolation=cv2.INTER_AREA)),
    "twice the size": lambda pixels: encode(cv2.resize(pixels, (640, 480))),
    "caption": lambda pixels: encode(stamped(pixels)),
}


@pytest.fixture
def make_scene() -> Callable[[int], np.ndarray]:
    """Return a function from a seed to a picture of its own."""
    return scene


@pytest.fixture
def encode_scene() -> Callable[..., bytes]:
    """Return a function from pixels to a JPEG file."""
    return encode


@pytest.fixture
def copies() -> dict[str, Callable[[np.ndarray], bytes]]:
    """Return functions from pixels to the file of an altered copy, by name."""
    return COPIES
