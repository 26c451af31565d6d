"""The stage deploy_model."""

from .component import deploy_model

__all__ = ["deploy_model"]
