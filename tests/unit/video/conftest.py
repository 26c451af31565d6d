"""Clips made on the spot, each frame showing its own number."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

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
    """Return a function that encodes numbered frames, or the given ones, at given times."""

    def make(
        name: str = "clip.mp4",
        *,
        count: int = 12,
        rate: Fraction | int = 10,
        ticks: Sequence[int] | None = None,
        tick_s: Fraction | None = None,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
        images: Sequence[np.ndarray] | None = None,
        container_format: str | None = None,
    ) -> Path:
        path = tmp_path / name
        images = [numbered_image(number) for number in range(count)] if images is None else images
        with av.open(str(path), "w", format=container_format) as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pix_fmt
            if tick_s is not None:
                stream.time_base = stream.codec_context.time_base = tick_s
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = number if ticks is None else ticks[number]
                frame.time_base = tick_s or 1 / Fraction(rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
