"""The pipeline retrain."""

from .pipeline import retrain

__all__ = ["retrain"]
