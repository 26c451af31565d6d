"""The stage ingest_dataset."""

from .component import ingest_dataset

__all__ = ["ingest_dataset"]
