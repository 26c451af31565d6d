"""The stage benchmark_model."""

from .component import benchmark_model

__all__ = ["benchmark_model"]
