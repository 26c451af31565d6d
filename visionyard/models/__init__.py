"""Architectures: the plugin interface, the registry, and the plugins that come with Visionyard."""

from visionyard.models.plugin import (
    Examples,
    ModelPlugin,
    PluginInfo,
    Preset,
    Recipe,
    TrainedModel,
    TrainingPlan,
    TrainingSession,
    TrainingState,
)
from visionyard.models.registry import get_plugin, plugin_names

__all__ = [
    "Examples",
    "ModelPlugin",
    "PluginInfo",
    "Preset",
    "Recipe",
    "TrainedModel",
    "TrainingPlan",
    "TrainingSession",
    "TrainingState",
    "get_plugin",
    "plugin_names",
]
