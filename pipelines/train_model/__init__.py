"""The pipeline train_model."""

from .pipeline import train_model

__all__ = ["train_model"]
