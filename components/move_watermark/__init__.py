"""The stage move_watermark."""

from .component import move_watermark

__all__ = ["move_watermark"]
