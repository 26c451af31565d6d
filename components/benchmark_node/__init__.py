"""The stage benchmark_node."""

from .component import benchmark_node

__all__ = ["benchmark_node"]
