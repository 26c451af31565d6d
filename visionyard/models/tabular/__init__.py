"""The plugin of tables."""

from visionyard.models.tabular.plugin import TabularClassification

__all__ = ["TabularClassification"]
