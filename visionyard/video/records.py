"""What is asked of the decoder process and what it answers; imports no decoder."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ExtractionSettings:
    """How frames are taken; as in the run config's `frames`."""

    rate_hz: float
    max_per_clip: int = 0
    drop_blurred: bool = False
    drop_similar: bool = False
    jpeg_quality: int = 95


@dataclass(frozen=True)
class KeptFrame:
    """One kept frame; its JPEG lies in the scratch file, `size` bytes from `offset`.

    Attributes:
        frame_index: Place among the decoded frames, from 0.
        timestamp_s: From the clip's first frame, to the microsecond.
        width: Pixels, upright.
        height: Pixels, upright.
        offset: Where the JPEG begins.
        size: Bytes of the JPEG.
        sha256: Of the JPEG.
        hidden_count: Regions that were hidden in it.
    """

    frame_index: int
    timestamp_s: float
    width: int
    height: int
    offset: int
    size: int
    sha256: str
    hidden_count: int = 0


@dataclass(frozen=True)
class ClipExtraction:
    """What came of one clip.

    Attributes:
        frames: In presentation order.
        frame_count: Frames that the clip has.
        decoded_count: Frames that were decoded for it: all, or those that the kept ones needed.
        blurred_count: Frames left out as blurred.
        similar_count: Frames left out as similar to the one kept before.
        complaints: Code and message of each thing wrong that did not prevent the extraction.
    """

    frames: tuple[KeptFrame, ...]
    frame_count: int
    decoded_count: int
    blurred_count: int
    similar_count: int
    complaints: tuple[tuple[str, str], ...]

    @property
    def is_damaged(self) -> bool:
        """Whether packets or frames could not be decoded as they were meant."""
        return any(code == "clip_damaged" for code, _ in self.complaints)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ClipExtraction":
        """Return the extraction that `to_json` described."""
        return cls(
            **{
                **values,
                "frames": tuple(KeptFrame(**frame) for frame in values["frames"]),
                "complaints": tuple((code, message) for code, message in values["complaints"]),
            }
        )
