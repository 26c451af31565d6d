"""The stage extract_frames."""

from .component import extract_frames

__all__ = ["extract_frames"]
