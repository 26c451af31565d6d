"""Changing pictures before they are written; what does it is made elsewhere (`visionyard.anonymization`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# From (H, W, 3) uint8 RGB to the same with regions hidden, and their number; with 0 it is the very same array.
Retouch = Callable[[np.ndarray], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Retouching:
    """What changes pictures, here and in decoder processes.

    Attributes:
        retouch: Changes one picture; may be called from several threads at once.
        decoder_command: Starts a decoder process that does the same; see `visionyard.video.pool`.
        values: What the result depends on, as plain values; no paths.
    """

    retouch: Retouch
    decoder_command: tuple[str, ...]
    values: Mapping[str, Any]

    def told(self, *, image_count: int, region_count: int) -> dict[str, Any]:
        """Return what a manifest says: the values, in how many images something was hidden, and how many regions."""
        return {**self.values, "image_count": image_count, "region_count": region_count}
