"""Which model plugins there are. Other packages add theirs by the entry point group `visionyard.models`."""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from visionyard.errors import ConfigError
from visionyard.models.plugin import ModelPlugin

ENTRY_POINT_GROUP = "visionyard.models"
_BUILT_IN = {
    "tabular-classification": "visionyard.models.tabular:TabularClassification",
    "torchvision-classification": "visionyard.models.torchvision_classification:TorchvisionClassification",
    "yolo-classification": "visionyard.models.yolo:YoloClassification",
    "yolo-detection": "visionyard.models.yolo:YoloDetection",
}


@cache
def _places() -> dict[str, str]:
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return dict(sorted({**found, **_BUILT_IN}.items()))


def plugin_names() -> list[str]:
    """Return the names of all plugins, sorted."""
    return list(_places())


@cache
def get_plugin(name: str) -> ModelPlugin:
    """Return a plugin by its name.

    Raises:
        ConfigError: There is no plugin of this name; lists those there are.
    """
    place = _places().get(name)
    if place is None:
        raise ConfigError(f"model.name = {name!r}: no such plugin; known: {', '.join(_places())}")
    module_name, _, class_name = place.partition(":")
    plugin: ModelPlugin = getattr(import_module(module_name), class_name)()
    return plugin
