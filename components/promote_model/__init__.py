"""The stage promote_model."""

from .component import promote_model

__all__ = ["promote_model"]
