"""The stage predict_images."""

from .component import predict_images

__all__ = ["predict_images"]
