"""Tables: rows of numbers, categories and booleans with a column to be learnt."""

from visionyard.data.tables.dataset import TableDataset
from visionyard.data.tables.ingest import TableIngestReport, ingest_table
from visionyard.data.tables.prepare import TableReport, prepare_table

__all__ = ["TableDataset", "TableIngestReport", "TableReport", "ingest_table", "prepare_table"]
