"""The stage validate_model."""

from .component import validate_model

__all__ = ["validate_model"]
