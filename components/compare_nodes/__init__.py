"""The stage compare_nodes."""

from .component import compare_nodes

__all__ = ["compare_nodes"]
