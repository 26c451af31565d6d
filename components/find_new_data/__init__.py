"""The stage find_new_data."""

from .component import find_new_data

__all__ = ["find_new_data"]
