"""The pipeline benchmark_fleet."""

from .pipeline import benchmark_fleet

__all__ = ["benchmark_fleet"]
