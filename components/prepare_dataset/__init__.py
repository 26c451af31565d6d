"""The stage prepare_dataset."""

from .component import prepare_dataset

__all__ = ["prepare_dataset"]
